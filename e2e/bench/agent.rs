//! The agent: what it adds to the broker's answer, how many requests it forwards, and how big it is
//! with the pods of a full node.
//!
//! The clients of each pod ask from an address of its own, with the token of that pod, and make a new
//! connection for each request, as SDKs do. Agent and broker are asked for the same user one after the
//! other, through the same forwarder; who is asked first changes from pair to pair.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use hubstorage_e2e::components::operator;
use hubstorage_e2e::images::operator::libraries;
use hubstorage_e2e::up;

use super::Bench;
use super::broker::endpoint;
use super::load::Load;
use super::observe::{Memory, mebibytes, processor_time};
use super::statistics::{Median, milliseconds, quantile, rate, thousands, whole};
use super::table::Table;
use super::traffic::{Caller, Endpoint, Outcome, Pace, send};
use super::users::{self, User};
use crate::page::Part;

/// How much is asked.
#[derive(Args, Debug, Clone, Copy)]
pub struct Options {
    /// Pods, each of another user
    #[arg(long, default_value = "200")]
    pods: usize,
    /// Requests of each pod, as fast as they are answered
    #[arg(long, default_value = "150")]
    each: usize,
    /// Pairs of requests for each pod, to agent and broker
    #[arg(long, default_value = "5")]
    pairs: usize,
}

const PART: Part = Part {
    page: "docs/performance.md",
    begin: "<!-- begin: agent -->",
    end: "<!-- end: agent -->",
};

/// The budgets.
const RATE: f64 = 2000.0;
const ADDED: f64 = 1.0;
const RESIDENT_KIB: u64 = 12 * 1024;
const IMAGE_BYTES: u64 = 10_000_000;

/// What was measured.
struct Measured {
    /// Bytes of what is in its image.
    image: u64,
    at_rest: Memory,
    pairs: Pairs,
    loaded: Memory,
    saturated: Outcome,
    used: Duration,
    after: Memory,
}

/// Times of the same requests.
#[derive(Default)]
struct Pairs {
    agent: Vec<Duration>,
    broker: Vec<Duration>,
    /// In milliseconds, pair by pair: the agent's answer took so much longer.
    added: Vec<f64>,
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
    let users = users::start(platform, client, load, progress, options.pods).await?;
    let broker = endpoint(platform, client, "forwarder-broker").await?;
    let agent = Endpoint::plain(platform.ports.address("agent")?);
    // One that has seen nothing yet.
    platform.stop("agent").await?;
    up::start(&platform.checkout, "agent").await?;
    let pid = platform.pid("agent")?;
    let image = image(&operator::program(&platform.checkout, "hubstorage-agent")).await?;
    let at_rest = Memory::of(pid)?;

    let step = progress.step("agent", "");
    for replica in ["serve-1-broker", "serve-2-broker"] {
        let replica = endpoint(platform, client, replica).await?;
        users::warm_up(&step, &replica, &users).await?;
    }
    step.done("both replicas of the broker have a credential of every user");
    // It lists all pods of the node again and again: work for the API server that no cluster has.
    platform.stop("node").await?;

    let step = progress.step("pairs", "");
    let mut direct = broker.caller(None);
    let mut pairs = Pairs::default();
    for (number, user) in users.iter().enumerate() {
        step.now(&format!("{number} of {} users", users.len()));
        pairs
            .take(&agent, &broker, &mut direct, user, options.pairs)
            .await?;
    }
    step.done(&format!("{} taken", pairs.added.len()));

    let step = progress.step("agent", "as fast as it answers");
    let mut callers: Vec<Caller> = users
        .iter()
        .map(|user| agent.caller(Some(user.address)))
        .collect();
    // All pods are connected at once. Whoever is answered early takes the turn of another, so that each
    // has one only of several.
    let (asking, asked) = (users.clone(), agent.clone());
    let once = send(
        &step,
        &mut callers,
        Pace::AsAnswered,
        3 * users.len(),
        move |turn| asking[turn.place].asks(&asked),
    )
    .await?;
    anyhow::ensure!(
        once.failed.is_empty(),
        "with all pods at once: {}",
        once.failures()
    );
    let loaded = Memory::of(pid)?;
    let before = processor_time(pid)?;
    let (asking, asked) = (users.clone(), agent.clone());
    let total = options.pods * options.each;
    let saturated = send(&step, &mut callers, Pace::AsAnswered, total, move |turn| {
        asking[turn.place].asks(&asked)
    })
    .await?;
    let used = processor_time(pid)?.saturating_sub(before);
    step.done(&format!(
        "{} sent, {} failed",
        saturated.sent(),
        saturated.failures()
    ));
    Ok(Measured {
        image,
        at_rest,
        pairs,
        loaded,
        saturated,
        used,
        after: Memory::of(pid)?,
    })
}

/// Bytes of a program and of the libraries that it loads.
async fn image(program: &Path) -> Result<u64> {
    let mut bytes = std::fs::metadata(program)?.len();
    for library in libraries(program).await? {
        bytes += std::fs::metadata(library)?.len();
    }
    Ok(bytes)
}

impl Pairs {
    /// Asks both for one user, so often.
    async fn take(
        &mut self,
        agent: &Endpoint,
        broker: &Endpoint,
        direct: &mut Caller,
        user: &User,
        times: usize,
    ) -> Result<()> {
        let mut sdk = agent.caller(Some(user.address));
        // So that neither is the one for whom the API server is asked about the token.
        ask(&mut sdk, user.asks(agent)).await?;
        ask(direct, user.is_asked_for(broker)).await?;
        for time in 0..times {
            let (mut by_agent, mut by_broker) = (Duration::ZERO, Duration::ZERO);
            for turn in [time, time + 1] {
                if turn % 2 == 0 {
                    sdk.hang_up();
                    by_agent = ask(&mut sdk, user.asks(agent)).await?;
                } else {
                    by_broker = ask(direct, user.is_asked_for(broker)).await?;
                }
            }
            self.agent.push(by_agent);
            self.broker.push(by_broker);
            self.added
                .push(1000.0 * (by_agent.as_secs_f64() - by_broker.as_secs_f64()));
        }
        Ok(())
    }
}

/// How long an answer takes, from before the connection is made.
async fn ask(
    caller: &mut Caller,
    request: http::Request<http_body_util::Full<bytes::Bytes>>,
) -> Result<Duration> {
    let begin = Instant::now();
    let answer = caller.ask(request).await.context("one of a pair")?;
    let took = begin.elapsed();
    anyhow::ensure!(
        answer.status.is_success(),
        "one of a pair: {}",
        answer.told()
    );
    Ok(took)
}

fn table(circumstances: String, options: Options, measured: &Measured) -> Table {
    let Measured {
        image,
        at_rest,
        pairs,
        loaded,
        saturated,
        used,
        after,
    } = measured;
    let pods = options.pods;
    let mut table = Table::new(format!(
        "{circumstances} {pods} pods, each with an address, a user and a token of its own; {} pairs.",
        thousands(pairs.added.len())
    ));
    table.budget(
        format!("resident, {pods} pods having asked one by one, and then all at once"),
        "≤ 12 MiB",
        mebibytes(loaded.resident),
        loaded.resident <= RESIDENT_KIB,
    );
    table.row("… at its start", mebibytes(at_rest.resident));
    table.row(
        format!("… after {pods} connections had asked as fast as they could"),
        mebibytes(after.resident),
    );
    table.row("… peak of all this", mebibytes(after.peak));
    let added = Median::of(&pairs.added);
    table.budget(
        "added to the broker's answer, median of the pairs",
        "≤ 1 ms",
        format!("{added:.3} ms"),
        added.value <= ADDED,
    );
    for (who, times) in [("agent", &pairs.agent), ("broker", &pairs.broker)] {
        let mut sorted = times.clone();
        sorted.sort_unstable();
        table.row(
            format!("… the {who}'s answers, median and 99th percentile"),
            format!(
                "{}, {}",
                milliseconds(quantile(&sorted, 0.5)),
                milliseconds(quantile(&sorted, 0.99))
            ),
        );
    }
    let answered = saturated.latencies.len();
    let on_one_core = rate(answered, *used);
    table.budget(
        "requests in a second of its processor time (it has one thread)",
        "≥ 2,000",
        whole(on_one_core),
        on_one_core >= RATE,
    );
    table.row(
        "requests in a second, as fast as everything on this machine together answers",
        whole(rate(answered, saturated.took)),
    );
    table.row("refused or lost, of all these", saturated.failures());
    table.budget(
        "its image: the binary and the C library",
        "≤ 10 MB",
        format!("{}.{} MB", image / 1_000_000, image % 1_000_000 / 100_000),
        *image <= IMAGE_BYTES,
    );
    table
}
