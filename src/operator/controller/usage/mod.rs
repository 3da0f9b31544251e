//! How full users' homes are: every kubelet is asked once in a while, and what it tells of mounted claims is kept in
//! memory, for metrics and for the reconciler of homes.

mod kubelets;
mod metrics;
mod silence;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Args;
use futures::channel::mpsc;
use futures::{StreamExt as _, stream};
use hubstorage_core::api::{HomeUsage, HubStorage, Mode};
use hubstorage_core::homes::{HomeClaim, Measurements, NodeSummary};
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use tokio_util::sync::CancellationToken;

use super::queue::Ask;
use super::runner::Wake;
use super::{Context, Stores};

pub use kubelets::Kubelets;
pub use metrics::HomeMetrics;
pub use silence::{Nodes, Trouble};

use silence::Silence;

/// Kubelets that are asked at once. An answer of one is up to some megabytes, and this process has little memory.
const AT_ONCE: usize = 2;

/// Options of `hubstorage controller` about kubelets.
#[derive(Args, Debug)]
#[group(id = "usage")]
pub struct Options {
    /// How often kubelets are asked how full users' homes are, in seconds. They look themselves every minute or two.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(5..=3600), env = "HUBSTORAGE_USAGE_INTERVAL")]
    usage_interval: u16,

    /// Certificates, as PEM, of the authorities that sign kubelets' certificates. Default: the cluster's.
    #[arg(
        long,
        env = "HUBSTORAGE_KUBELET_CERTIFICATE_AUTHORITY",
        conflicts_with = "kubelet_insecure_tls"
    )]
    kubelet_certificate_authority: Option<String>,

    /// Takes whatever certificate a kubelet shows. Whoever answers in its place may tell any home to be full, and gets
    /// a token for ten minutes that reads the statistics of nodes.
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
    silence: Silence,
    /// What was told of homes last, by namespace and claim.
    told: HashMap<String, HashMap<String, HomeUsage>>,
    /// Namespaces of which something is new in this round.
    news: BTreeSet<String>,
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

    /// How full a home is, in percent, if a node has told of it lately, and of its volume as large as it is now.
    pub fn of(&self, namespace: &str, claim: &HomeClaim) -> Option<i32> {
        self.locked().measurements.percent(namespace, claim)
    }

    /// What this process has told last of the homes in a namespace, by claim: also of users who have no HubUser.
    pub fn told(&self, namespace: &str) -> HashMap<String, HomeUsage> {
        let known = self.locked();
        known.told.get(namespace).cloned().unwrap_or_default()
    }

    /// This is told of the homes in a namespace now.
    pub fn tells<'u>(&self, namespace: &str, usage: impl Iterator<Item = &'u HomeUsage>) {
        let told = usage.map(|usage| (usage.claim.clone(), usage.clone()));
        let told: HashMap<String, HomeUsage> = told.collect();
        self.locked().told.insert(namespace.to_owned(), told);
    }

    /// Whether nodes tell.
    pub fn nodes(&self) -> Nodes {
        self.locked().silence.nodes()
    }

    /// A round begins: what is told in it is of claims as they are now.
    pub fn begin(&self, stores: &Stores) {
        let mut known = self.locked();
        let claims = stores.claims.state();
        let claims: HashMap<(&str, &str), &HomeClaim> = claims
            .iter()
            .filter_map(|claim| {
                let home = claim.home()?;
                Some(((claim.namespace(), &*home.name), home))
            })
            .collect();
        known
            .measurements
            .begin(|namespace, name| claims.get(&(namespace, name)).copied());
        known.silence.begin();
    }

    /// A node told this, or nothing for that reason. Claims count in `namespaces`.
    pub fn hear(
        &self,
        node: &str,
        answer: Result<&NodeSummary, Trouble>,
        namespaces: &BTreeSet<String>,
        stores: &Stores,
    ) {
        let mut known = self.locked();
        known.silence.hear(node, answer.err());
        for (pod, namespace, name, usage) in answer.iter().flat_map(|summary| summary.claims()) {
            if !namespaces.contains(namespace) {
                continue;
            }
            let claim = stores.claims.get(&ObjectRef::new(name).within(namespace));
            let Some(home) = claim.as_ref().and_then(|claim| claim.home()) else {
                continue;
            };
            let measurements = &mut known.measurements;
            if measurements.tell((node, pod), namespace, home, usage) {
                known.news.insert(namespace.to_owned());
            }
        }
    }

    /// The round is over: whoever has news is told.
    pub fn end(&self, stores: &Stores) {
        let mut known = self.locked();
        let is_other = known.silence.end();
        let news = std::mem::take(&mut known.news);
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

    /// Nobody asks any more: what was heard is out of date by the time that somebody does.
    pub fn forget(&self) {
        *self.locked() = Known::default();
    }

    fn locked(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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
            let namespaces = namespaces_with_homes(&context);
            match namespaces.is_empty() {
                true => context.usage.forget(),
                false => round(&kubelets, &namespaces, &context).await,
            }
            tokio::time::sleep(interval).await;
        }
    };
    tokio::select! {
        () = rounds => {}
        () = stop.cancelled() => {}
    }
}

fn namespaces_with_homes(context: &Context) -> BTreeSet<String> {
    let hubs = context.stores.hubs.state_filter(|hub| {
        hub.spec.home.is_some() && hub.spec.mode != Mode::Paused && context.counts(hub)
    });
    hubs.iter().filter_map(|hub| hub.namespace()).collect()
}

async fn round(kubelets: &Kubelets, namespaces: &BTreeSet<String>, context: &Context) {
    let (usage, stores) = (&context.usage, &context.stores);
    usage.begin(stores);
    match kubelets.begin().await {
        Ok((asking, nodes)) => {
            let asking = &asking;
            let answers = stream::iter(nodes).map(async |node| {
                let answer = asking.summary(&node).await;
                (node.name, answer)
            });
            let mut answers = std::pin::pin!(answers.buffer_unordered(AT_ONCE));
            while let Some((node, answer)) = answers.next().await {
                context.metrics.kubelet(answer.is_ok());
                usage.hear(
                    &node,
                    answer.as_ref().map_err(|trouble| *trouble),
                    namespaces,
                    stores,
                );
            }
        }
        Err(trouble) => usage.hear("", Err(trouble), namespaces, stores),
    }
    usage.end(stores);
}
