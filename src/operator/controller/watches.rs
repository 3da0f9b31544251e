//! What is watched, and who is woken by it.
//!
//! Each kind is watched once. Its memory is written before anybody is woken, so that a
//! reconciler never reads a state older than the change that woke it. An object that this build
//! cannot read is left out; its neighbours go on.

use std::fmt::Debug;
use std::future::ready;

use futures::channel::mpsc::{Receiver, Sender, channel};
use futures::{SinkExt as _, Stream, StreamExt as _};
use hubstorage_core::api::{
    HubStorage, HubUser, SYSTEM_NAMESPACE, StorageProvider, USERNAME_LABEL,
};
use hubstorage_core::injection::is_stamped;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, reflector};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Stores;
use crate::informer::Informer;
use crate::providers::SecretVersions;
use crate::pulse::{Cadence, Pulses};

/// Wake-ups on their way to a reconciler's queue, which takes them at once and merges those of
/// one object.
const QUEUE: usize = 1024;

/// Objects that a reconciler is to look at.
pub type Wakes<K> = Receiver<ObjectRef<K>>;

/// Everything that is watched.
pub struct Watches {
    /// What was seen.
    pub stores: Stores,
    /// The Secrets among which the managing keys are.
    pub secrets: SecretVersions,
    /// Whether all of it was seen.
    pub listed: Listed,
    /// For the reconciler of providers.
    pub providers: Wakes<StorageProvider>,
    /// For the reconciler of buckets.
    pub hubs: Wakes<HubStorage>,
    /// For the reconciler of users.
    pub users: Wakes<HubStorage>,
    /// The watches themselves; they end when this is dropped.
    pub running: JoinSet<()>,
}

/// Whether every watch has listed what there is: before that, an object that was not seen yet looks
/// like one that does not exist. Clones share it.
///
/// The stores' own `wait_until_ready` is for one task: of several it wakes the last alone
/// (kube-runtime 5.0, `utils/delayed_init.rs`), and every reconcile is a task.
#[derive(Debug, Clone, Default)]
pub struct Listed(Vec<CancellationToken>);

impl Listed {
    /// A watch more to wait for; it is cancelled when it has listed.
    pub(super) fn awaited(&mut self) -> CancellationToken {
        let token = CancellationToken::new();
        self.0.push(token.clone());
        token
    }

    /// Waits until every watch has listed.
    pub async fn wait(&self) {
        for token in &self.0 {
            token.cancelled().await;
        }
    }
}

/// Whom a change wakes.
#[derive(Default)]
struct Wake {
    providers: Vec<ObjectRef<StorageProvider>>,
    hubs: Vec<ObjectRef<HubStorage>>,
    users: Vec<ObjectRef<HubStorage>>,
}

#[derive(Clone)]
struct Bells {
    providers: Sender<ObjectRef<StorageProvider>>,
    hubs: Sender<ObjectRef<HubStorage>>,
    users: Sender<ObjectRef<HubStorage>>,
}

impl Watches {
    /// Starts every watch; `pulses` are told of their signs of life.
    pub fn start(client: &Client, cadence: &Cadence, pulses: &Pulses) -> Self {
        let mut listed = Listed::default();
        let (providers, provider_changes) = readable::<StorageProvider>(
            Informer::guarded(client, cadence, pulses),
            listed.awaited(),
        );
        let (hubs, hub_changes) =
            readable::<HubStorage>(Informer::guarded(client, cadence, pulses), listed.awaited());
        let (users, user_changes) =
            readable::<HubUser>(Informer::guarded(client, cadence, pulses), listed.awaited());
        let (namespaces, namespace_changes) = remembered::<PartialObjectMeta<Namespace>>(
            Informer::of(client, &(), cadence, pulses).events(),
            listed.awaited(),
        );
        let (pods, pod_changes) = remembered::<PartialObjectMeta<Pod>>(
            Informer::of(client, &(), cadence, pulses)
                .labelled(USERNAME_LABEL)
                .events(),
            listed.awaited(),
        );
        let (secrets, secret_changes) = remembered(
            SecretVersions::informer(client, SYSTEM_NAMESPACE, cadence, pulses).events(),
            listed.awaited(),
        );

        let (provider_bell, provider_wakes) = channel(QUEUE);
        let (hub_bell, hub_wakes) = channel(QUEUE);
        let (user_bell, user_wakes) = channel(QUEUE);
        let bells = Bells {
            providers: provider_bell,
            hubs: hub_bell,
            users: user_bell,
        };

        let mut running = JoinSet::new();
        let all = hubs.clone();
        running.spawn(bells.clone().follow(provider_changes, move |provider| {
            let name = provider.name_any();
            Wake {
                providers: vec![ObjectRef::from_obj(provider)],
                hubs: refs(&all, |hub| hub.spec.provider_ref.name == name),
                ..Wake::default()
            }
        }));
        let all = hubs.clone();
        running.spawn(bells.clone().follow(hub_changes, move |hub| {
            // All of the namespace: whoever was second may be first now.
            let mut concerned = in_namespace(&all, hub.namespace());
            let itself = ObjectRef::from_obj(hub);
            if !concerned.contains(&itself) {
                concerned.push(itself);
            }
            Wake {
                hubs: concerned.clone(),
                users: concerned,
                ..Wake::default()
            }
        }));
        let all = hubs.clone();
        running.spawn(
            bells
                .clone()
                .follow(namespace_changes, move |namespace| Wake {
                    hubs: in_namespace(&all, namespace.metadata.name.clone()),
                    ..Wake::default()
                }),
        );
        let all = hubs.clone();
        running.spawn(bells.clone().follow(pod_changes, move |pod| {
            let concerned = in_namespace(&all, pod.namespace());
            Wake {
                // A reconcile asks the store: only a pod that the webhook missed is worth that.
                hubs: match is_stamped(&pod.metadata) {
                    true => Vec::new(),
                    false => concerned.clone(),
                },
                users: concerned,
                ..Wake::default()
            }
        }));
        let (all, all_providers) = (hubs.clone(), providers.clone());
        running.spawn(bells.clone().follow(secret_changes, move |secret| {
            let name = secret.name_any();
            let concerned = all_providers.state_filter(|provider| {
                let s3 = provider.spec.s3.as_ref();
                s3.and_then(|s3| s3.credentials.secret_name()) == Some(&name)
            });
            let is_concerned = |hub: &HubStorage| {
                let mut names = concerned.iter().map(|provider| provider.name_any());
                names.any(|name| name == hub.spec.provider_ref.name)
            };
            Wake {
                providers: concerned
                    .iter()
                    .map(|provider| ObjectRef::from_obj(provider.as_ref()))
                    .collect(),
                // What a permission kept from being done, other keys may do.
                hubs: refs(&all, is_concerned),
                ..Wake::default()
            }
        }));
        let all = hubs.clone();
        running.spawn(bells.follow(user_changes, move |user| Wake {
            users: in_namespace(&all, user.namespace()),
            ..Wake::default()
        }));
        Self {
            stores: Stores {
                providers,
                hubs,
                users,
                namespaces,
                pods,
            },
            secrets: SecretVersions::new(SYSTEM_NAMESPACE, secrets),
            listed,
            providers: provider_wakes,
            hubs: hub_wakes,
            users: user_wakes,
            running,
        }
    }
}

impl Bells {
    async fn follow<K>(mut self, changes: impl Stream<Item = K>, wake: impl Fn(&K) -> Wake) {
        let mut changes = std::pin::pin!(changes);
        while let Some(changed) = changes.next().await {
            let Wake {
                providers,
                hubs,
                users,
            } = wake(&changed);
            // A reconciler that has ended is not woken any more.
            for provider in providers {
                _ = self.providers.send(provider).await;
            }
            for hub in hubs {
                _ = self.hubs.send(hub).await;
            }
            for hub in users {
                _ = self.users.send(hub).await;
            }
        }
    }
}

fn refs(
    hubs: &Store<HubStorage>,
    wanted: impl Fn(&HubStorage) -> bool,
) -> Vec<ObjectRef<HubStorage>> {
    hubs.state_filter(wanted)
        .iter()
        .map(|hub| ObjectRef::from_obj(hub.as_ref()))
        .collect()
}

fn in_namespace(hubs: &Store<HubStorage>, namespace: Option<String>) -> Vec<ObjectRef<HubStorage>> {
    refs(hubs, |hub| hub.namespace() == namespace)
}

/// One watch: its memory, and what changed in it, deletions too. What cannot be read is in
/// neither. `listed` is cancelled when the memory holds what there is.
fn readable<K>(
    informer: Informer<DeserializeGuard<K>>,
    listed: CancellationToken,
) -> (Store<K>, impl Stream<Item = K> + Send + use<K>)
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
{
    let events = informer.events();
    remembered(
        events.filter_map(|event| ready(event.map(read).transpose())),
        listed,
    )
}

/// The same of what this build can always read. Metadata has no guard: kube asks for no more than
/// the metadata of a type only where that type itself is watched (`Resource::metadata_api`).
fn remembered<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
    listed: CancellationToken,
) -> (Store<K>, impl Stream<Item = K> + Send)
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
{
    let (memory, writer) = store();
    let changes = reflector(writer, events)
        .inspect(move |event| {
            if matches!(event, Ok(Event::InitDone)) {
                listed.cancel();
            }
        })
        .touched_objects()
        .filter_map(|changed| ready(changed.ok()));
    (memory, changes)
}

fn read<K>(event: Event<DeserializeGuard<K>>) -> Option<Event<K>> {
    Some(match event {
        Event::Apply(object) => Event::Apply(object.0.ok()?),
        Event::Delete(object) => Event::Delete(object.0.ok()?),
        Event::InitApply(object) => Event::InitApply(object.0.ok()?),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    })
}
