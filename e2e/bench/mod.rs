//! `e2e bench`: what the operator costs and how quick it is. Measures, and asserts nothing: the budgets
//! stand beside what was measured, in `docs/performance.md`.
//!
//! Everything that is measured is real: the processes of the operator, an API server, a store, pods made
//! through the webhook by the account of their hub, tokens bound to them. Each part runs alone too, and
//! small, and writes its own table.

mod admission;
mod agent;
mod broker;
mod load;
mod many_hubs;
mod observe;
mod statistics;
mod table;
mod traffic;
mod users;

use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use hubstorage_e2e::checkout::Checkout;
use hubstorage_e2e::components::installation::AGENTS;
use hubstorage_e2e::progress::Progress;
use hubstorage_e2e::{Extent, Platform, up};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use tokio::signal::unix::{SignalKind, signal};

pub use admission::floor;
use load::Load;
use table::Table;

use crate::page::Part;

/// What is measured: everything, if no part is named.
#[derive(Args, Debug, Clone)]
pub struct Options {
    #[command(subcommand)]
    measure: Option<Measure>,
}

#[derive(Subcommand, Debug, Clone, Copy)]
enum Measure {
    /// The webhook: its handler, and creations of pods beside those with the least of all webhooks
    Admission(admission::Options),
    /// Vends from the cache, also while the store is down
    Broker(broker::Options),
    /// The agent's size, and what it adds to the broker's answers
    Agent(agent::Options),
    /// Memory and times of the controller with many hubs (takes half an hour)
    ManyHubs(many_hubs::Options),
}

/// All parts, in the order in which they are measured.
const ALL: [&str; 4] = ["admission", "broker", "agent", "many-hubs"];

/// Bounds a hang at each step; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// What parts stop, in the order in which it is started again.
const STOPPED: [&str; 4] = ["minio", "node", "controller", "agent"];

/// What every part uses.
struct Bench {
    platform: Platform,
    client: Client,
    progress: Progress,
}

/// Measures, prints, and writes the page.
pub async fn run(checkout: &Checkout, options: Options) -> Result<()> {
    up::up(checkout, Extent::ControlPlane).await?;
    let platform = Platform::load()?;
    let bench = Bench {
        client: platform.client().await?,
        platform,
        progress: Progress::default(),
    };
    let parts = match options.measure {
        Some(one) => vec![one],
        None => ALL.into_iter().map(Measure::usual).collect::<Result<_>>()?,
    };
    for part in parts {
        match part {
            Measure::Admission(options) => admission::run(&bench, options).await?,
            Measure::Broker(options) => broker::run(&bench, options).await?,
            Measure::Agent(options) => agent::run(&bench, options).await?,
            Measure::ManyHubs(options) => many_hubs::run(&bench, options).await?,
        }
    }
    Ok(())
}

impl Measure {
    /// A part as its options usually are.
    fn usual(name: &str) -> Result<Self> {
        #[derive(Parser)]
        struct Line {
            #[command(subcommand)]
            measure: Measure,
        }
        Ok(Line::try_parse_from(["bench", name])?.measure)
    }
}

impl Bench {
    /// Measures something with one hub, prints it, and writes its page.
    async fn one_hub<T>(
        &self,
        part: &Part,
        measure: impl AsyncFnOnce(&Load) -> Result<T>,
        table: impl FnOnce(String, &T) -> Table,
    ) -> Result<()> {
        let circumstances = self.circumstances().await?;
        let load = self.load(1)?;
        let measured = self.measured(&load, measure(&load)).await?;
        self.publish(part, &table(circumstances, &measured))
    }

    /// What will be put upon the operator: so many hubs.
    fn load(&self, hubs: usize) -> Result<Load> {
        Load::of(&self.platform, self.client.clone(), hubs, 0, 0)
    }

    /// What a measurement found; before it is taken away what a run has left that was killed, and
    /// after it whatever this one has made or stopped, also when it fails or is interrupted.
    async fn measured<T>(
        &self,
        load: &Load,
        measure: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.give_back(load).await?;
        let (mut interrupt, mut terminate) = (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        );
        let measured = tokio::select! {
            measured = measure => measured,
            _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted")),
            _ = terminate.recv() => Err(anyhow::anyhow!("terminated")),
        };
        let given_back = self.give_back(load).await;
        let measured = measured?;
        given_back?;
        Ok(measured)
    }

    async fn give_back(&self, load: &Load) -> Result<()> {
        for component in STOPPED {
            if self.platform.pid(component).is_err() {
                up::start(&self.platform.checkout, component).await?;
            }
        }
        floor::unregister(&self.client).await?;
        let step = self.progress.step("clean up", "deleting");
        load.delete(&step, PATIENCE).await?;
        step.done("nothing is left");
        Ok(())
    }

    async fn circumstances(&self) -> Result<String> {
        table::circumstances(&self.platform, &self.client).await
    }

    fn publish(&self, part: &Part, table: &Table) -> Result<()> {
        let table = table.markdown();
        println!("{table}");
        part.write(&self.platform.checkout, &table)
    }
}

/// Whom to trust as webhook and broker, as agents know it, in PEM.
async fn authorities(client: &Client) -> Result<Vec<u8>> {
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), AGENTS);
    let found = config_maps.get("hubstorage-ca").await?;
    match found.data.and_then(|mut data| data.remove("ca.crt")) {
        Some(authorities) => Ok(authorities.into_bytes()),
        None => bail!("ConfigMap {AGENTS}/hubstorage-ca has no ca.crt"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_runs_by_its_name_alone() {
        for name in ALL {
            Measure::usual(name).unwrap();
        }
        assert!(Measure::usual("everything").is_err());
    }
}
