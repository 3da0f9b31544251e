//! `e2e soak`: tests with generated cases, again and again, with other cases each time, for as long as
//! somebody wants. What they found out stands in `docs/soak.md`.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use hubstorage_e2e::checkout::Checkout;
use hubstorage_e2e::progress::Progress;
use hubstorage_e2e::tally::Tally;
use hubstorage_e2e::test_programs::{self, TestProgram};

use crate::page::{Part, today};

/// How long.
#[derive(Args, Debug, Clone, Copy)]
pub struct Options {
    /// Minutes; the round that is begun by then is ended
    #[arg(long, default_value = "60")]
    minutes: u64,
}

const PART: Part = Part {
    page: "docs/soak.md",
    begin: "<!-- begin: rounds -->",
    end: "<!-- end: rounds -->",
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
    let programs = test_programs::build(checkout).await?;
    let step = Progress::default().step("soak", "");
    let (began, wanted) = (Instant::now(), Duration::from_secs(60 * options.minutes));
    let mut outcomes = [Outcome::default(); SOAKED.len()];
    let mut rounds = 0;
    while began.elapsed() < wanted {
        rounds += 1;
        for (soaked, outcome) in SOAKED.iter().zip(&mut outcomes) {
            let minutes = began.elapsed().as_secs() / 60;
            step.now(&format!(
                "round {rounds}, minute {minutes} of {}: {}",
                options.minutes, soaked.what
            ));
            let started = Instant::now();
            outcome.tally = outcome.tally + soaked.run(&programs).await?;
            outcome.took += started.elapsed();
        }
    }
    step.done(&format!("{rounds} rounds"));
    let table = table(rounds, &outcomes)?;
    print!("{table}");
    PART.write(checkout, &table)?;
    match outcomes.iter().map(|outcome| outcome.tally.failed).sum() {
        0 => Ok(()),
        failed => bail!("{failed} tests failed"),
    }
}

impl Soaked {
    async fn run(&self, programs: &[TestProgram]) -> Result<Tally> {
        let (package, name) = self.program;
        let program = programs
            .iter()
            .find(|program| program.package == package && program.name == name)
            .with_context(|| format!("{package} has no test program {name}"))?;
        let mut command = program.command();
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
