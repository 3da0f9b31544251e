//! Wires watches, reconcilers and leadership together, and runs them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use futures::future::BoxFuture;
use futures::{Stream, StreamExt as _, stream};
use hubstorage_core::api::{HubStorage, HubUser, REINSTALL, StorageProvider};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::runtime::Controller;
use kube::runtime::controller::{Action as Requeue, Config as Concurrency};
use kube::{Api, Client, ResourceExt};
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::leadership::Leadership;
use super::tenure::Tenure;
use super::watches::{Listed, Watches};
use super::{Backoff, Context, Events, Metrics, hub, parts, provider, users};
use crate::health::Health;
use crate::providers::Connections;
use crate::pulse::{Cadence, Pulses};
use crate::{certificates, clock, guard, replica};

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
}

/// Reconciles of one kind that run at once. A reconcile waits for a store most of its time; 8
/// keep 500 hubs with a check every ten minutes busy for less than a second of each.
const CONCURRENCY: u16 = 8;

/// Reconciles what `client` reaches, while this process leads, until `stop`.
///
/// # Errors
/// If the process cannot start, or if the lease is lost: then it must not go on.
pub async fn run(client: Client, options: Options, stop: CancellationToken) -> anyhow::Result<()> {
    let mut registry = Registry::default();
    let metrics = Metrics::default();
    metrics.register(&mut registry);
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
        kinds_are_installed(&client).await?;
        let installation = match options.installation_id {
            Some(id) => id,
            None => kube_system_uid(&client).await?,
        };
        let identity = options.identity.unwrap_or_else(replica::name);
        started.store(true, Ordering::Relaxed);
        lead(client, &identity, installation, metrics, pulses, stop).await
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
    installation: String,
    metrics: Metrics,
    pulses: Pulses,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let Some(leadership) = Leadership::acquire(client.clone(), identity, &stop).await? else {
        return Ok(());
    };
    metrics.leads(true);
    let work = reconcile_all(
        client.clone(),
        leadership.tenure(),
        installation,
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

async fn kinds_are_installed(client: &Client) -> anyhow::Result<()> {
    let one = ListParams::default().limit(1);
    let hint = format!(
        "the API server does not serve the kinds of hubstorage.io to this account; install them with {REINSTALL}"
    );
    Api::<StorageProvider>::all(client.clone())
        .list_metadata(&one)
        .await
        .context(hint.clone())?;
    Api::<HubStorage>::all(client.clone())
        .list_metadata(&one)
        .await
        .context(hint.clone())?;
    Api::<HubUser>::all(client.clone())
        .list_metadata(&one)
        .await
        .context(hint)?;
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
    installation: String,
    metrics: Metrics,
    pulses: &Pulses,
    stop: CancellationToken,
) {
    let client = tenure.client(&client);
    let cadence = Cadence::default();
    let Watches {
        stores,
        secrets,
        mut listed,
        providers,
        hubs,
        users,
        running: _watches,
    } = Watches::start(&client, &cadence, pulses);
    let guard = guard::watch(client.clone(), stop.clone());
    let webhook = certificates::maintain(client.clone(), stop.clone());
    let parts = parts::watch(&client, &cadence, pulses, listed.awaited(), stop.clone());
    let context = Arc::new(Context {
        connect: tenure.connections(Connections::new(client.clone(), secrets)),
        stores: stores.clone(),
        guard: guard.clone(),
        webhook: webhook.clone(),
        parts: parts.clone(),
        installation,
        events: Events::new(client.clone()),
        told: hub::Told::default(),
        metrics,
        clock: clock::system(),
        hub_backoff: Backoff::default(),
        provider_backoff: Backoff::default(),
        client,
    });

    let concurrency = Concurrency::default().concurrency(CONCURRENCY);
    let provider_runs = Controller::for_stream(stream::pending(), stores.providers)
        .with_config(concurrency.clone())
        .reconcile_on(providers)
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(
            once_listed(provider::reconcile, listed.clone()),
            on_error,
            context.clone(),
        )
        .for_each(async |result| log("StorageProvider", result.map(|(object, _)| object.name)));
    let hub_runs = Controller::for_stream(stream::pending(), stores.hubs.clone())
        .with_config(concurrency.clone())
        .reconcile_on(hubs)
        .reconcile_all_on(changes(guard))
        .reconcile_all_on(changes(webhook))
        .reconcile_all_on(changes(parts))
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(
            once_listed(hub::reconcile, listed.clone()),
            on_error,
            context.clone(),
        )
        .for_each(async |result| log("HubStorage", result.map(|(object, _)| object.name)));
    let user_runs = Controller::for_stream(stream::pending(), stores.hubs)
        .with_config(concurrency)
        .reconcile_on(users)
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(once_listed(users::reconcile, listed), on_error, context)
        .for_each(async |result| log("HubUser", result.map(|(object, _)| object.name)));

    tokio::join!(provider_runs, hub_runs, user_runs);
}

/// A reconciler that starts only when every watch has listed what there is, so that a restart
/// changes nothing.
fn once_listed<K, R, F, E>(
    reconcile: R,
    listed: Listed,
) -> impl FnMut(Arc<K>, Arc<Context>) -> BoxFuture<'static, Result<Requeue, E>>
where
    K: Send + Sync + 'static,
    R: Fn(Arc<K>, Arc<Context>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Requeue, E>> + Send,
{
    move |object, context| {
        let (reconcile, listed) = (reconcile.clone(), listed.clone());
        Box::pin(async move {
            listed.wait().await;
            reconcile(object, context).await
        })
    }
}

/// One item for every change of a watched value.
fn changes<T: Send + Sync + 'static>(
    receiver: watch::Receiver<T>,
) -> impl Stream<Item = ()> + Send {
    stream::unfold(receiver, async |mut receiver| {
        receiver.changed().await.ok().map(|()| ((), receiver))
    })
}

/// What nobody expected is tried again soon; failures that are expected end in a condition and
/// have pauses of their own.
fn on_error<K, E: std::fmt::Display>(object: Arc<K>, error: &E, _: Arc<Context>) -> Requeue
where
    K: ResourceExt,
{
    tracing::warn!(namespace = object.namespace(), name = object.name_any(), %error, "a reconcile failed");
    Requeue::requeue(super::backoff::jittered(Duration::from_secs(5)))
}

fn log<E: std::fmt::Display>(kind: &str, result: Result<String, E>) {
    match result {
        Ok(name) => tracing::debug!(kind, name, "reconciled"),
        // Objects that are gone from the store while queued, and failures logged above.
        Err(error) => tracing::debug!(kind, %error, "not reconciled"),
    }
}
