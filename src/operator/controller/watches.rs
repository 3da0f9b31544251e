//! What is watched, and who is woken by it.
//!
//! Each kind is watched once. Its memory is written before anybody is woken, so that a
//! reconciler never reads a state older than the change that woke it. An object that this build
//! cannot read is left out; its neighbours go on.

use std::collections::HashMap;
use std::fmt::Debug;
use std::future::ready;

use futures::channel::mpsc::{Receiver, Sender, channel};
use futures::{FutureExt as _, SinkExt as _, Stream, StreamExt as _, TryStreamExt as _};
use hubstorage_core::api::{
    ConditionType, HubStorage, HubUser, STAMP_ANNOTATION, SYSTEM_NAMESPACE, StorageProvider,
    USERNAME_ANNOTATION, USERNAME_LABEL,
};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{Lookup, ObjectRef, Store, store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, reflector};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::packed::packed;
use super::queue::Ask;
use super::runner::{Awaited, Wake};
use super::{SeenClaim, Stores, UserPod};
use crate::informer::{Informer, prune_user_pod};
use crate::providers::SecretVersions;
use crate::pulse::{Cadence, Pulses};

/// Wake-ups on their way to a reconciler's queue, which takes them at once and merges those of
/// one object.
const WAKES: usize = 1024;

/// What a reconciler is to look at, and why.
pub type Wakes<K> = Receiver<Wake<K>>;

/// Everything that is watched.
pub struct Watches {
    /// What was seen.
    pub stores: Stores,
    /// The Secrets among which the managing keys are.
    pub secrets: SecretVersions,
    /// One for each watch, cancelled when it has listed.
    lists: Vec<CancellationToken>,
    /// For the reconciler of providers.
    pub providers: Wakes<StorageProvider>,
    /// For the reconciler of buckets.
    pub hubs: Wakes<HubStorage>,
    /// For the reconciler of users.
    pub users: Wakes<HubStorage>,
    /// For the reconciler of homes.
    pub homes: Wakes<HubStorage>,
    /// For the reconciler of bypasses.
    pub bypasses: Wakes<HubStorage>,
    /// The watches themselves; they end when this is dropped.
    pub running: JoinSet<()>,
}

/// Whom a change wakes.
#[derive(Default)]
struct Concerned {
    providers: Vec<(ObjectRef<StorageProvider>, Ask)>,
    hubs: Vec<(ObjectRef<HubStorage>, Ask)>,
    users: Vec<ObjectRef<HubStorage>>,
    homes: Vec<ObjectRef<HubStorage>>,
    bypasses: Vec<(ObjectRef<HubStorage>, Ask)>,
}

#[derive(Clone)]
struct Bells {
    providers: Sender<Wake<StorageProvider>>,
    hubs: Sender<Wake<HubStorage>>,
    users: Sender<Wake<HubStorage>>,
    homes: Sender<Wake<HubStorage>>,
    bypasses: Sender<Wake<HubStorage>>,
}

impl Watches {
    /// Starts every watch; `pulses` are told of their signs of life.
    pub fn start(client: &Client, cadence: &Cadence, pulses: &Pulses) -> Self {
        let mut lists = Vec::new();
        let mut list = || {
            let token = CancellationToken::new();
            lists.push(token.clone());
            token
        };
        let (providers, provider_changes) =
            reflected::<StorageProvider>(readable(client, cadence, pulses), list());
        let (hubs, hub_changes) =
            reflected::<HubStorage>(readable(client, cadence, pulses), list());
        let (users, user_changes) = reflected::<HubUser>(readable(client, cadence, pulses), list());
        let namespaces = Informer::of(client, &(), cadence, pulses).pruned(prune_namespace);
        let (namespaces, namespace_changes) =
            reflected::<PartialObjectMeta<Namespace>>(namespaces.events(), list());
        let pods = Informer::<PartialObjectMeta<Pod>>::of(client, &(), cadence, pulses)
            .labelled(USERNAME_LABEL)
            .pruned(|pod| prune_user_pod(pod, &[STAMP_ANNOTATION, USERNAME_ANNOTATION]));
        let (pods, pod_changes) = reflected::<UserPod>(pods.events().map_ok(packed), list());
        // All of them: one that holds a shared folder has no label that tells it.
        let claims = Informer::<PersistentVolumeClaim>::of(client, &(), cadence, pulses);
        // Not among those that everybody waits for: without the right to list claims, buckets are still made.
        let (claims, claim_changes) =
            reflected::<SeenClaim>(claims.events().map_ok(packed), CancellationToken::new());
        let secrets = SecretVersions::informer(client, SYSTEM_NAMESPACE, cadence, pulses);
        let (secrets, secret_changes) = reflected(secrets.events(), list());

        let (provider_bell, provider_wakes) = channel(WAKES);
        let (hub_bell, hub_wakes) = channel(WAKES);
        let (user_bell, user_wakes) = channel(WAKES);
        let (home_bell, home_wakes) = channel(WAKES);
        let (bypass_bell, bypass_wakes) = channel(WAKES);
        let bells = Bells {
            providers: provider_bell,
            hubs: hub_bell,
            users: user_bell,
            homes: home_bell,
            bypasses: bypass_bell,
        };

        let mut running = JoinSet::new();
        let (all, all_providers) = (hubs.clone(), providers.clone());
        let mut told = HashMap::new();
        running.spawn(bells.clone().follow(provider_changes, move |provider| {
            let (name, itself) = (provider.name_any(), ObjectRef::from_obj(provider));
            let now = what_hubs_go_by(provider);
            let is_news = match all_providers.get(&itself) {
                Some(_) => told.insert(name.clone(), now.clone()) != Some(now),
                None => {
                    told.remove(&name);
                    true
                }
            };
            let of_it = |hub: &HubStorage| is_news && hub.spec.provider_ref.name == name;
            Concerned {
                providers: vec![(itself, ask_of(provider))],
                hubs: asked(refs(&all, of_it), Ask::Check),
                ..Concerned::default()
            }
        }));
        let all = hubs.clone();
        running.spawn(bells.clone().follow(hub_changes, move |hub| {
            let itself = ObjectRef::from_obj(hub);
            // All of the namespace: whoever was second may be first now.
            let mut others = in_namespace(&all, hub.metadata.namespace.as_deref());
            others.retain(|other| *other != itself);
            let mut users = others.clone();
            users.push(itself.clone());
            let mut hubs = asked(others, Ask::Check);
            hubs.push((itself, ask_of(hub)));
            Concerned {
                // Its keys are tried for its hubs.
                providers: vec![(ObjectRef::new(&hub.spec.provider_ref.name), Ask::News)],
                // Servers come and go; what they share is looked at when a check is due.
                bypasses: hubs.clone(),
                homes: users.clone(),
                hubs,
                users,
            }
        }));
        let all = hubs.clone();
        running.spawn(
            bells
                .clone()
                .follow(namespace_changes, move |namespace| Concerned {
                    hubs: asked(
                        in_namespace(&all, namespace.metadata.name.as_deref()),
                        Ask::Check,
                    ),
                    ..Concerned::default()
                }),
        );
        let all = hubs.clone();
        running.spawn(bells.clone().follow(pod_changes, move |pod| {
            let users = in_namespace(&all, Some(pod.namespace()));
            Concerned {
                // Status tells of pods that the webhook missed, and of no others.
                hubs: match pod.is_stamped() {
                    true => Vec::new(),
                    false => asked(users.clone(), Ask::News),
                },
                users,
                ..Concerned::default()
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
            let providers = concerned
                .iter()
                .map(|provider| ObjectRef::from_obj(provider.as_ref()))
                .collect();
            Concerned {
                // Somebody waits for what the new keys do.
                providers: asked(providers, Ask::Change),
                // What a permission kept from being done, other keys may do.
                hubs: asked(refs(&all, is_concerned), Ask::Check),
                ..Concerned::default()
            }
        }));
        let all = hubs.clone();
        running.spawn(bells.clone().follow(user_changes, move |user| {
            let users = in_namespace(&all, user.metadata.namespace.as_deref());
            Concerned {
                homes: users.clone(),
                users,
                ..Concerned::default()
            }
        }));
        let all = hubs.clone();
        running.spawn(bells.follow(claim_changes, move |claim| {
            let namespace = Some(claim.namespace());
            let of_folders = |hub: &HubStorage| {
                hub.metadata.namespace.as_deref() == namespace && !hub.spec.shared.is_empty()
            };
            // One that is no home may have been one before.
            Concerned {
                homes: in_namespace(&all, namespace),
                hubs: asked(refs(&all, of_folders), Ask::News),
                ..Concerned::default()
            }
        }));
        Self {
            stores: Stores {
                providers,
                hubs,
                users,
                namespaces,
                pods,
                claims,
            },
            secrets: SecretVersions::new(SYSTEM_NAMESPACE, secrets),
            lists,
            providers: provider_wakes,
            hubs: hub_wakes,
            users: user_wakes,
            homes: home_wakes,
            bypasses: bypass_wakes,
            running,
        }
    }

    /// Waits until every watch has listed what there is: before, an object that was not seen yet
    /// looks like one that does not exist. What wakes meanwhile is dropped, since whoever begins
    /// afterwards begins with all that is in memory.
    pub async fn listed(&mut self) {
        let Self {
            lists,
            providers,
            hubs,
            users,
            homes,
            bypasses,
            ..
        } = self;
        for list in lists {
            tokio::select! {
                () = list.cancelled() => {}
                // These do not end before the watches do.
                () = providers.by_ref().map(drop).for_each(ready) => {}
                () = hubs.by_ref().map(drop).for_each(ready) => {}
                () = users.by_ref().map(drop).for_each(ready) => {}
                () = homes.by_ref().map(drop).for_each(ready) => {}
                () = bypasses.by_ref().map(drop).for_each(ready) => {}
            }
        }
        // A watch wakes for what it listed before it says that it has.
        while let Some(Some(_)) = providers.next().now_or_never() {}
        while let Some(Some(_)) = hubs.next().now_or_never() {}
        while let Some(Some(_)) = users.next().now_or_never() {}
        while let Some(Some(_)) = homes.next().now_or_never() {}
        while let Some(Some(_)) = bypasses.next().now_or_never() {}
    }
}

impl Bells {
    async fn follow<K>(
        mut self,
        changes: impl Stream<Item = K>,
        mut concern: impl FnMut(&K) -> Concerned,
    ) {
        let mut changes = std::pin::pin!(changes);
        while let Some(changed) = changes.next().await {
            let Concerned {
                providers,
                hubs,
                users,
                homes,
                bypasses,
            } = concern(&changed);
            // A reconciler that has ended is not woken any more.
            for (provider, ask) in providers {
                _ = self.providers.send(Wake::One(provider, ask)).await;
            }
            for (hub, ask) in hubs {
                _ = self.hubs.send(Wake::One(hub, ask)).await;
            }
            for hub in users {
                _ = self.users.send(Wake::One(hub, Ask::Change)).await;
            }
            for hub in homes {
                _ = self.homes.send(Wake::One(hub, Ask::Change)).await;
            }
            for (hub, ask) in bypasses {
                _ = self.bypasses.send(Wake::One(hub, ask)).await;
            }
        }
    }
}

/// What an object's own change asks for: where the spec is the one that status tells of, and no
/// check was asked for since, nothing was written but status or metadata.
fn ask_of(object: &impl Awaited) -> Ask {
    match object.is_awaited() {
        true => Ask::Change,
        false => Ask::News,
    }
}

/// A provider but for what its hubs have told it themselves: where only that has changed, checking all of them
/// would call the store for nothing.
fn what_hubs_go_by(provider: &StorageProvider) -> StorageProvider {
    let mut provider = provider.clone();
    provider.metadata.resource_version = None;
    provider.metadata.managed_fields = None;
    if let Some(status) = &mut provider.status {
        let vending = ConditionType::VendingReady.to_string();
        status.conditions.retain(|told| told.type_ != vending);
    }
    provider
}

fn asked<K: Resource<DynamicType = ()>>(
    objects: Vec<ObjectRef<K>>,
    ask: Ask,
) -> Vec<(ObjectRef<K>, Ask)> {
    objects.into_iter().map(|object| (object, ask)).collect()
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

fn in_namespace(hubs: &Store<HubStorage>, namespace: Option<&str>) -> Vec<ObjectRef<HubStorage>> {
    refs(hubs, |hub| hub.metadata.namespace.as_deref() == namespace)
}

/// Of a namespace's metadata, what a provider's selector reads.
fn prune_namespace(namespace: &mut PartialObjectMeta<Namespace>) {
    namespace.types = None;
    namespace.metadata.annotations = None;
}

/// The events of a kind whose objects others write, without those that this build cannot read.
///
/// Not for metadata: what is guarded is asked for as whole objects (kube 5.0, whose
/// `DeserializeGuard` does not pass `Resource::metadata_api` on), and metadata can always be read.
fn readable<K>(
    client: &Client,
    cadence: &Cadence,
    pulses: &Pulses,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + 'static,
{
    Informer::guarded(client, cadence, pulses)
        .events()
        .filter_map(|event| ready(event.map(read).transpose()))
}

/// One watch: its memory, and what changed in it, deletions too. `listed` is cancelled when the
/// memory holds what there is.
fn reflected<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
    listed: CancellationToken,
) -> (Store<K>, impl Stream<Item = K> + Send)
where
    K: Lookup<DynamicType = ()> + Clone + Send + Sync + 'static,
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
