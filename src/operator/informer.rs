//! How everything is watched that is watched.
//!
//! Lists are paged, which bounds the memory of a relist ([`Cadence::config`]); field ownership is
//! dropped where nobody reads it, what fails is logged and tried again with growing pauses, and every
//! watch has a [`Pulse`](crate::pulse::Pulse). A kind whose objects others write is watched as
//! [`DeserializeGuard`]: an object that this build cannot read is told in the log and handed on as
//! such, so that it neither wedges the watch nor is taken for absent.

use std::fmt::Debug;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::core::{DeserializeGuard, NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt as _, reflector};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::pulse::{Cadence, Pulses};

/// A watch of one kind, before it starts.
pub struct Informer<K> {
    objects: Api<K>,
    kind: String,
    config: watcher::Config,
    prune: fn(&mut K),
    whole: bool,
}

impl<K> Informer<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    /// Of the objects of a kind in all namespaces; `pulses` are told of its signs of life.
    pub fn of(client: &Client, kind: &K::DynamicType, cadence: &Cadence, pulses: &Pulses) -> Self {
        let client = pulses.of(K::plural(kind), cadence).listening(client);
        Self::new(Api::all_with(client, kind), kind, cadence)
    }

    fn new(objects: Api<K>, kind: &K::DynamicType, cadence: &Cadence) -> Self {
        Self {
            objects,
            kind: K::kind(kind).into_owned(),
            config: cadence.config(),
            prune: |_| {},
            whole: false,
        }
    }

    /// Only of the one of this name.
    pub fn named(mut self, name: &str) -> Self {
        self.config = self.config.fields(&format!("metadata.name={name}"));
        self
    }

    /// Only of those that `selector` selects.
    pub fn labelled(mut self, selector: &str) -> Self {
        self.config = self.config.labels(selector);
        self
    }

    /// Drops from each object what nobody reads.
    pub fn pruned(mut self, prune: fn(&mut K)) -> Self {
        self.prune = prune;
        self
    }

    /// Keeps field ownership too, which says when an object was changed.
    pub fn whole(mut self) -> Self {
        self.whole = true;
        self
    }

    /// Starts. Errors are logged already; the watch goes on after them.
    pub fn events(self) -> impl Stream<Item = watcher::Result<Event<K>>> + Send {
        let Self {
            objects,
            kind,
            config,
            prune,
            whole,
        } = self;
        watcher(objects, config)
            .default_backoff()
            .modify(move |object| {
                if !whole {
                    object.managed_fields_mut().clear();
                }
                prune(object);
            })
            .inspect(move |event| {
                if let Err(error) = event {
                    tracing::warn!(kind, %error, "a watch failed, and is tried again");
                }
            })
    }
}

impl<K> Informer<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    /// Of the objects of a kind in one namespace; `pulses` are told of its signs of life.
    pub fn within(client: &Client, namespace: &str, cadence: &Cadence, pulses: &Pulses) -> Self {
        let client = pulses.of(K::plural(&()), cadence).listening(client);
        Self::new(Api::namespaced(client, namespace), &(), cadence)
    }
}

impl<K> Informer<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Default + Eq + std::hash::Hash + Clone,
{
    /// Starts, and remembers: the memory, and its events when the memory has them.
    pub fn reflected(
        self,
    ) -> (
        reflector::Store<K>,
        impl Stream<Item = watcher::Result<Event<K>>> + Send,
    ) {
        let (memory, writer) = reflector::store();
        (memory, self.events().reflect(writer))
    }
}

impl<K> Informer<DeserializeGuard<K>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    /// Of the objects of a kind, those that this build cannot read included.
    pub fn guarded(client: &Client, cadence: &Cadence, pulses: &Pulses) -> Self {
        Self::of(client, &(), cadence, pulses).pruned(tell_unreadable)
    }
}

fn tell_unreadable<K: Resource<DynamicType = ()>>(object: &mut DeserializeGuard<K>) {
    if let Err(unreadable) = &object.0 {
        let (kind, name) = (K::kind(&()), unreadable.metadata.name.as_deref());
        let (namespace, error) = (unreadable.metadata.namespace.as_deref(), &unreadable.error);
        tracing::warn!(%kind, namespace, name, error,
            "an object cannot be read by this version of the operator, and is left as it is");
    }
}

/// Of the metadata of a user's pod, what decides: which labels a source selects it by, and these
/// annotations.
pub fn prune_user_pod(pod: &mut PartialObjectMeta<Pod>, annotations: &[&str]) {
    pod.types = None;
    pod.metadata.owner_references = None;
    pod.metadata.finalizers = None;
    pod.annotations_mut()
        .retain(|key, _| annotations.contains(&key.as_str()));
}
