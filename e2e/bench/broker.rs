//! The broker: how many vends it gives while it has the credentials, how long each takes, and what
//! becomes of them while bad tokens pour in, and while the store is down.
//!
//! One replica of `serve` is asked directly, as the agents of many nodes do: on connections that are
//! kept, with a real token of another running pod each time. So the API server is asked about every
//! token once in 10 s, as it would be if 500 users asked so often.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use hubstorage_e2e::Platform;
use hubstorage_e2e::progress::Progress;
use kube::Client;

use super::Bench;
use super::load::Load;
use super::observe::{Histogram, Memory, mebibytes, processor_time};
use super::statistics::{milliseconds, quantile, rate, thousands, whole};
use super::table::Table;
use super::traffic::{Caller, Endpoint, Outcome, Pace, send};
use super::users::{self, User};
use crate::page::Part;

/// How much is asked.
#[derive(Args, Debug, Clone, Copy)]
pub struct Options {
    /// Users with a running pod, and so tokens; two at least
    #[arg(long, default_value = "500")]
    tokens: usize,
    /// Connections
    #[arg(long, default_value = "16")]
    connections: usize,
    /// Requests of each token, as fast as they are answered
    #[arg(long, default_value = "80")]
    each: usize,
    /// Seconds at the steady rate of the budget
    #[arg(long, default_value = "20")]
    steady: u32,
    /// Seconds in which bad tokens pour in, while vends go on at a quarter of that rate
    #[arg(long, default_value = "30")]
    flood: u32,
    /// Bad tokens in a second
    #[arg(long, default_value = "5000")]
    bad: u32,
    /// Seconds without the store, at a quarter of that rate
    #[arg(long, default_value = "60")]
    outage: u32,
}

const PART: Part = Part {
    page: "docs/performance.md",
    begin: "<!-- begin: broker -->",
    end: "<!-- end: broker -->",
};

/// The replica that is asked.
const REPLICA: &str = "serve-1";

/// The budget: vends in a second, and the time of one.
const RATE: u32 = 2000;
const TIME: Duration = Duration::from_millis(5);

/// Addresses that bad tokens come from, with a connection each: so many that no limit stops any at the usual
/// rate (250 a second for an address, 2 for a pod in whose name it asks), and each token is examined.
const STRANGERS: u8 = 32;

/// What was measured.
struct Measured {
    saturated: Outcome,
    used: Duration,
    steady: Outcome,
    own: Option<Duration>,
    flood: Flood,
    outage: Outcome,
}

/// What became of vends while bad tokens poured in, and of those.
struct Flood {
    vends: Outcome,
    bad: Outcome,
    before: Memory,
    after: Memory,
}

/// Measures, prints, and writes the page.
pub async fn run(bench: &Bench, options: Options) -> Result<()> {
    let measure = async |load: &Load| measure(bench, load, options).await;
    let table = |circumstances, measured: &_| table(circumstances, options, measured);
    bench.one_hub(&PART, measure, table).await
}

async fn measure(bench: &Bench, load: &Load, options: Options) -> Result<Measured> {
    let Bench {
        platform,
        client,
        progress,
    } = bench;
    let users = users::start(platform, client, load, progress, options.tokens).await?;
    let broker = endpoint(platform, client, "serve-1-broker").await?;
    let step = progress.step("broker", "");
    users::warm_up(&step, &broker, &users).await?;
    step.done("has a credential of every user");
    // It lists all pods of the node again and again: work for the API server that no cluster has.
    platform.stop("node").await?;
    let mut asking = Asking {
        callers: (0..options.connections)
            .map(|_| broker.caller(None))
            .collect(),
        broker,
        users,
        progress,
    };

    let pid = platform.pid(REPLICA)?;
    let before = processor_time(pid)?;
    let total = options.tokens * options.each;
    let saturated = asking
        .send("as fast as it answers", Pace::AsAnswered, total)
        .await?;
    let used = processor_time(pid)?.saturating_sub(before);

    let histogram = "hubstorage_broker_answer_duration_seconds";
    let before = Histogram::of(platform, REPLICA, histogram).await?;
    let steady = asking
        .for_seconds("at a steady rate", RATE, options.steady)
        .await?;
    let own = Histogram::of(platform, REPLICA, histogram)
        .await?
        .bound(&before, 0.99);

    let before = Memory::of(pid)?;
    let (bad, vends) = asking.amid_bad_tokens(options).await?;
    let flood = Flood {
        vends,
        bad,
        before,
        after: Memory::of(pid)?,
    };

    platform.stop("minio").await?;
    let outage = asking
        .for_seconds("without the store", RATE / 4, options.outage)
        .await?;
    Ok(Measured {
        saturated,
        used,
        steady,
        own,
        flood,
        outage,
    })
}

/// The broker of one replica, or the forwarder before both.
pub async fn endpoint(platform: &Platform, client: &Client, port: &str) -> Result<Endpoint> {
    let authorities = super::authorities(client).await?;
    Endpoint::trusting(platform.ports.address(port)?, &authorities)
}

struct Asking<'p> {
    broker: Endpoint,
    users: Vec<User>,
    callers: Vec<Caller>,
    progress: &'p Progress,
}

impl Asking<'_> {
    async fn for_seconds(&mut self, how: &str, rate: u32, seconds: u32) -> Result<Outcome> {
        let total = usize::try_from(rate * seconds).context("too many requests")?;
        self.send(how, Pace::PerSecond(rate), total).await
    }

    /// Strangers' requests and the users', who are asked for beside them.
    async fn amid_bad_tokens(&mut self, options: Options) -> Result<(Outcome, Outcome)> {
        let (users, broker) = (self.users.clone(), self.broker.clone());
        let mut strangers: Vec<Caller> = (0..STRANGERS)
            .map(|number| Ipv4Addr::new(127, 2, 0, number + 1))
            .map(|address| broker.caller(Some(address.into())))
            .collect();
        let step = self.progress.step("strangers", "");
        let total = options.bad * options.flood;
        let total = usize::try_from(total).context("too many requests")?;
        let pace = Pace::PerSecond(options.bad);
        let bad = send(&step, &mut strangers, pace, total, move |turn| {
            users[turn.number % users.len()].is_forged_for(&broker)
        });
        let vends = self.for_seconds("amid bad tokens", RATE / 4, options.flood);
        let (bad, vends) = tokio::join!(bad, vends);
        let bad = bad?;
        step.done(&format!("{} sent", bad.sent()));
        Ok((bad, vends?))
    }

    /// Asks for one user after the other.
    async fn send(&mut self, how: &str, pace: Pace, total: usize) -> Result<Outcome> {
        let step = self.progress.step("broker", how);
        let (users, broker) = (self.users.clone(), self.broker.clone());
        let outcome = send(&step, &mut self.callers, pace, total, move |turn| {
            users[turn.number % users.len()].is_asked_for(&broker)
        })
        .await?;
        step.done(&format!(
            "{how}: {} sent, {} failed",
            outcome.sent(),
            outcome.failures()
        ));
        Ok(outcome)
    }
}

fn table(circumstances: String, options: Options, measured: &Measured) -> Table {
    let Measured {
        saturated,
        used,
        steady,
        own,
        flood,
        outage,
    } = measured;
    let mut table = Table::new(format!(
        "{circumstances} {} tokens, {} connections to one replica.",
        options.tokens, options.connections
    ));
    let vends = saturated.latencies.len();
    let on_one_core = rate(vends, *used);
    table.budget(
        "vends in a second of the process's processor time",
        format!("≥ {}", whole(RATE.into())),
        whole(on_one_core),
        on_one_core >= RATE.into(),
    );
    table.row(
        "vends in a second, as fast as it answers",
        whole(rate(vends, saturated.took)),
    );
    let p99 = quantile(&steady.latencies, 0.99);
    table.budget(
        format!(
            "time of a vend at {} in a second, 99th percentile",
            whole(RATE.into())
        ),
        format!("≤ {} ms", TIME.as_millis()),
        milliseconds(p99),
        p99 <= TIME,
    );
    table.row("… median", milliseconds(quantile(&steady.latencies, 0.5)));
    if let Some(own) = own {
        table.row(
            "… by its own clock, 99th percentile, within a bound of its histogram",
            format!("≤ {}", milliseconds(*own)),
        );
    }
    let mut all = Outcome::default();
    all.merge(saturated);
    all.merge(steady);
    table.row("refused or lost, of all these", all.failures());
    of_flood(&mut table, flood);
    table.budget(
        format!(
            "refused or lost of {} vends while the store was down for {} s",
            thousands(outage.sent()),
            options.outage
        ),
        "0",
        outage.failures(),
        outage.failed.is_empty(),
    );
    table.row(
        "… time of a vend, 99th percentile",
        milliseconds(quantile(&outage.latencies, 0.99)),
    );
    table
}

fn of_flood(table: &mut Table, flood: &Flood) {
    let Flood {
        vends,
        bad,
        before,
        after,
    } = flood;
    table.row(
        format!(
            "forged tokens in a second, from {STRANGERS} addresses for {} s",
            bad.took.as_secs()
        ),
        whole(rate(bad.sent(), bad.took)),
    );
    let served = bad.latencies.len();
    table.budget("… served", "0", thousands(served), served == 0);
    table.row("… refused or cut off", bad.failures());
    table.budget(
        format!(
            "… refused or lost of {} vends meanwhile",
            thousands(vends.sent())
        ),
        "0",
        vends.failures(),
        vends.failed.is_empty(),
    );
    table.row(
        "… time of a vend, median and 99th percentile",
        vends.percentiles(),
    );
    table.row(
        "… resident, before and after",
        format!(
            "{}, {}",
            mebibytes(before.resident),
            mebibytes(after.resident)
        ),
    );
}
