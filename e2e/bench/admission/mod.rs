//! The webhook: what one review costs, and how many pods are created in a second with it, with the least
//! that a webhook can do, and with none.

pub mod floor;
mod handler;
mod rounds;

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use hubstorage_e2e::progress::Step;
use hubstorage_e2e::wait;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::PostParams;
use kube::core::PartialObjectMeta;
use serde_json::Value;

use super::Bench;
use super::load::{Load, NAME, of_hub, request_of_hub, user_pod};
use super::statistics::{milliseconds, rate, whole};
use super::table::Table;
use crate::page::Part;
use floor::Floor;
use handler::Handled;
use rounds::Rounds;

/// How much is asked.
#[derive(Args, Debug, Clone, Copy)]
pub struct Options {
    /// Reviews that are sent to the webhook directly
    #[arg(long, default_value = "50000")]
    reviews: usize,
    /// Rounds of pod creations: in each one with every kind of webhook, one after the other
    #[arg(long, default_value = "25")]
    rounds: usize,
    /// Pods in each of these
    #[arg(long, default_value = "300")]
    pods: usize,
    /// Creations at a time
    #[arg(long, default_value = "50")]
    at_once: usize,
}

const PART: Part = Part {
    page: "docs/performance.md",
    begin: "<!-- begin: admission -->",
    end: "<!-- end: admission -->",
};

/// Bounds a hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// The budgets.
const HANDLED_WITHIN: Duration = Duration::from_micros(300);
const RATE: f64 = 5000.0;
const OF_THE_FLOOR: f64 = 0.9;

/// Which webhook is called for pods of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Webhook {
    Ours,
    /// Answers the same patch as a constant.
    Floor,
    None,
}

const ALL: [Webhook; 3] = [Webhook::Ours, Webhook::Floor, Webhook::None];

impl Webhook {
    fn namespace(self) -> String {
        match self {
            Self::Ours => of_hub(0),
            Self::Floor => format!("{NAME}-floor"),
            Self::None => format!("{NAME}-none"),
        }
    }

    /// Creates a pod by the account of the hub that has ours, and says whether it came out as it
    /// does with this webhook.
    async fn create(self, client: &Client, pod: &Value, params: &PostParams) -> Result<bool> {
        let request = request_of_hub(&self.namespace(), &of_hub(0), pod, params)?;
        let created: PartialObjectMeta<Pod> = client.request(request).await?;
        let annotations = created.metadata.annotations.unwrap_or_default();
        let has = |name: &str| annotations.contains_key(&format!("hubstorage.io/{name}"));
        Ok(match self {
            Self::Ours | Self::Floor => has("injected"),
            // In a namespace without a hub, ours would do no more than this.
            Self::None => !has("created-by"),
        })
    }
}

/// Measures, prints, and writes the page.
pub async fn run(bench: &Bench, options: Options) -> Result<()> {
    let measure = async |load: &Load| measure(bench, load, options).await;
    let table = |circumstances, (handled, rounds): &_| {
        let mut table = Table::new(format!(
            "{circumstances} {} rounds of {} pods with each webhook, {} creations at a time.",
            options.rounds, options.pods, options.at_once
        ));
        of_handler(&mut table, handled);
        of_rounds(&mut table, rounds);
        table
    };
    bench.one_hub(&PART, measure, table).await
}

async fn measure(bench: &Bench, load: &Load, options: Options) -> Result<(Handled, Rounds)> {
    let Bench {
        platform,
        client,
        progress,
    } = bench;
    let step = progress.step("hub", "creating");
    load.create_vending_hub(&step).await?;
    let further = [Webhook::Floor, Webhook::None].map(Webhook::namespace);
    load.create_each_namespace(&step, further.into()).await?;
    step.done("Ready");
    // Neither makes a HubUser of every pod nor looks at them: no part of any creation.
    platform.stop("controller").await?;
    platform.stop("node").await?;
    floor::keep_ours_out(client, &further_namespaces()).await?;
    let step = progress.step("webhooks", "waiting for the API server to know them");
    in_force(&step, client, Webhook::None).await?;

    let handled = handler::measure(bench, options).await?;
    let floor = Floor::start(platform, client, handled.patch.clone()).await?;
    for webhook in ALL {
        in_force(&step, client, webhook).await?;
    }
    step.done("each of the three is called for its namespace alone");
    let rounds = rounds::measure(bench, options).await?;
    floor.stop(client).await?;
    Ok((handled, rounds))
}

fn further_namespaces() -> Vec<String> {
    [Webhook::Floor, Webhook::None]
        .map(Webhook::namespace)
        .into()
}

/// Waits until pods come out as they do with this webhook.
async fn in_force(step: &Step, client: &Client, webhook: Webhook) -> Result<()> {
    step.now(&format!(
        "waiting for the API server to know of {webhook:?}"
    ));
    let pod = user_pod("user-0");
    let trial = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    wait::until(
        "the API server to call webhooks as registered",
        PATIENCE,
        async || webhook.create(client, &pod, &trial).await,
    )
    .await
    .with_context(|| format!("pods of {}", webhook.namespace()))
}

fn of_handler(table: &mut Table, handled: &Handled) {
    let Handled {
        alone,
        own,
        saturated,
        used,
        adds,
        bytes,
        ..
    } = handled;
    table.row(
        "the review that is sent again and again",
        format!(
            "20 containers, {bytes} bytes; {} variables and a mount are added",
            adds
        ),
    );
    if let Some(own) = own {
        table.budget(
            "time of the handler, 99th percentile, within a bound of its histogram",
            "≤ 0.3 ms",
            format!("≤ {}", milliseconds(*own)),
            *own <= HANDLED_WITHIN,
        );
    }
    table.row(
        "time of a review one after the other, with TLS and its way there and back, median and 99th percentile",
        alone.percentiles(),
    );
    let reviews = saturated.latencies.len();
    let on_one_core = rate(reviews, *used);
    table.budget(
        "reviews in a second of the process's processor time",
        format!("≥ {}", whole(RATE)),
        whole(on_one_core),
        on_one_core >= RATE,
    );
    table.row(
        "reviews in a second, as fast as it answers",
        whole(rate(reviews, saturated.took)),
    );
    table.row("reviews that failed", saturated.failures());
}

fn of_rounds(table: &mut Table, rounds: &Rounds) {
    for webhook in ALL {
        let name = match webhook {
            Webhook::Ours => "HubStorage's webhook",
            Webhook::Floor => "a webhook that answers the same patch as a constant (the floor)",
            Webhook::None => "no webhook",
        };
        table.row(
            format!("pods created in a second with {name}, median of the rounds"),
            format!("{:.0}", rounds.rates(webhook)),
        );
        table.row(
            "… time of a creation, median and 99th percentile",
            rounds.of(webhook).percentiles(),
        );
    }
    let of_floor = rounds.ratio(Webhook::Ours, Webhook::Floor);
    table.budget(
        "rate with HubStorage's ÷ rate with the floor, median of the rounds' ratios",
        format!("≥ {OF_THE_FLOOR}"),
        of_floor.to_string(),
        of_floor.value >= OF_THE_FLOOR,
    );
    for (webhook, name) in [
        (Webhook::Ours, "HubStorage's"),
        (Webhook::Floor, "the floor"),
    ] {
        table.row(
            format!("rate with {name} ÷ rate without a webhook"),
            rounds.ratio(webhook, Webhook::None).to_string(),
        );
    }
    table.row(
        "creations that failed, or came out otherwise than with their webhook",
        rounds.wrong().to_string(),
    );
}
