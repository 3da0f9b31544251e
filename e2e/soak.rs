//! `e2e soak`: tests with generated cases, again and again, with other cases each time, for as long as
//! somebody wants; and beside them every kind of client, through whole lifetimes of its sessions. What they
//! found out stands in `docs/soak.md`.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use hubstorage_e2e::checkout::Checkout;
use hubstorage_e2e::progress::Progress;
use hubstorage_e2e::tally::Tally;
use hubstorage_e2e::test_programs::{self, TestProgram};
use hubstorage_e2e::{Extent, up};

use crate::page::{Part, today};

/// How long.
#[derive(Args, Debug, Clone, Copy)]
pub struct Options {
    /// Minutes of generated cases; the round that is begun by then is ended
    #[arg(long, default_value = "60")]
    minutes: u64,
    /// Sessions of an hour that each client, at work beside them, outlives; 0 for none. They overlap: three
    /// take between two and three hours
    #[arg(long, default_value = "3")]
    lifetimes: u32,
}

const ROUNDS: Part = Part {
    page: "docs/soak.md",
    begin: "<!-- begin: rounds -->",
    end: "<!-- end: rounds -->",
};

const LIFETIMES: Part = Part {
    page: "docs/soak.md",
    begin: "<!-- begin: lifetimes -->",
    end: "<!-- end: lifetimes -->",
};

/// Some tests of one program.
struct Soaked {
    /// What they try.
    what: &'static str,
    /// The program's package and name.
    program: (&'static str, &'static str),
    /// What the names of the tests begin with.
    filter: &'static str,
}

const SOAKED: [Soaked; 4] = [
    Soaked {
        what: "walks through specs, with faults, restarts and stale watches, on two kinds of store",
        program: ("hubstorage", "controller"),
        filter: "walks::",
    },
    Soaked {
        what: "plans for buckets",
        program: ("hubstorage-core", "buckets"),
        filter: "plan_properties::",
    },
    Soaked {
        what: "prefixes of usernames",
        program: ("hubstorage-core", "prefix_properties"),
        filter: "",
    },
    Soaked {
        what: "injection into pods",
        program: ("hubstorage-core", "injection"),
        filter: "properties::",
    },
];

/// What came of one of them in all rounds.
#[derive(Debug, Clone, Copy, Default)]
struct Outcome {
    /// The tests of all rounds.
    tally: Tally,
    took: Duration,
}

/// Runs, writes the page, and prints what failed.
///
/// # Errors
/// If a test failed: its output is on standard error, with the smallest case that fails.
pub async fn run(checkout: &Checkout, options: Options) -> Result<()> {
    if options.lifetimes > 0 {
        up::up(checkout, Extent::ControlPlane).await?;
    }
    let programs = test_programs::build(checkout).await?;
    let (cases, clients) = tokio::join!(
        generated_cases(checkout, &programs, options.minutes),
        whole_lifetimes(checkout, &programs, options.lifetimes)
    );
    cases.and(clients)
}

async fn generated_cases(
    checkout: &Checkout,
    programs: &[TestProgram],
    minutes: u64,
) -> Result<()> {
    let step = Progress::default().step("soak", "");
    let (began, wanted) = (Instant::now(), Duration::from_secs(60 * minutes));
    let mut outcomes = [Outcome::default(); SOAKED.len()];
    let mut rounds = 0;
    while began.elapsed() < wanted {
        rounds += 1;
        for (soaked, outcome) in SOAKED.iter().zip(&mut outcomes) {
            let minute = began.elapsed().as_secs() / 60;
            step.now(&format!(
                "round {rounds}, minute {minute} of {minutes}: {}",
                soaked.what
            ));
            let started = Instant::now();
            outcome.tally = outcome.tally + soaked.run(programs).await?;
            outcome.took += started.elapsed();
        }
    }
    step.done(&format!("{rounds} rounds"));
    let table = table(rounds, &outcomes)?;
    print!("{table}");
    ROUNDS.write(checkout, &table)?;
    match outcomes.iter().map(|outcome| outcome.tally.failed).sum() {
        0 => Ok(()),
        failed => bail!("{failed} tests failed"),
    }
}

/// Every kind of client, at work for so many lifetimes of its sessions.
async fn whole_lifetimes(
    checkout: &Checkout,
    programs: &[TestProgram],
    lifetimes: u32,
) -> Result<()> {
    if lifetimes == 0 {
        return Ok(());
    }
    let step = Progress::default().step("lifetimes", "");
    step.now(&format!(
        "clients at work until each has outlived {lifetimes} sessions"
    ));
    let mut command = found(programs, env!("CARGO_PKG_NAME"), "lifetimes")?.command();
    command
        .arg("--nocapture")
        .env("HUBSTORAGE_SOAK_LIFETIMES", lifetimes.to_string())
        .kill_on_drop(true);
    let output = command.output().await?;
    let printed = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        eprintln!("{printed}{}", String::from_utf8_lossy(&output.stderr));
        bail!("clients did not work through {lifetimes} lifetimes of their sessions");
    }
    step.done("all worked on");
    let mut table = format!(
        "{}, until each had outlived {lifetimes} sessions of an hour.\n\n| client | wrote and read | asked for credentials | sessions |\n|---|---|---|---|\n",
        today()
    );
    for line in printed.lines().filter(|line| line.starts_with("| ")) {
        writeln!(table, "{line}")?;
    }
    print!("{table}");
    LIFETIMES.write(checkout, &table)
}

fn found<'p>(programs: &'p [TestProgram], package: &str, name: &str) -> Result<&'p TestProgram> {
    programs
        .iter()
        .find(|program| program.package == package && program.name == name)
        .with_context(|| format!("{package} has no test program {name}"))
}

impl Soaked {
    async fn run(&self, programs: &[TestProgram]) -> Result<Tally> {
        let (package, name) = self.program;
        let mut command = found(programs, package, name)?.command();
        command.arg(self.filter).env("HUBSTORAGE_SOAK", "1");
        let output = command.output().await?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let tally = printed.lines().filter_map(Tally::of_line).sum::<Tally>();
        let tally = tally.ended(output.status.success());
        if tally.failed > 0 {
            eprintln!("{printed}{}", String::from_utf8_lossy(&output.stderr));
        }
        if tally == Tally::default() {
            bail!("{package} has no test {} in {name}", self.filter);
        }
        Ok(tally)
    }
}

fn table(rounds: usize, outcomes: &[Outcome]) -> Result<String> {
    let cores = std::thread::available_parallelism()?;
    let mut table = format!(
        "{}, {rounds} rounds on {cores} cores, not optimised.\n\n| what | tests run | failed | minutes |\n|---|---|---|---|\n",
        today()
    );
    for (soaked, Outcome { tally, took }) in SOAKED.iter().zip(outcomes) {
        let (run, minutes) = (tally.passed + tally.failed, took.as_secs() / 60);
        writeln!(
            table,
            "| {} | {run} | {} | {minutes} |",
            soaked.what, tally.failed
        )?;
    }
    Ok(table)
}
