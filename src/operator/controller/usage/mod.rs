//! How full users' homes are: every kubelet is asked once in a while, and what it tells of mounted claims is kept in
//! memory, for metrics and for the reconciler of homes.

mod kubelets;
mod metrics;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Args;
use futures::channel::mpsc;
use futures::{StreamExt as _, stream};
use hubstorage_core::api::{HubStorage, Mode};
use hubstorage_core::homes::{Measurements, NodeSummary};
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use tokio_util::sync::CancellationToken;

use super::queue::Ask;
use super::runner::Wake;
use super::{Context, Stores};

pub use kubelets::Kubelets;
pub use metrics::HomeMetrics;

/// Kubelets that are asked at once. An answer of one is up to some megabytes.
const AT_ONCE: usize = 4;

/// Rounds in which no node answers until that is told: one may be a network that has just moved.
const SILENT_ROUNDS: u8 = 3;

/// Options of `hubstorage controller` about kubelets.
#[derive(Args, Debug)]
pub struct Options {
    /// How often kubelets are asked how full users' homes are, in seconds. They look themselves once a minute.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(5..=3600), env = "HUBSTORAGE_USAGE_INTERVAL")]
    usage_interval: u16,

    /// Certificates, as PEM, of the authorities that sign kubelets' certificates. Default: the cluster's.
    #[arg(long, env = "HUBSTORAGE_KUBELET_CERTIFICATE_AUTHORITY")]
    kubelet_certificate_authority: Option<String>,

    /// Takes whatever certificate a kubelet shows. Whoever answers in its place may tell any home to be full, and gets
    /// a token for ten minutes that reads the statistics of nodes, and nothing else.
    #[arg(long, env = "HUBSTORAGE_KUBELET_INSECURE_TLS")]
    kubelet_insecure_tls: bool,
}

impl Options {
    /// The pause between two rounds.
    pub fn interval(&self) -> Duration {
        Duration::from_secs(self.usage_interval.into())
    }
}

/// What nodes have told, and whom to tell of it.
pub struct Usage {
    known: Mutex<Known>,
    news: mpsc::UnboundedSender<Wake<HubStorage>>,
}

#[derive(Default)]
struct Known {
    measurements: Measurements,
    /// Rounds in a row in which there were nodes, and none answered.
    silent: u8,
    /// Whether any node tells; why not, if none does.
    nodes: Nodes,
}

/// Whether nodes tell how full homes are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Nodes {
    /// This process has not asked, or not often enough.
    #[default]
    NotKnown,
    /// Some do.
    Tell,
    /// None does, for this reason.
    AreSilent(String),
}

/// Whose homes are to be looked at again.
pub type News = mpsc::UnboundedReceiver<Wake<HubStorage>>;

impl Usage {
    /// Nobody has told anything yet.
    pub fn new() -> (Arc<Self>, News) {
        let (news, receiver) = mpsc::unbounded();
        let usage = Self {
            known: Mutex::default(),
            news,
        };
        (Arc::new(usage), receiver)
    }

    /// How full a claim is, in percent, if a node has told of it lately.
    pub fn of(&self, namespace: &str, claim: &str) -> Option<i32> {
        self.locked().measurements.percent(namespace, claim)
    }

    /// Whether nodes tell.
    pub fn nodes(&self) -> Nodes {
        self.locked().nodes.clone()
    }

    /// Takes in what the nodes told in one round, each by name; none, where there was nobody to ask.
    pub fn take<E: ToString>(&self, answers: &[(String, Result<NodeSummary, E>)], stores: &Stores) {
        let mut news = BTreeSet::new();
        let mut known = self.locked();
        known.measurements.begin();
        for (node, summary) in answers {
            let Ok(summary) = summary else { continue };
            for (namespace, name, usage) in summary.claims() {
                let claim = ObjectRef::new(name).within(namespace);
                let claim = stores.claims.get(&claim);
                let home = claim.as_ref().and_then(|claim| claim.home());
                let Some(size) = home.and_then(|home| home.capacity.as_ref()) else {
                    continue;
                };
                let measurements = &mut known.measurements;
                if measurements.tell(node, namespace, name, size, usage) {
                    news.insert(namespace.to_owned());
                }
            }
        }
        let nodes = known.heard(answers);
        let is_other = std::mem::replace(&mut known.nodes, nodes.clone()) != nodes;
        drop(known);
        // Their reader ends with the process.
        for hub in stores.hubs.state_filter(|hub| {
            let namespace = hub.namespace().unwrap_or_default();
            hub.spec.home.is_some() && (is_other || news.contains(&namespace))
        }) {
            let wake = Wake::One(ObjectRef::from_obj(hub.as_ref()), Ask::Check);
            _ = self.news.unbounded_send(wake);
        }
    }

    fn locked(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Whether nodes tell, after these answers.
    fn heard<E: ToString>(&mut self, answers: &[(String, Result<NodeSummary, E>)]) -> Nodes {
        let mut failures = answers
            .iter()
            .filter_map(|(_, answer)| answer.as_ref().err());
        if answers.iter().any(|(_, answer)| answer.is_ok()) {
            self.silent = 0;
            return Nodes::Tell;
        }
        let Some(why) = failures.next() else {
            return self.nodes.clone();
        };
        self.silent = self.silent.saturating_add(1);
        match self.silent >= SILENT_ROUNDS {
            true => Nodes::AreSilent(why.to_string()),
            false => self.nodes.clone(),
        }
    }
}

/// Asks all kubelets, round after round, as long as somebody declares homes.
pub async fn run(
    kubelets: Kubelets,
    interval: Duration,
    context: Arc<Context>,
    stop: CancellationToken,
) {
    let rounds = async {
        loop {
            if has_homes(&context) {
                round(&kubelets, &context).await;
            }
            tokio::time::sleep(interval).await;
        }
    };
    tokio::select! {
        () = rounds => {}
        () = stop.cancelled() => {}
    }
}

fn has_homes(context: &Context) -> bool {
    let hubs = context.stores.hubs.state();
    hubs.iter()
        .any(|hub| hub.spec.home.is_some() && hub.spec.mode != Mode::Paused && context.counts(hub))
}

async fn round(kubelets: &Kubelets, context: &Context) {
    let nodes = match kubelets.nodes().await {
        Ok(nodes) => nodes,
        Err(error) => {
            tracing::warn!(%error, "the nodes are not known, and so not how full homes are");
            return;
        }
    };
    let answers = stream::iter(nodes)
        .map(async |node| {
            let summary = kubelets.summary(&node).await;
            context.metrics.kubelet(summary.is_ok());
            if let Err(error) = &summary {
                tracing::warn!(node = node.name, %error, "a node does not tell how full homes are");
            }
            (node.name, summary)
        })
        .buffer_unordered(AT_ONCE);
    let mut answers: Vec<_> = answers.collect().await;
    // What is told of several that fail stays the same.
    answers.sort_by(|(one, _), (other, _)| one.cmp(other));
    context.usage.take(&answers, &context.stores);
}
