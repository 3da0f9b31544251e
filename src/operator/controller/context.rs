//! What every reconciler is given.

use std::sync::Arc;

use hubstorage_core::api::{HubStorage, HubUser, StorageProvider};
use hubstorage_core::hubs::hub_of_namespace;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, ResourceExt as _};
use tokio::sync::watch;

use super::bypasses::Bypasses;
use super::homes::RefusedGrowths;
use super::hub::Told;
use super::usage::Usage;
use super::{Backoff, Events, Metrics, Parts, SeenClaim, UserPod};
use crate::certificates::WebhookState;
use crate::clock::Clock;
use crate::guard::GuardState;
use crate::providers::Connect;

/// What the watches have seen. Read-only: reconcilers write through the client.
#[derive(Clone)]
pub struct Stores {
    /// All providers.
    pub providers: Store<StorageProvider>,
    /// All hubs.
    pub hubs: Store<HubStorage>,
    /// All users.
    pub users: Store<HubUser>,
    /// Metadata of all namespaces.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    /// Metadata of pods with the label `hub.jupyter.org/username`.
    pub pods: Store<UserPod>,
    /// All claims: users' homes, and those that may hold shared folders.
    pub claims: Store<SeenClaim>,
}

/// Whether the admission policies that hold what hubs declare are in force.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How large homes may be.
    pub homes: watch::Receiver<GuardState>,
    /// Who writes to shared folders: the one that refuses.
    pub shared: watch::Receiver<GuardState>,
    /// The same: the one that tells.
    pub shared_audit: watch::Receiver<GuardState>,
}

/// What every reconciler is given.
pub struct Context {
    /// To the API server.
    pub client: Client,
    /// To the stores.
    pub connect: Arc<dyn Connect>,
    /// What the watches have seen.
    pub stores: Stores,
    /// Whether the guard is in force.
    pub guard: watch::Receiver<GuardState>,
    /// Whether what hubs declare is held without the webhook.
    pub limits: Limits,
    /// Whether the webhook is registered.
    pub webhook: watch::Receiver<WebhookState>,
    /// Which parts of the installation run.
    pub parts: watch::Receiver<Parts>,
    /// Id of this installation, the first part of every owner tag.
    pub installation: String,
    /// Publishes events.
    pub events: Events,
    /// Which pods were told of.
    pub told: Told,
    /// What users' pods have besides what is vended.
    pub bypasses: Bypasses,
    /// How full homes are.
    pub usage: Arc<Usage>,
    /// Which homes were kept from growing a short while ago.
    pub refused_growths: RefusedGrowths,
    /// The image of trial pods; none are made without.
    pub trial_image: Option<String>,
    /// Counts.
    pub metrics: Metrics,
    /// The time.
    pub clock: Clock,
    /// Pauses between tries, by hub.
    pub hub_backoff: Backoff<ObjectRef<HubStorage>>,
    /// Pauses between tries, by provider.
    pub provider_backoff: Backoff<ObjectRef<StorageProvider>>,
}

impl Context {
    /// The provider of this name, as the watch has seen it.
    pub fn provider(&self, name: &str) -> Option<Arc<StorageProvider>> {
        self.stores.providers.get(&ObjectRef::new(name))
    }

    /// Whether a hub is the one that counts in its namespace.
    pub fn counts(&self, hub: &HubStorage) -> bool {
        let first = self.hub_of(&hub.namespace().unwrap_or_default());
        first.is_some_and(|first| first.uid() == hub.uid())
    }

    /// The HubStorage that counts in a namespace, as the watch has seen it.
    pub fn hub_of(&self, namespace: &str) -> Option<Arc<HubStorage>> {
        let rivals = self
            .stores
            .hubs
            .state_filter(|hub| hub.metadata.namespace.as_deref() == Some(namespace));
        hub_of_namespace(&rivals).cloned()
    }
}
