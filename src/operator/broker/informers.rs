//! What the watches have seen.
//!
//! Lists are paged, field ownership is dropped, and an object that this build cannot read is kept
//! as such: it neither wedges the watch nor is taken for absent.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

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

/// Whether the broker may answer; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    state: Arc<AtomicU8>,
}

const WATCHING: u8 = 0;
const READY: u8 = 1;

impl Readiness {
    /// The readiness check: everything was seen once, and the API server's keys are known.
    ///
    /// # Errors
    /// What is still awaited.
    pub fn check(&self) -> Result<(), String> {
        match self.state.load(Ordering::Acquire) {
            READY => Ok(()),
            _ => Err(
                "still reading HubStorages, users and pods, or the API server's keys".to_owned(),
            ),
        }
    }

    pub(super) fn set(&self, ready: bool) {
        self.state
            .store(if ready { READY } else { WATCHING }, Ordering::Release);
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
    /// Starts watching, until `stop`.
    pub fn start(
        client: &Client,
        guard: watch::Receiver<GuardState>,
        stop: &CancellationToken,
    ) -> Self {
        let changed = Arc::new(Notify::new());
        let everything = watcher::Config::default();
        let users_pods = watcher::Config::default().labels(USERNAME_LABEL);
        let tell = |changed: &Arc<Notify>| {
            let changed = changed.clone();
            move || changed.notify_one()
        };
        Self {
            hubs: start(client, everything.clone(), prune, tell(&changed), stop),
            providers: start(client, everything.clone(), prune, tell(&changed), stop),
            users: start(client, everything, prune, || (), stop),
            pods: start(client, users_pods, prune_pod, || (), stop),
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
    client: &Client,
    config: watcher::Config,
    prune: fn(&mut K),
    changed: impl Fn() + Send + 'static,
    stop: &CancellationToken,
) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (reader, writer) = reflector::store();
    let events = watcher(Api::all(client.clone()), config)
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
