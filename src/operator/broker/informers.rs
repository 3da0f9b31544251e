//! What the watches have seen.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, future};
use hubstorage_core::api::{
    AccessMode, GROUPS_ANNOTATION, HubStorage, HubUser, STAMP_ANNOTATION, StorageProvider,
    USERNAME_ANNOTATION, USERNAME_LABEL, VENDING_NAMESPACE,
};
use hubstorage_core::names::Username;
use k8s_openapi::api::core::v1::Pod;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::authorise::World;
use super::pods::LivePod;
use crate::guard::GuardState;
use crate::informer::{Informer, prune_user_pod};
use crate::providers::SecretVersions;
use crate::pulse::{Cadence, Pulses};

/// Whether the broker may answer; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    has_seen_all: Arc<AtomicBool>,
    pulses: Pulses,
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
        self.pulses.check()
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
    suspended: Arc<Suspended>,
    /// Metadata of users' pods.
    pub pods: Store<PartialObjectMeta<Pod>>,
    /// The Secrets among which the vending keys are.
    pub secrets: SecretVersions,
    /// Told when a hub, a provider or a Secret changed.
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
        let pulses = &readiness.pulses;
        let pods = Informer::of(client, &(), cadence, pulses)
            .labelled(USERNAME_LABEL)
            .pruned(|pod| {
                prune_user_pod(
                    pod,
                    &[STAMP_ANNOTATION, USERNAME_ANNOTATION, GROUPS_ANNOTATION],
                )
            });
        let secrets = SecretVersions::informer(client, VENDING_NAMESPACE, cadence, pulses);
        let secrets = start(secrets, tell(), stop);
        let suspended = Arc::new(Suspended::default());
        let tell_of_users = {
            let suspended = suspended.clone();
            move || suspended.look_again()
        };
        Self {
            secrets: SecretVersions::new(VENDING_NAMESPACE, secrets),
            hubs: start(Informer::guarded(client, cadence, pulses), tell(), stop),
            providers: start(Informer::guarded(client, cadence, pulses), tell(), stop),
            users: start(
                Informer::guarded(client, cadence, pulses),
                tell_of_users,
                stop,
            ),
            suspended,
            pods: start(pods, || (), stop),
            changed,
            guard,
        }
    }

    /// Waits until everything was seen once. Never, if watching has stopped before.
    pub async fn synced(&self) {
        let all = future::try_join5(
            self.hubs.wait_until_ready(),
            self.providers.wait_until_ready(),
            self.users.wait_until_ready(),
            self.pods.wait_until_ready(),
            self.secrets.wait_until_ready(),
        );
        if all.await.is_err() {
            future::pending().await
        }
    }
}

/// Who is suspended: few among many, and asked for at each request, so they are looked for only after any
/// user has changed.
#[derive(Debug, Default)]
struct Suspended(Mutex<Option<Arc<[UserOfHub]>>>);

#[derive(Debug)]
struct UserOfHub {
    namespace: String,
    hub: String,
    username: String,
    object: String,
}

impl Suspended {
    fn look_again(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn among(&self, users: &Store<DeserializeGuard<HubUser>>) -> Arc<[UserOfHub]> {
        // Held while looking: what is found is never older than what others found meanwhile.
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let look = || {
            let users = users.state();
            let readable = users.iter().filter_map(|user| user.0.as_ref().ok());
            readable
                .filter(|user| user.spec.access == AccessMode::Suspended)
                .map(|user| UserOfHub {
                    namespace: user.namespace().unwrap_or_default(),
                    hub: user.spec.hub_ref.name.clone(),
                    username: user.spec.username.clone(),
                    object: user.name_any(),
                })
                .collect()
        };
        found.get_or_insert_with(look).clone()
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

    fn pods(&self, namespace: &str) -> Vec<LivePod> {
        self.pods
            .state_filter(|pod| pod.metadata.namespace.as_deref() == Some(namespace))
    }

    fn user(&self, namespace: &str, name: &str) -> Option<Arc<DeserializeGuard<HubUser>>> {
        self.users.get(&ObjectRef::new(name).within(namespace))
    }

    fn suspended(&self, namespace: &str, hub: &str, user: &Username) -> Option<String> {
        let suspended = self.suspended.among(&self.users);
        let found = suspended.iter().find(|found| {
            found.namespace == namespace && found.hub == hub && found.username == user.as_str()
        });
        found.map(|found| found.object.clone())
    }

    fn vending_secret(&self, name: &str) -> Option<String> {
        self.secrets.of(name)
    }

    fn guard(&self) -> GuardState {
        self.guard.borrow().clone()
    }
}

/// Starts one watch, until `stop`; its memory. Errors are the informer's to tell.
fn start<K>(
    informer: Informer<K>,
    changed: impl Fn() + Send + 'static,
    stop: &CancellationToken,
) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (memory, events) = informer.reflected();
    let events = events.take_until(stop.clone().cancelled_owned());
    tokio::spawn(events.for_each(move |event| {
        if event.is_ok() {
            changed();
        }
        future::ready(())
    }));
    memory
}

#[cfg(test)]
mod tests {
    use kube::runtime::reflector::store;
    use kube::runtime::watcher::Event;
    use serde_json::{Value, json};

    use super::*;

    /// A watch that has seen these.
    fn seen<K>(objects: &[Value]) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + 'static,
    {
        let (memory, mut writer) = store();
        for object in objects {
            let object = serde_json::from_value(object.clone()).unwrap();
            writer.apply_watcher_event(&Event::Apply(object));
        }
        memory
    }

    fn object(kind: &str, namespace: &str, spec: Value) -> Value {
        json!({
            "apiVersion": "hubstorage.io/v1alpha1", "kind": kind,
            "metadata": {"name": "bob", "namespace": namespace}, "spec": spec,
        })
    }

    #[test]
    fn what_is_of_one_namespace_is_not_told_in_another() {
        let hub = json!({"providerRef": {"name": "minio"}, "buckets": [{"name": "scratch"}]});
        let user = json!({"hubRef": {"name": "hub"}, "username": "bob", "access": "Suspended"});
        let pod = |namespace: &str| json!({"metadata": {"name": "bob", "namespace": namespace}});
        let informers = Informers {
            hubs: seen(&[
                object("HubStorage", "earth", hub.clone()),
                object("HubStorage", "mars", hub),
            ]),
            providers: seen(&[]),
            users: seen(&[object("HubUser", "mars", user)]),
            pods: seen(&[pod("earth"), pod("mars"), pod("mars-2")]),
            secrets: SecretVersions::new(VENDING_NAMESPACE, seen(&[])),
            changed: Arc::default(),
            suspended: Arc::default(),
            guard: watch::channel(GuardState::Missing { why: String::new() }).1,
        };
        let namespaces =
            |found: Vec<Option<String>>| found.into_iter().flatten().collect::<Vec<_>>();
        let pods = informers.pods("mars").into_iter();
        let pods = pods.map(|pod| pod.metadata.namespace.clone()).collect();
        assert_eq!(namespaces(pods), ["mars"]);
        let hubs = informers.hubs("mars").into_iter();
        let hubs = hubs.map(|hub| hub.meta().namespace.clone()).collect();
        assert_eq!(namespaces(hubs), ["mars"]);
        assert!(informers.user("mars", "bob").is_some());
        assert!(informers.user("earth", "bob").is_none());
        let bob = Username::parse("bob").unwrap();
        assert!(informers.suspended("mars", "hub", &bob).is_some());
        assert!(informers.suspended("earth", "hub", &bob).is_none());
    }
}
