//! `e2e test`: every tier of tests, from fast to real, and one line of counts at the end.

use std::io::Write;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::checkout::Checkout;
use crate::components::{moto, rgw};
use crate::extent::{self, Extent};
use crate::running::{AccessKey, MinioUser, Platform};
use crate::static_checks;
use crate::tally::Tally;
use crate::test_programs::{self, TestProgram};
use crate::{down, prerequisites, up};

/// One tier: what it is called, what it runs, how much of the platform it needs, and whether it
/// needs the further stores.
struct Tier {
    name: &'static str,
    runs: Runs,
    platform: Option<Extent>,
    further_stores: bool,
}

enum Runs {
    /// Formatting, lints, licences, generated files.
    StaticChecks,
    /// The tests of these packages.
    TestsOf(&'static [&'static str]),
    /// Those of this crate that need no node.
    TestsOnPaper,
    /// Those of this crate that do: programs whose names begin with `node`.
    TestsOnNode,
}

impl Runs {
    fn includes(&self, program: &TestProgram) -> bool {
        let is_ours = program.package == env!("CARGO_PKG_NAME");
        let needs_node = program.name.starts_with("node");
        match self {
            Self::StaticChecks => false,
            Self::TestsOf(packages) => packages.contains(&program.package.as_str()),
            Self::TestsOnPaper => is_ours && !needs_node,
            Self::TestsOnNode => is_ours && needs_node,
        }
    }
}

const TIERS: [Tier; 6] = [
    Tier {
        name: "static",
        runs: Runs::StaticChecks,
        platform: None,
        further_stores: false,
    },
    Tier {
        name: "pure",
        runs: Runs::TestsOf(&["hubstorage-core"]),
        platform: None,
        further_stores: false,
    },
    Tier {
        name: "faults",
        runs: Runs::TestsOf(&["hubstorage", "hubstorage-agent"]),
        platform: None,
        further_stores: false,
    },
    Tier {
        name: "contract",
        runs: Runs::TestsOf(&["hubstorage-cloud"]),
        platform: Some(Extent::ControlPlane),
        further_stores: true,
    },
    Tier {
        name: "control-plane",
        runs: Runs::TestsOnPaper,
        platform: Some(Extent::ControlPlane),
        further_stores: false,
    },
    Tier {
        name: "node",
        runs: Runs::TestsOnNode,
        platform: Some(Extent::Node),
        further_stores: false,
    },
];

struct Outcome {
    tier: &'static str,
    tally: Tally,
    took: Duration,
}

/// Runs the tiers called `only`, or all. The last line on standard output is the counts.
pub async fn run(checkout: &Checkout, only: &[String]) -> Result<ExitCode> {
    if let Some(unknown) = only
        .iter()
        .find(|name| TIERS.iter().all(|tier| tier.name != **name))
    {
        bail!(
            "no tier {unknown:?}; there are {}",
            TIERS.map(|tier| tier.name).join(", ")
        );
    }
    let is_chosen = |tier: &&Tier| only.is_empty() || only.iter().any(|name| name == tier.name);
    let tiers: Vec<&Tier> = TIERS.iter().filter(is_chosen).collect();
    if Extent::of(checkout) == Some(Extent::Existing)
        && tiers.iter().any(|tier| tier.platform.is_some())
    {
        bail!(
            "this checkout uses an existing cluster, and the tests take a platform of their own: run `make down` first"
        );
    }
    prerequisites::check(checkout)?;
    let all_required = std::env::var("HUBSTORAGE_REQUIRE").is_ok_and(|value| value == "all");
    let was_up = up::anything_runs(checkout);

    println!("=== building");
    let programs = test_programs::build(checkout).await?;

    let mut outcomes = Vec::new();
    let mut asked_for = None;
    for tier in tiers {
        println!("\n=== {}", tier.name);
        let programs = programs
            .iter()
            .filter(|program| tier.runs.includes(program));
        let programs: Vec<&TestProgram> = programs.collect();
        let mut began = Instant::now();
        let obstacle = (tier.platform == Some(Extent::Node))
            .then(extent::obstacle)
            .flatten();
        let tally = if let Some(obstacle) = obstacle {
            println!("skipped: {obstacle}");
            not_run(&programs).await?
        } else {
            // What did come up may do for some tests; the others fail by themselves.
            let mut failed_in = |error: anyhow::Error, took| {
                eprintln!("error: {error:#}");
                outcomes.push(Outcome {
                    tier: "platform",
                    tally: Tally::FAILED,
                    took,
                });
            };
            if let Some(extent) = tier.platform
                && asked_for.replace(extent) != Some(extent)
            {
                if let Err(error) = up::up(checkout, extent).await {
                    failed_in(error, began.elapsed());
                }
                began = Instant::now();
            }
            if tier.further_stores {
                if let Some(obstacle) = rgw::obstacle() {
                    println!("skipped on RGW: {obstacle}");
                }
                if let Err(error) = up::further_stores(checkout).await {
                    failed_in(error, began.elapsed());
                }
                began = Instant::now();
            }
            let tally = match tier.runs {
                Runs::StaticChecks => static_checks::run(checkout).await?,
                _ => passed(&programs).await?,
            };
            if tier.further_stores {
                down::further_stores(checkout).await?;
            }
            tally
        };
        outcomes.push(Outcome {
            tier: tier.name,
            tally,
            took: began.elapsed(),
        });
    }
    if asked_for.is_some() && !was_up {
        down::down(checkout).await?;
    }

    let total = show(&outcomes)?;
    let code = if total.is_good(all_required) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    };
    if code == ExitCode::FAILURE && total.failed == 0 {
        eprintln!("HUBSTORAGE_REQUIRE=all: a skipped test is a failure");
    }
    println!(
        "{} passed, {} failed, {} skipped",
        total.passed, total.failed, total.skipped
    );
    Ok(code)
}

fn show(outcomes: &[Outcome]) -> Result<Tally> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "\n{:<16}{:>8}{:>8}{:>8}{:>10}",
        "tier", "passed", "failed", "skipped", "seconds"
    )?;
    for Outcome { tier, tally, took } in outcomes {
        let Tally {
            passed,
            failed,
            skipped,
        } = tally;
        writeln!(
            out,
            "{tier:<16}{passed:>8}{failed:>8}{skipped:>8}{:>10.1}",
            took.as_secs_f32()
        )?;
    }
    writeln!(out)?;
    Ok(outcomes.iter().map(|outcome| outcome.tally).sum())
}

/// Runs the programs one after the other.
async fn passed(programs: &[&TestProgram]) -> Result<Tally> {
    let mut tally = Tally::default();
    for program in programs {
        let mut command = program.command();
        if let Ok(platform) = Platform::load() {
            store_settings(&mut command, &platform)?;
        }
        tally = tally + count(command).await?;
    }
    Ok(tally)
}

/// Counts the tests of programs that cannot run here.
async fn not_run(programs: &[&TestProgram]) -> Result<Tally> {
    let mut tally = Tally::default();
    for program in programs {
        let mut command = program.command();
        let listed = command.args(["--list", "--format=terse"]).output().await?;
        let listed = String::from_utf8_lossy(&listed.stdout);
        tally.skipped += listed
            .lines()
            .filter(|line| line.ends_with(": test"))
            .count();
    }
    Ok(tally)
}

/// What the contract suite needs to know of the stores that run.
fn store_settings(command: &mut Command, platform: &Platform) -> Result<()> {
    let mut keys = |store: &str, user: &str, key: AccessKey| {
        command.env(format!("HUBSTORAGE_{store}_{user}_KEY"), key.id);
        command.env(format!("HUBSTORAGE_{store}_{user}_SECRET"), key.secret);
    };
    keys("MINIO", "MANAGE", platform.minio_key(MinioUser::Manage)?);
    keys("MINIO", "VEND", platform.minio_key(MinioUser::Vend)?);
    keys("MINIO", "HAND", platform.minio_key(MinioUser::Hand)?);
    keys("MOTO", "MANAGE", moto::key("manage"));
    keys("MOTO", "VEND", moto::key("vend"));
    if platform.pid("rgw").is_ok()
        && let Ok(users) = rgw::Keys::load(&platform.checkout)
    {
        keys("RGW", "MANAGE", users.manage);
        keys("RGW", "VEND", users.vend);
        keys("RGW", "STRANGER", users.stranger);
        command.env("HUBSTORAGE_RGW_VEND_ROLE", rgw::role());
    }
    command.env("HUBSTORAGE_MOTO_VEND_ROLE", moto::ROLE);
    for (store, component) in [("MINIO", "minio"), ("RGW", "rgw"), ("MOTO", "moto")] {
        if platform.pid(component).is_ok() {
            let endpoint = format!("http://{}", platform.ports.address(component)?);
            command.env(format!("HUBSTORAGE_{store}_ENDPOINT"), endpoint);
        }
    }
    Ok(())
}

/// Runs tests, passes their output on as it comes, and counts.
async fn count(mut command: Command) -> Result<Tally> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("could not run a test program")?;
    let mut tally = Tally::default();
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::new(stdout).split(b'\n');
        while let Some(line) = lines.next_segment().await? {
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            tally = tally + Tally::of_line(&line).unwrap_or_default();
        }
    }
    Ok(tally.ended(child.wait().await?.success()))
}
