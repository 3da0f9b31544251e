//! What the watches have seen.
//!
//! Lists are paged, field ownership is dropped, and an object that this build cannot read is kept
//! as such: it neither wedges the watch nor is taken for absent.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use futures::{StreamExt, future};
use hubstorage_core::api::{
    HubStorage, HubUser, STAMP_ANNOTATION, StorageProvider, USERNAME_ANNOTATION, USERNAME_LABEL,
};
use k8s_openapi::api::core::v1::Pod;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::authorise::World;
use crate::guard::GuardState;
use crate::pulse::{Cadence, Pulse};

/// Whether the broker may answer; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    has_seen_all: Arc<AtomicBool>,
    pulses: Arc<OnceLock<[Pulse; 4]>>,
}

impl Readiness {
    /// The readiness check: everything was seen once and is still being watched, and the API
    /// server's keys are known.
    ///
    /// # Errors
    /// What is still awaited, or which watch fails.
    pub fn check(&self) -> Result<(), String> {
        if !self.has_seen_all.load(Ordering::Acquire) {
            return Err(
                "still reading HubStorages, users and pods, or the API server's keys".to_owned(),
            );
        }
        let mut pulses = self.pulses.get().into_iter().flatten();
        pulses.try_for_each(Pulse::check)
    }

    pub(super) fn set(&self, ready: bool) {
        self.has_seen_all.store(ready, Ordering::Release);
    }
}

/// Read-only views of the watches.
pub struct Informers {
    /// Hubs.
    pub hubs: Store<DeserializeGuard<HubStorage>>,
    /// Providers.
    pub providers: Store<DeserializeGuard<StorageProvider>>,
    /// Users.
    pub users: Store<DeserializeGuard<HubUser>>,
    /// Metadata of users' pods.
    pub pods: Store<PartialObjectMeta<Pod>>,
    /// Told when a hub or a provider changed.
    pub changed: Arc<Notify>,
    guard: watch::Receiver<GuardState>,
}

impl Informers {
    /// Starts watching, until `stop`, and tells `readiness` of the watches' signs of life.
    pub fn start(
        client: &Client,
        guard: watch::Receiver<GuardState>,
        cadence: &Cadence,
        readiness: &Readiness,
        stop: &CancellationToken,
    ) -> Self {
        let changed = Arc::new(Notify::new());
        let tell = || {
            let changed = changed.clone();
            move || changed.notify_one()
        };
        let everything = cadence.config();
        let users_pods = cadence.config().labels(USERNAME_LABEL);
        let pulses = ["HubStorages", "StorageProviders", "HubUsers", "users' pods"]
            .map(|of| Pulse::new(of, cadence));
        let [hubs, providers, users, pods] = pulses.each_ref().map(|pulse| pulse.listening(client));
        // Set once: there is one broker in a process.
        _ = readiness.pulses.set(pulses);
        Self {
            hubs: start(hubs, everything.clone(), prune, tell(), stop),
            providers: start(providers, everything.clone(), prune, tell(), stop),
            users: start(users, everything, prune, || (), stop),
            pods: start(pods, users_pods, prune_pod, || (), stop),
            changed,
            guard,
        }
    }

    /// Waits until everything was seen once. Never, if watching has stopped before.
    pub async fn synced(&self) {
        let all = future::try_join4(
            self.hubs.wait_until_ready(),
            self.providers.wait_until_ready(),
            self.users.wait_until_ready(),
            self.pods.wait_until_ready(),
        );
        if all.await.is_err() {
            future::pending().await
        }
    }
}

impl World for Informers {
    fn hubs(&self, namespace: &str) -> Vec<Arc<DeserializeGuard<HubStorage>>> {
        self.hubs
            .state_filter(|hub| hub.meta().namespace.as_deref() == Some(namespace))
    }

    fn provider(&self, name: &str) -> Option<Arc<DeserializeGuard<StorageProvider>>> {
        self.providers.get(&ObjectRef::new(name))
    }

    fn user(&self, namespace: &str, name: &str) -> Option<Arc<DeserializeGuard<HubUser>>> {
        self.users.get(&ObjectRef::new(name).within(namespace))
    }

    fn guard(&self) -> GuardState {
        self.guard.borrow().clone()
    }
}

fn start<K>(
    client: Client,
    config: watcher::Config,
    prune: fn(&mut K),
    changed: impl Fn() + Send + 'static,
    stop: &CancellationToken,
) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (reader, writer) = reflector::store();
    let events = watcher(Api::all(client), config)
        .default_backoff()
        .modify(prune)
        .reflect(writer)
        .take_until(stop.clone().cancelled_owned());
    tokio::spawn(async move {
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(_) => changed(),
                Err(error) => {
                    tracing::warn!(kind = %K::kind(&()), %error, "a watch failed, and is tried again")
                }
            }
        }
    });
    reader
}

fn prune<K: Resource>(object: &mut K) {
    object.managed_fields_mut().clear();
}

/// Of a pod's metadata, what decides.
fn prune_pod(pod: &mut PartialObjectMeta<Pod>) {
    prune(pod);
    pod.metadata.owner_references = None;
    pod.metadata.finalizers = None;
    pod.annotations_mut()
        .retain(|key, _| key == STAMP_ANNOTATION || key == USERNAME_ANNOTATION);
}
