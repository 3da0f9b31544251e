//! `e2e test`: every tier of tests, from fast to real, and one line of counts at the end.

use std::io::Write;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::checkout::Checkout;
use crate::extent::Extent;
use crate::running::{MinioUser, Platform};
use crate::static_checks;
use crate::tally::Tally;
use crate::test_programs::{self, TestProgram};
use crate::{down, prerequisites, up};

/// One tier: what it is called, what it runs, and whether it needs the platform.
struct Tier {
    name: &'static str,
    runs: Runs,
    needs_platform: bool,
}

enum Runs {
    /// Formatting, lints, licences, generated files.
    StaticChecks,
    /// The tests of these packages.
    TestsOf(&'static [&'static str]),
}

const TIERS: [Tier; 5] = [
    Tier {
        name: "static",
        runs: Runs::StaticChecks,
        needs_platform: false,
    },
    Tier {
        name: "pure",
        runs: Runs::TestsOf(&["hubstorage-core"]),
        needs_platform: false,
    },
    Tier {
        name: "faults",
        runs: Runs::TestsOf(&["hubstorage", "hubstorage-agent"]),
        needs_platform: false,
    },
    Tier {
        name: "contract",
        runs: Runs::TestsOf(&["hubstorage-cloud"]),
        needs_platform: true,
    },
    Tier {
        name: "control-plane",
        runs: Runs::TestsOf(&["hubstorage-e2e"]),
        needs_platform: true,
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
    prerequisites::check(checkout)?;
    let all_required = std::env::var("HUBSTORAGE_REQUIRE").is_ok_and(|value| value == "all");
    let was_up = up::anything_runs(checkout);

    println!("=== building");
    let programs = test_programs::build(checkout).await?;

    let mut outcomes = Vec::new();
    let mut platform_is_asked_for = false;
    for tier in TIERS
        .iter()
        .filter(|tier| only.is_empty() || only.iter().any(|name| name == tier.name))
    {
        println!("\n=== {}", tier.name);
        let began = Instant::now();
        if tier.needs_platform && !platform_is_asked_for {
            platform_is_asked_for = true;
            if let Err(error) = up::up(checkout, Extent::ControlPlane).await {
                // What did come up may do for the contract tier; the other one fails by itself.
                eprintln!("error: {error:#}");
                outcomes.push(Outcome {
                    tier: "platform",
                    tally: Tally::FAILED,
                    took: began.elapsed(),
                });
            }
        }
        let began = Instant::now();
        let tally = match tier.runs {
            Runs::StaticChecks => static_checks::run(checkout).await?,
            Runs::TestsOf(packages) => tests_of(&programs, packages).await?,
        };
        outcomes.push(Outcome {
            tier: tier.name,
            tally,
            took: began.elapsed(),
        });
    }
    if platform_is_asked_for && !was_up {
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

/// Runs the programs of these packages one after the other.
async fn tests_of(programs: &[TestProgram], packages: &[&str]) -> Result<Tally> {
    let mut tally = Tally::default();
    for package in packages {
        for program in programs
            .iter()
            .filter(|program| program.package == *package)
        {
            let mut command = program.command();
            if let Ok(platform) = Platform::load() {
                store_settings(&mut command, &platform)?;
            }
            tally = tally + count(command).await?;
        }
    }
    Ok(tally)
}

/// What the contract suite needs to know of the object store.
fn store_settings(command: &mut Command, platform: &Platform) -> Result<()> {
    command.env("HUBSTORAGE_MINIO_ENDPOINT", platform.minio_endpoint()?);
    for (role, user) in [("MANAGE", MinioUser::Manage), ("VEND", MinioUser::Vend)] {
        let key = platform.minio_key(user)?;
        command.env(format!("HUBSTORAGE_MINIO_{role}_KEY"), key.id);
        command.env(format!("HUBSTORAGE_MINIO_{role}_SECRET"), key.secret);
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
