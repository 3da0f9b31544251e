//! A controller's process, and what its watches have seen.

use std::sync::Arc;

use hubstorage::certificates::WebhookState;
use hubstorage::clock::Clock;
use hubstorage::controller::bypasses::Bypasses;
use hubstorage::controller::homes::RefusedGrowths;
use hubstorage::controller::usage::Usage;
use hubstorage::controller::{
    Backoff, Context, Events, Limits, Metrics, Parts, SeenClaim, Stores, UserPod, hub,
};
use hubstorage::guard::GuardState;
use hubstorage_core::api::{HubStorage, HubUser, StorageProvider};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod};
use kube::Resource;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef, store};
use kube::runtime::watcher;
use tokio::sync::watch;

use crate::api_server::ApiServer;
use crate::fixtures::{INSTALLATION, REGISTERED};
use crate::store::Connection;

/// The image of trial pods.
pub const TRIAL_IMAGE: &str = "registry.example.org/hubstorage:1";

/// One controller process: what it is given, and what its watches have seen.
pub struct Controller {
    pub context: Arc<Context>,
    providers: Writer<StorageProvider>,
    hubs: Writer<HubStorage>,
    users: Writer<HubUser>,
    namespaces: Writer<PartialObjectMeta<Namespace>>,
    pods: Writer<UserPod>,
    claims: Writer<SeenClaim>,
}

impl Controller {
    /// All watches see what the server has now.
    pub fn see(&mut self, server: &ApiServer) {
        fill(&mut self.providers, server.list());
        fill(&mut self.hubs, server.list());
        fill(&mut self.users, server.list());
        fill(&mut self.namespaces, metadata(server.list::<Namespace>()));
        let pods = metadata(server.list::<Pod>());
        fill(
            &mut self.pods,
            pods.into_iter().map(UserPod::from).collect(),
        );
        let claims = server.list::<PersistentVolumeClaim>();
        fill(
            &mut self.claims,
            claims.into_iter().map(SeenClaim::from).collect(),
        );
    }

    /// Reconciles a hub as the watch last saw it.
    pub async fn reconcile(&self, hub: &HubStorage) -> Result<(), String> {
        let seen = self.context.stores.hubs.get(&ObjectRef::from_obj(hub));
        let seen = seen.expect("the watch has seen it");
        let ended = hub::reconcile(seen, self.context.clone()).await;
        ended.map(drop).map_err(|error| error.to_string())
    }
}

fn fill<K: reflector::Lookup + Clone + 'static>(writer: &mut Writer<K>, objects: Vec<K>)
where
    K::DynamicType: Eq + std::hash::Hash + Clone,
{
    writer.apply_watcher_event(&watcher::Event::Init);
    for object in objects {
        writer.apply_watcher_event(&watcher::Event::InitApply(object));
    }
    writer.apply_watcher_event(&watcher::Event::InitDone);
}

fn metadata<K: Resource>(objects: Vec<K>) -> Vec<PartialObjectMeta<K>> {
    let meta = |object: K| PartialObjectMeta {
        types: None,
        metadata: object.meta().clone(),
        _phantom: std::marker::PhantomData,
    };
    objects.into_iter().map(meta).collect()
}

/// What of the installation is there.
pub struct Installed {
    pub guard: watch::Sender<GuardState>,
    pub policy_of_homes: watch::Sender<GuardState>,
    pub policy_of_shared: watch::Sender<GuardState>,
    pub audit_of_shared: watch::Sender<GuardState>,
    pub webhook: watch::Sender<WebhookState>,
    pub parts: watch::Sender<Parts>,
}

impl Installed {
    /// All of it, since that time.
    pub fn all(since: Timestamp) -> Self {
        let in_force = || watch::Sender::new(GuardState::InForce { since });
        Self {
            guard: in_force(),
            policy_of_homes: in_force(),
            policy_of_shared: in_force(),
            audit_of_shared: in_force(),
            webhook: watch::Sender::new(REGISTERED),
            parts: watch::Sender::new(Parts::default()),
        }
    }
}

/// A process that has seen what the server has.
pub fn start(server: &ApiServer, connection: Connection, installed: &Installed) -> Controller {
    let (providers, providers_writer) = store();
    let (hubs, hubs_writer) = store();
    let (users, users_writer) = store();
    let (namespaces, namespaces_writer) = store();
    let (pods, pods_writer) = store();
    let (claims, claims_writer) = store();
    let client = server.client();
    let cloud = connection.cloud.clone();
    let clock: Clock = Arc::new(move || cloud.now());
    let context = Context {
        connect: Arc::new(connection),
        stores: Stores {
            providers,
            hubs,
            users,
            namespaces,
            pods,
            claims,
        },
        guard: installed.guard.subscribe(),
        limits: Limits {
            homes: installed.policy_of_homes.subscribe(),
            shared: installed.policy_of_shared.subscribe(),
            shared_audit: installed.audit_of_shared.subscribe(),
        },
        webhook: installed.webhook.subscribe(),
        parts: installed.parts.subscribe(),
        installation: INSTALLATION.to_owned(),
        events: Events::new(client.clone(), clock.clone()),
        told: hub::Told::default(),
        bypasses: Bypasses::new().0,
        usage: Usage::new().0,
        refused_growths: RefusedGrowths::default(),
        trial_image: Some(TRIAL_IMAGE.to_owned()),
        metrics: Metrics::default(),
        clock,
        hub_backoff: Backoff::default(),
        provider_backoff: Backoff::default(),
        client,
    };
    let mut controller = Controller {
        context: Arc::new(context),
        providers: providers_writer,
        hubs: hubs_writer,
        users: users_writer,
        namespaces: namespaces_writer,
        pods: pods_writer,
        claims: claims_writer,
    };
    controller.see(server);
    controller
}
