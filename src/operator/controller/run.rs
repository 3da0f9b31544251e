//! Wires watches, reconcilers and leadership together, and runs them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use hubstorage_core::api::{Enforcement, HubStorage};
use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::reflector::Store;
use kube::{Api, Client, ResourceExt as _};
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::bypasses::{self, Bypasses};
use super::leadership::Leadership;
use super::queue::Ask;
use super::runner::{Wake, Work};
use super::tenure::Tenure;
use super::usage::{self, HomeMetrics, Kubelets, Usage};
use super::watches::Watches;
use super::{
    Backoff, Context, Events, Limits, Metrics, Requeue, SeenClaim, homes, hub, kinds, parts,
    provider, start, users,
};
use crate::health::Health;
use crate::providers::Connections;
use crate::pulse::{Cadence, Pulses};
use crate::{certificates, clock, guard, limits, replica};

/// Options of `hubstorage controller`.
#[derive(Args, Debug)]
pub struct Options {
    /// Where /healthz, /readyz and /metrics answer.
    #[arg(long, default_value = "0.0.0.0:8080", env = "HUBSTORAGE_HEALTH_LISTEN")]
    health_listen: SocketAddr,

    /// The first part of every owner tag; tells this cluster's buckets from another's. Default:
    /// the UID of the namespace kube-system.
    #[arg(long, env = "HUBSTORAGE_INSTALLATION_ID")]
    installation_id: Option<String>,

    /// Name of this replica in the Lease. Default: the host's name and a random part.
    #[arg(long, env = "HUBSTORAGE_IDENTITY")]
    identity: Option<String>,

    /// Image of the pods that try whether users' pods get credentials from a cloud's metadata service:
    /// that of this program. Default: nobody tries.
    #[arg(long, env = "HUBSTORAGE_TRIAL_IMAGE")]
    trial_image: Option<String>,

    #[command(flatten)]
    usage: usage::Options,
}

/// What the options say of how the work is done.
struct Settings {
    installation: String,
    trial_image: Option<String>,
    kubelets: Kubelets,
    usage_interval: Duration,
    usage: Arc<Usage>,
    usage_news: usage::News,
}

/// Reconciles of one kind that run at once. A reconcile waits for a store most of its time; 8
/// keep 500 hubs with a check every ten minutes busy for less than a second of each.
const SLOTS: usize = 8;

/// Hubs whose bypasses are looked for at once: a few answers of the API server for each, and pages of whole
/// pods in memory meanwhile. Three is what a queue needs that keeps slots for changes and for checks.
const BYPASS_SLOTS: usize = 3;

/// How long the first look at the guard, the webhook and the parts is waited for. It takes one
/// answer of the API server.
const FIRST_LOOK_WITHIN: Duration = Duration::from_secs(10);

/// Reconciles what `client` reaches, while this process leads, until `stop`.
///
/// # Errors
/// If the process cannot start, or if the lease is lost: then it must not go on.
pub async fn run(client: Client, options: Options, stop: CancellationToken) -> anyhow::Result<()> {
    let mut registry = Registry::default();
    let metrics = Metrics::default();
    let (usage, usage_news) = Usage::new();
    metrics.register(HomeMetrics(usage.clone()), &mut registry);
    let started = Arc::new(AtomicBool::new(false));
    let ready = started.clone();
    let is_ready = move || match ready.load(Ordering::Relaxed) {
        true => Ok(()),
        false => Err("starting".to_owned()),
    };
    let pulses = Pulses::default();
    let watched = pulses.clone();
    let health = Health::new(registry)
        .check("started", Arc::new(is_ready))
        .check("watches", Arc::new(move || watched.check()));
    // Told to stop last of all: it tells that a process is still ending its work.
    let ended = CancellationToken::new();
    let _ended = ended.clone().drop_guard();
    let health = health.serve(options.health_listen, ended);

    let work = async {
        kinds::are_installed(&client).await?;
        let installation = match options.installation_id {
            Some(id) => id,
            None => kube_system_uid(&client).await?,
        };
        let identity = options.identity.unwrap_or_else(replica::name);
        started.store(true, Ordering::Relaxed);
        let settings = Settings {
            installation,
            trial_image: options.trial_image,
            kubelets: Kubelets::new(client.clone(), clock::system(), &options.usage)?,
            usage_interval: options.usage.interval(),
            usage,
            usage_news,
        };
        lead(client, &identity, settings, metrics, pulses, stop).await
    };
    tokio::select! {
        ended = work => ended,
        ended = health => ended,
    }
}

/// Waits for the lease, and reconciles while it is held.
async fn lead(
    client: Client,
    identity: &str,
    settings: Settings,
    metrics: Metrics,
    pulses: Pulses,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let Some(leadership) = Leadership::acquire(client.clone(), identity, &stop).await? else {
        return Ok(());
    };
    // They may have changed while others led.
    if let Err(misfit) = kinds::are_installed(&client).await {
        leadership.release().await;
        return Err(misfit);
    }
    metrics.leads(true);
    let work = reconcile_all(
        client.clone(),
        leadership.tenure(),
        settings,
        metrics.clone(),
        &pulses,
        stop.clone(),
    );
    tokio::select! {
        () = work => {}
        () = leadership.lost(&client, identity) => {
            // Whatever is in flight ends with the process: another one may lead by now.
            bail!("the lease was lost; exiting so that only one controller writes");
        }
    }
    metrics.leads(false);
    leadership.release().await;
    if !stop.is_cancelled() {
        bail!("the reconcilers ended by themselves");
    }
    Ok(())
}

async fn kube_system_uid(client: &Client) -> anyhow::Result<String> {
    let namespace = Api::<Namespace>::all(client.clone())
        .get("kube-system")
        .await
        .context(
            "the UID of namespace kube-system cannot be read; give --installation-id instead",
        )?;
    namespace.uid().context("namespace kube-system has no UID")
}

async fn reconcile_all(
    client: Client,
    tenure: &Tenure,
    settings: Settings,
    metrics: Metrics,
    pulses: &Pulses,
    stop: CancellationToken,
) {
    let client = tenure.client(&client);
    let cadence = Cadence::default();
    let mut watches = Watches::start(&client, &cadence, pulses);
    let [mut guard, homes, shared, shared_audit] = guard::watch(
        client.clone(),
        [
            guard::documents(),
            limits::homes::documents(),
            limits::shared::documents(Enforcement::Deny),
            limits::shared::documents(Enforcement::Audit),
        ],
        stop.clone(),
    );
    let mut limits = Limits {
        homes,
        shared,
        shared_audit,
    };
    let mut webhook = certificates::maintain(client.clone(), stop.clone());
    let mut parts = parts::watch(&client, &cadence, pulses, stop.clone());
    let clock = clock::system();
    let (bypasses, bypass_news) = Bypasses::new();
    let context = Arc::new(Context {
        connect: tenure.connections(Connections::new(client.clone(), watches.secrets.clone())),
        stores: watches.stores.clone(),
        guard: guard.clone(),
        limits: limits.clone(),
        webhook: webhook.clone(),
        parts: parts.clone(),
        installation: settings.installation,
        events: Events::new(client.clone(), clock.clone()),
        told: hub::Told::default(),
        bypasses,
        usage: settings.usage,
        refused_growths: homes::RefusedGrowths::default(),
        trial_image: settings.trial_image,
        metrics,
        clock,
        hub_backoff: Backoff::default(),
        provider_backoff: Backoff::default(),
        client,
    });
    let seen = async {
        tokio::join!(
            watches.listed(),
            first_look(&mut guard),
            first_look(&mut limits.homes),
            first_look(&mut limits.shared),
            first_look(&mut limits.shared_audit),
            first_look(&mut webhook),
            first_look(&mut parts),
        )
    };
    tokio::select! {
        _ = seen => {}
        () = stop.cancelled() => return,
    }

    let news = stream::select_all([
        changes(guard).boxed(),
        changes(limits.homes).boxed(),
        changes(limits.shared).boxed(),
        changes(limits.shared_audit).boxed(),
        changes(webhook).boxed(),
        changes(parts).boxed(),
        // What is said of shared folders waits for claims, which nothing else does.
        listed(watches.stores.claims.clone()).boxed(),
    ]);
    let Watches {
        stores,
        providers,
        hubs,
        users,
        homes,
        bypasses,
        running: _watches,
        ..
    } = watches;
    let interval = |hub: &HubStorage| {
        let provider = context.provider(&hub.spec.provider_ref.name)?;
        Some(provider::drift_check_interval(&provider))
    };
    let provider_runs = Work {
        kind: "StorageProvider",
        slots: SLOTS,
        start: start::at_once(&stores.providers.state()),
        objects: stores.providers,
        wakes: providers,
    };
    let hub_runs = Work {
        kind: "HubStorage",
        slots: SLOTS,
        start: start::spread_out(&stores.hubs.state(), interval),
        objects: stores.hubs.clone(),
        wakes: stream::select(
            stream::select(hubs, bypass_news),
            news.map(|()| Wake::All(Ask::News)),
        ),
    };
    let bypass_runs = Work {
        kind: "bypasses",
        slots: BYPASS_SLOTS,
        start: start::spread_out(&stores.hubs.state(), interval),
        objects: stores.hubs.clone(),
        wakes: bypasses,
    };
    let home_runs = Work {
        kind: "homes",
        slots: SLOTS,
        start: start::at_once(&stores.hubs.state()),
        objects: stores.hubs.clone(),
        wakes: stream::select(homes, settings.usage_news),
    };
    let user_runs = Work {
        kind: "HubUser",
        slots: SLOTS,
        start: start::at_once(&stores.hubs.state()),
        objects: stores.hubs,
        wakes: users,
    };
    let of_provider = |object, ask| match ask {
        Ask::Change | Ask::Check => provider::reconcile(object, context.clone()).left_future(),
        Ask::News => provider::retell(object, context.clone()).right_future(),
    };
    let of_hub = |object, ask| match ask {
        Ask::Change | Ask::Check => hub::reconcile(object, context.clone()).left_future(),
        Ask::News => hub::retell(object, context.clone()).right_future(),
    };
    let of_users = |object, _| users::reconcile(object, context.clone());
    let of_homes = |object, _| homes::reconcile(object, context.clone());
    let of_bypasses = |object, ask| match ask {
        Ask::Change | Ask::Check => {
            bypasses::reconcile(object, ask == Ask::Change, context.clone()).left_future()
        }
        // What stood in status at the start stands until this is due.
        Ask::News => std::future::ready(Ok(Requeue::as_before())).right_future(),
    };
    tokio::join!(
        provider_runs.run(of_provider, stop.clone()),
        hub_runs.run(of_hub, stop.clone()),
        user_runs.run(of_users, stop.clone()),
        home_runs.run(of_homes, stop.clone()),
        bypass_runs.run(of_bypasses, stop.clone()),
        usage::run(
            settings.kubelets,
            settings.usage_interval,
            context.clone(),
            stop.clone()
        ),
    );
}

/// Waits until something was looked at, so that what status tells of it is not taken back at every
/// start; not for ever, since storage is worth more than a condition.
async fn first_look<T>(state: &mut watch::Receiver<T>) {
    // Its end, or none in time: then what it starts with is what is known.
    _ = tokio::time::timeout(FIRST_LOOK_WITHIN, state.changed()).await;
}

/// One item, when the claims of all namespaces are in memory.
fn listed(claims: Store<SeenClaim>) -> impl Stream<Item = ()> + Send {
    let listed = async move { claims.wait_until_ready().await.ok() };
    stream::once(listed).filter_map(std::future::ready)
}

/// One item for every change of a watched value.
fn changes<T: Send + Sync + 'static>(
    receiver: watch::Receiver<T>,
) -> impl Stream<Item = ()> + Send {
    stream::unfold(receiver, async |mut receiver| {
        receiver.changed().await.ok().map(|()| ((), receiver))
    })
}
