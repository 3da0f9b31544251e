//! Keeps the authority and its publication as they should be.

use std::time::Duration;

use futures::{Stream, StreamExt as _};
use hubstorage_core::api::{AGENTS_NAMESPACE, SYSTEM_NAMESPACE};
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::AUTHORITY_NAME;
use super::publication::{WebhookState, ensure};
use crate::manifests::WEBHOOK_CONFIGURATION;

/// How often it is looked at when nothing changes: renewals are due within days.
const INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Between tries that fail, doubling.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Keeps Secret, ConfigMap and caBundle as they should be until `stop`; looks again whenever one
/// of them changes, and every hour. One process at a time: the leading controller.
pub fn maintain(client: Client, stop: CancellationToken) -> watch::Receiver<WebhookState> {
    // Nothing has been looked at yet, so nothing is known to be trusted.
    let (sender, receiver) = watch::channel(WebhookState::AuthorityMismatch);
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = tend(client, sender) => {}
        }
    });
    receiver
}

async fn tend(client: Client, state: watch::Sender<WebhookState>) {
    let secret = changes::<Secret>(
        Api::namespaced(client.clone(), SYSTEM_NAMESPACE),
        AUTHORITY_NAME,
    );
    let map = changes::<ConfigMap>(
        Api::namespaced(client.clone(), AGENTS_NAMESPACE),
        AUTHORITY_NAME,
    );
    let webhook =
        changes::<MutatingWebhookConfiguration>(Api::all(client.clone()), WEBHOOK_CONFIGURATION);
    let all = futures::stream::select(secret, futures::stream::select(map, webhook));
    let mut changes = std::pin::pin!(all);
    let mut pause = FIRST_PAUSE;
    loop {
        let next = match ensure(&client, Timestamp::now()).await {
            Ok(now) => {
                pause = FIRST_PAUSE;
                state.send_if_modified(|before| std::mem::replace(before, now) != now);
                INTERVAL
            }
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the certificate authority could not be seen to"
                );
                state.send_if_modified(|before| {
                    std::mem::replace(before, WebhookState::AuthorityMismatch)
                        != WebhookState::AuthorityMismatch
                });
                let now = pause;
                pause = (pause * 2).min(LONGEST_PAUSE);
                now
            }
        };
        tokio::select! {
            () = sleep_until(Instant::now() + next) => {}
            Some(()) = changes.next() => {}
        }
    }
}

/// An item for every change of the one object. Our own writes come back as such, and are
/// answered by a look that finds nothing to do.
fn changes<K>(api: Api<PartialObjectMeta<K>>, name: &'static str) -> impl Stream<Item = ()> + Send
where
    K: Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    // RBAC allows the watch for this field selector only.
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    watcher(api, only)
        .default_backoff()
        .filter_map(async |event| match event {
            Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_) | watcher::Event::InitDone) => {
                Some(())
            }
            Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => None,
            Err(error) => {
                tracing::warn!(%error, "a watch of the certificate authority was interrupted");
                None
            }
        })
}
