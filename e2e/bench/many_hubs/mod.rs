//! What the controller costs and how quick it is with many hubs. Their users' pods are never scheduled.

mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use hubstorage_e2e::progress::Step;
use hubstorage_e2e::{up, wait};

use super::load::Load;
use super::observe::{self, Memory};
use super::{Bench, PATIENCE};
use report::Measured;

/// How much is made.
#[derive(Args, Debug, Clone, Copy)]
pub struct Options {
    /// HubStorages, each in a namespace of its own, with two buckets
    #[arg(long, default_value = "500")]
    hubs: usize,
    /// Users' pods, of all hubs together
    #[arg(long, default_value = "5000")]
    pods: usize,
}

/// How often all hubs, or all users, are counted: a list of them is work for the API server, which the
/// operator asks too.
const COUNTS_EVERY: Duration = Duration::from_secs(5);

/// Nothing was written for so long: everything has come to rest.
const REST: Duration = Duration::from_secs(20);

/// New hubs whose time to Ready is taken, at rest and again with all checks due.
const SAMPLES: usize = 5;

/// The operator's processes.
const PROCESSES: [&str; 3] = ["controller", "serve-1", "serve-2"];

/// Measures, prints, and writes the page.
pub async fn run(bench: &Bench, options: Options) -> Result<()> {
    let circumstances = bench.circumstances().await?;
    let Options { hubs, pods } = options;
    let load = Load::of(&bench.platform, bench.client.clone(), hubs, pods, SAMPLES)?;
    let measuring = ManyHubs { bench, load: &load };
    let measured = bench.measured(&load, measuring.measure(options)).await?;
    let table = report::table(circumstances, options, &measured);
    bench.publish(&report::PART, &table)
}

struct ManyHubs<'b> {
    bench: &'b Bench,
    load: &'b Load,
}

impl ManyHubs<'_> {
    async fn measure(&self, options: Options) -> Result<Measured> {
        // Of a process that saw everything come, one by one.
        self.restart().await?;
        let created = self.create(options).await?;
        let grown = self.memory()?;

        let before = self.writes().await?;
        let step = self.bench.progress.step("restart", "the controller");
        self.restart().await?;
        let looked = self.until_all_checked(&step, options.hubs).await?;
        step.done(&format!("all hubs checked after {looked:.0?}"));
        // Whatever it was going to write by then is written.
        self.until_rest().await?;
        let restart_writes = difference(&before, &self.writes().await?);
        let restarted = self.memory()?;

        let step = self.bench.progress.step("new hubs", "at rest");
        let mut ready = Vec::new();
        for sample in 0..SAMPLES {
            ready.push(self.load.ready_after(sample).await?);
        }
        let mut ready_when_due = Vec::new();
        let mut still_due = Vec::new();
        for sample in SAMPLES..2 * SAMPLES {
            step.now(&format!("with {} checks due", options.hubs));
            let before = observe::checks(&self.bench.platform).await?;
            self.load.make_all_due().await?;
            ready_when_due.push(self.load.ready_after(sample).await?);
            still_due.push(self.still_due(&before).await?);
            let none_due = async || Ok(self.still_due(&before).await? == 0);
            wait::until("every check that was due", PATIENCE, none_due).await?;
        }
        step.done("ready");
        Ok(Measured {
            created,
            grown,
            restart_writes,
            restarted,
            looked,
            ready,
            ready_when_due,
            still_due,
            after: self.memory()?,
        })
    }

    /// How many hubs were last checked when they had been `before`.
    async fn still_due(&self, before: &[(String, u64)]) -> Result<usize> {
        let now = observe::checks(&self.bench.platform).await?;
        Ok(before.iter().filter(|check| now.contains(check)).count())
    }

    /// Makes everything, and waits until all of it is as it should be.
    async fn create(&self, options: Options) -> Result<Duration> {
        let began = Instant::now();
        let step = self.bench.progress.step("namespaces", "creating");
        self.load.create_namespaces(&step).await?;
        step.done(&format!("{} created", options.hubs));
        let step = self.bench.progress.step("hubs", "creating");
        self.load.create_hubs(&step).await?;
        let all_ready = async || {
            let ready = self.load.ready().await?;
            step.now(&format!("{ready} of {} are ready", options.hubs));
            Ok(ready >= options.hubs)
        };
        wait::until_looking(COUNTS_EVERY, "every hub to be Ready", PATIENCE, all_ready).await?;
        let took = began.elapsed();
        step.done(&format!("{} are ready", options.hubs));
        let step = self.bench.progress.step("pods", "creating");
        self.load.create_pods(&step).await?;
        let all_known = async || {
            let users = self.load.users().await?;
            step.now(&format!("{users} of {} users are known", options.pods));
            Ok(users >= options.pods)
        };
        wait::until_looking(COUNTS_EVERY, "every user to be known", PATIENCE, all_known).await?;
        step.done(&format!("{} users are known", options.pods));
        self.until_rest().await?;
        Ok(took)
    }

    /// Ends the controller, and starts it again.
    async fn restart(&self) -> Result<()> {
        self.bench.platform.stop("controller").await?;
        up::start(&self.bench.platform.checkout, "controller").await
    }

    /// How long it took until every hub was compared with the store by the process that runs now.
    async fn until_all_checked(&self, step: &Step, hubs: usize) -> Result<Duration> {
        let began = Instant::now();
        let all = async || {
            let checked: BTreeSet<String> = observe::checks(&self.bench.platform)
                .await?
                .into_iter()
                .map(|(hub, _)| hub)
                .collect();
            step.now(&format!("{} of {hubs} hubs checked", checked.len()));
            Ok(checked.len() >= hubs)
        };
        wait::until("every hub to be checked", PATIENCE, all).await?;
        Ok(began.elapsed())
    }

    /// Waits until nothing is written any more.
    async fn until_rest(&self) -> Result<()> {
        let step = self
            .bench
            .progress
            .step("rest", "waiting until nothing is written");
        let began = Instant::now();
        let mut last = (self.writes().await?, Instant::now());
        while last.1.elapsed() < REST {
            if began.elapsed() > PATIENCE {
                bail!("something is written all the time: {:?}", last.0);
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
            let now = self.writes().await?;
            if now != last.0 {
                step.now(&format!("written lately: {:?}", difference(&last.0, &now)));
                last = (now, Instant::now());
            }
        }
        step.done("nothing is written");
        Ok(())
    }

    /// Writes so far to the API server and to the store, by what was written.
    async fn writes(&self) -> Result<BTreeMap<String, u64>> {
        let mut writes = observe::api_server_writes(&self.bench.client).await?;
        writes.extend(observe::store_writes(&self.bench.platform).await?);
        Ok(writes)
    }

    fn memory(&self) -> Result<Vec<(&'static str, Memory)>> {
        PROCESSES
            .into_iter()
            .map(|name| {
                let memory = Memory::of(self.bench.platform.pid(name)?).context(name)?;
                Ok((name, memory))
            })
            .collect()
    }
}

/// What is more now than it was, by how much.
fn difference(
    before: &BTreeMap<String, u64>,
    now: &BTreeMap<String, u64>,
) -> BTreeMap<String, u64> {
    now.iter()
        .map(|(what, count)| {
            let more = count.saturating_sub(before.get(what).copied().unwrap_or_default());
            (what.clone(), more)
        })
        .filter(|(_, more)| *more > 0)
        .collect()
}
