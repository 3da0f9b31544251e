//! A controller, an API server and a store, in one process and on one clock.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hubstorage::certificates::WebhookState;
use hubstorage::controller::usage::HomeMetrics;
use hubstorage::controller::{Parts, bypasses, homes, hub, provider, users};
use hubstorage::guard::GuardState;
use hubstorage_cloud::faults::FaultPlan;
use hubstorage_cloud::memory::{Behaviour, Bucket, MemoryCloud};
use hubstorage_core::api::{
    CREATION_TAG, ConditionType, HubStorage, HubUser, OWNER_TAG, Reason, StorageProvider, condition,
};
use hubstorage_core::names::{BucketName, RoleName};
use hubstorage_core::roles::FoundRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt as _};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde::Serialize;
use serde_json::{Value, json};

use crate::api_server::{ApiServer, Faults, name_of};
use crate::conditions::{Seen, broken_rules};
use crate::fixtures::{ACCOUNT, INSTALLATION, PROVIDER, namespace, provider};
use crate::process::{Controller, Installed, start};
use crate::store::{Connection, Witness};

/// Rounds within which everything has to come to rest.
const ROUNDS: usize = 12;

/// The world.
pub struct World {
    pub server: ApiServer,
    pub cloud: MemoryCloud,
    pub witness: Witness,
    pub controller: Controller,
    faults: Faults,
    account: Arc<Mutex<String>>,
    pub installed: Installed,
    /// Status of each object when it was last looked at, by UID.
    judged: BTreeMap<String, Seen>,
    /// What is being tried, for the messages of failed assertions.
    pub trial: String,
}

impl World {
    /// A store that behaves like this, a provider, the namespace `earth`, and no hub yet.
    pub fn new(behaviour: Behaviour) -> Self {
        Self::empty(behaviour)
            .with(&provider())
            .with(&namespace("earth"))
    }

    /// A store that behaves like this, and nothing else.
    pub fn empty(behaviour: Behaviour) -> Self {
        let cloud = MemoryCloud::new(behaviour);
        let clock = cloud.clone();
        let faults = Faults::default();
        let server = ApiServer::new(faults.clone(), Arc::new(move || clock.now()));
        let installed = Installed::all(cloud.now());
        let witness = Witness::new(server.clone());
        let account = Arc::new(Mutex::new(ACCOUNT.to_owned()));
        let connection = Connection {
            cloud: cloud.clone(),
            faults: faults.clone(),
            witness: witness.clone(),
            account: account.clone(),
        };
        let controller = start(&server, connection, &installed);
        Self {
            server,
            cloud,
            witness,
            controller,
            faults,
            account,
            installed,
            judged: BTreeMap::new(),
            trial: "without a fault".to_owned(),
        }
    }

    /// The same with this object.
    pub fn with<K: Resource<DynamicType = ()> + Serialize>(self, object: &K) -> Self {
        self.server.apply(object);
        self
    }

    /// Another controller process in the same world.
    pub fn another_controller(&self) -> Controller {
        let connection = Connection {
            cloud: self.cloud.clone(),
            faults: self.faults.clone(),
            witness: self.witness.clone(),
            account: self.account.clone(),
        };
        start(&self.server, connection, &self.installed)
    }

    /// The controller's process ends, and another one begins.
    pub fn restart(&mut self) {
        self.controller = self.another_controller();
    }

    /// From here on calls are counted by `plan`, and fail by it.
    pub fn inject(&self, plan: FaultPlan) -> FaultPlan {
        *self.faults.lock().unwrap() = plan.clone();
        plan
    }

    /// From here on the managing keys are those of this account.
    pub fn keys_are_of(&self, account: &str) {
        account.clone_into(&mut self.account.lock().unwrap());
    }

    pub fn guard_is(&self, state: GuardState) {
        self.installed.guard.send_replace(state);
    }

    pub fn webhook_is(&self, state: WebhookState) {
        self.installed.webhook.send_replace(state);
    }

    pub fn parts_are(&self, parts: Parts) {
        self.installed.parts.send_replace(parts);
    }

    /// Reconciles one provider.
    pub async fn reconcile_provider(&mut self, name: &str) -> Result<(), String> {
        self.controller.see(&self.server);
        let context = self.controller.context.clone();
        let seen = context.provider(name).expect("the watch has seen it");
        let ended = provider::reconcile(seen, context).await;
        self.judge();
        ended.map(drop).map_err(|error| error.to_string())
    }

    /// Tells the provider anew from memory.
    pub async fn retell_provider(&mut self) -> Result<(), String> {
        self.controller.see(&self.server);
        let context = self.controller.context.clone();
        let seen = context.provider(PROVIDER).expect("the watch has seen it");
        let told = provider::retell(seen, context).await;
        self.judge();
        told.map(drop).map_err(|error| error.to_string())
    }

    /// Reconciles one hub.
    pub async fn reconcile_hub(&mut self, hub: &HubStorage) -> Result<(), String> {
        self.controller.see(&self.server);
        self.reconcile_hub_as_seen(hub).await
    }

    /// Reconciles one hub by what the watch has seen so far.
    pub async fn reconcile_hub_as_seen(&mut self, hub: &HubStorage) -> Result<(), String> {
        let ended = self.controller.reconcile(hub).await;
        self.judge();
        ended
    }

    /// Reconciles the users of one hub.
    pub async fn reconcile_users(&mut self, hub: &HubStorage) -> Result<(), String> {
        self.controller.see(&self.server);
        let context = self.controller.context.clone();
        let seen = context.stores.hubs.get(&ObjectRef::from_obj(hub));
        let ended = users::reconcile(seen.expect("the watch has seen it"), context).await;
        self.judge();
        ended.map(drop).map_err(|error| error.to_string())
    }

    /// Reconciles the homes of one hub's users, and tells of them.
    pub async fn reconcile_homes(&mut self, hub: &HubStorage) -> Result<(), String> {
        self.controller.see(&self.server);
        self.reconcile_homes_as_seen(hub).await
    }

    /// The same by what the watches have seen so far.
    pub async fn reconcile_homes_as_seen(&mut self, hub: &HubStorage) -> Result<(), String> {
        let context = self.controller.context.clone();
        let seen = context.stores.hubs.get(&ObjectRef::from_obj(hub));
        let ended = homes::reconcile(seen.expect("the watch has seen it"), context).await;
        self.judge();
        ended.map_err(|error| error.to_string())?;
        self.retell(hub).await
    }

    /// Tells one hub anew from memory.
    pub async fn retell(&mut self, hub: &HubStorage) -> Result<(), String> {
        self.controller.see(&self.server);
        let context = self.controller.context.clone();
        let seen = context.stores.hubs.get(&ObjectRef::from_obj(hub));
        let told = hub::retell(seen.expect("the watch has seen it"), context).await;
        self.judge();
        told.map(drop).map_err(|error| error.to_string())
    }

    /// Looks for the bypasses of one hub, and tells of them.
    pub async fn look_for_bypasses(&mut self, hub: &HubStorage) -> Result<(), String> {
        self.controller.see(&self.server);
        let context = self.controller.context.clone();
        let seen = context.stores.hubs.get(&ObjectRef::from_obj(hub));
        let seen = seen.expect("the watch has seen it");
        let ended = bypasses::reconcile(seen, false, context).await;
        let told = self.retell(hub).await;
        ended.map(drop).map_err(|error| error.to_string())?;
        told
    }

    /// Reconciles everything once, and says what failed. A minute goes by.
    pub async fn round(&mut self) -> Vec<String> {
        let mut failed = Vec::new();
        for provider in self.server.list::<StorageProvider>() {
            failed.extend(self.reconcile_provider(&provider.name_any()).await.err());
        }
        for hub in self.server.list::<HubStorage>() {
            failed.extend(self.reconcile_hub(&hub).await.err());
            if self.server.get(&hub).is_some() {
                failed.extend(self.reconcile_users(&hub).await.err());
                failed.extend(self.reconcile_homes(&hub).await.err());
            }
        }
        self.cloud.advance(Duration::from_secs(60));
        failed
    }

    /// So many rounds, whatever fails.
    pub async fn rounds(&mut self, rounds: usize) {
        for _ in 0..rounds {
            self.round().await;
        }
    }

    /// Reconciles everything until a round changes nothing.
    pub async fn settle(&mut self) {
        let mut failed = Vec::new();
        for _ in 0..ROUNDS {
            // A call to the store that is refused every time is no unrest.
            let state = |world: &Self| (world.server.write_requests().len(), world.inventory());
            let before = state(self);
            failed = self.round().await;
            if failed.is_empty() && state(self) == before {
                return;
            }
        }
        panic!(
            "{}: no rest after {ROUNDS} rounds; {failed:?}\n{}",
            self.trial,
            self.told()
        );
    }

    /// Asserts that 20 more rounds, with drift checks, write nothing and change no byte.
    pub async fn stays_as_it_is(&mut self) {
        let (bytes, writes) = (self.server.dump(), self.writes());
        for _ in 0..20 {
            self.cloud.advance(Duration::from_secs(660));
            let failed = self.round().await;
            assert!(failed.is_empty(), "{}: {failed:?}", self.trial);
        }
        let told = self.told();
        assert_eq!(
            self.writes(),
            writes,
            "{}: a steady state writes nothing\n{told}",
            self.trial
        );
        assert_eq!(
            self.server.dump(),
            bytes,
            "{}: a steady state keeps its bytes",
            self.trial
        );
    }

    /// Requests so far that may change something, of the API server and of the store.
    pub fn writes(&self) -> usize {
        self.server.write_requests().len() + self.cloud.writes().len()
    }

    /// Calls so far, a line each, for messages.
    fn told(&self) -> String {
        self.faults.lock().unwrap().calls().join("\n")
    }

    /// Status has to be well-formed after every reconcile, and no promise broken.
    fn judge(&mut self) {
        let hubs = self.server.list::<HubStorage>().into_iter().map(|hub| {
            let status = hub.status.clone().unwrap_or_default();
            (
                hub.uid(),
                name_of(&hub),
                hub.metadata.generation,
                status.observed_generation,
                status.conditions,
            )
        });
        let providers = self
            .server
            .list::<StorageProvider>()
            .into_iter()
            .map(|provider| {
                let status = provider.status.clone().unwrap_or_default();
                (
                    provider.uid(),
                    name_of(&provider),
                    provider.metadata.generation,
                    status.observed_generation,
                    status.conditions,
                )
            });
        for (uid, name, generation, observed_generation, conditions) in hubs.chain(providers) {
            let now = Seen {
                generation: generation.unwrap_or_default(),
                observed_generation,
                conditions,
            };
            let uid = uid.unwrap_or_default();
            let broken = broken_rules(self.judged.get(&uid), &now);
            assert!(
                broken.is_empty(),
                "{}: {name}: {broken:?}: {now:?}",
                self.trial
            );
            self.judged.insert(uid, now);
        }
        let broken = self.witness.broken();
        assert!(
            broken.is_empty(),
            "{}: {broken:?}\n{}",
            self.trial,
            self.told()
        );
        let unknown = self.server.misunderstood();
        assert!(unknown.is_empty(), "{}: {unknown:?}", self.trial);
    }

    /// A bucket as it is, but for what differs from run to run.
    pub fn bucket_without_nonce(&self, name: &BucketName) -> Option<Bucket> {
        let mut bucket = self.cloud.bucket(name)?;
        if let Some(nonce) = bucket.tags.0.get_mut(CREATION_TAG) {
            *nonce = "a nonce".to_owned();
        }
        Some(bucket)
    }

    /// Everything in the store, a line for each bucket; nonces are left out.
    pub fn inventory(&self) -> String {
        let mut lines = String::new();
        for name in self.cloud.bucket_names() {
            let bucket = self.bucket_without_nonce(&name).unwrap();
            let objects: Vec<_> = bucket.objects.keys().collect();
            writeln!(
                lines,
                "{name} of {}: tags {:?}, rules {:?}, objects {objects:?}, policy {:?}, public access blocked: {}, \
                 owner enforced: {}, versioning {:?}, encryption {:?}",
                bucket.owner,
                bucket.tags.0,
                bucket.rules,
                bucket.policy,
                bucket.public_access_blocked,
                bucket.owner_enforced,
                bucket.versioning,
                bucket.encryption
            )
            .unwrap();
        }
        let roles = self.cloud.edit_roles_by_hand(|roles| roles.clone());
        for (name, role) in roles {
            writeln!(lines, "{name}: {role:?}").unwrap();
        }
        lines
    }

    /// The store and every status, without what differs from run to run: times and nonces.
    pub fn end_state(&self) -> String {
        let mut lines = self.inventory();
        let mut add = |name: String, spec: Value, mut status: Value| {
            forget(&mut status, &["lastTransitionTime", "created"]);
            writeln!(lines, "{name}: {spec} {status:#}").unwrap();
        };
        for hub in self.server.list::<HubStorage>() {
            add(name_of(&hub), json!(hub.spec), json!(hub.status));
        }
        for provider in self.server.list::<StorageProvider>() {
            add(name_of(&provider), Value::Null, json!(provider.status));
        }
        for user in self.server.list::<HubUser>() {
            add(name_of(&user), json!(user.spec), json!(user.status));
        }
        lines
    }

    /// Asserts that nothing was made twice, and nothing left behind that nobody knows of.
    pub fn ended_well(&self) {
        let mut made = self.witness.created().into_iter();
        let twice = made.find(|(_, times)| *times > 1);
        assert_eq!(twice, None, "{}: made twice", self.trial);
        let is_there = !self.server.list::<HubStorage>().is_empty();
        let orphans = self.orphans();
        assert!(
            !is_there || orphans.is_empty(),
            "{}: {orphans:?}",
            self.trial
        );
    }

    /// Buckets and roles that we made or marked, but that stand in no status: nobody would ever find them.
    pub fn orphans(&self) -> Vec<String> {
        let hubs = self.server.list::<HubStorage>();
        let known: Vec<&str> = hubs
            .iter()
            .flat_map(|hub| &hub.status)
            .flat_map(|status| &status.buckets)
            .map(|bucket| bucket.bucket_name.as_str())
            .collect();
        let made = self.witness.created();
        let statuses = hubs.iter().flat_map(|hub| &hub.status);
        let known_roles: Vec<&str> = statuses
            .flat_map(|status| &status.role)
            .map(|role| role.name.as_str())
            .collect();
        let is_of_us = |(name, role): &(RoleName, FoundRole)| {
            let owner = role.owner.as_ref();
            owner.is_some_and(|owner| owner.starts_with(INSTALLATION))
                && !known_roles.contains(&name.as_str())
        };
        let roles = self.cloud.edit_roles_by_hand(|roles| roles.clone());
        let roles = roles.into_iter().filter(is_of_us);
        let roles = roles.map(|(name, _)| name.to_string());
        let is_ours = |name: &BucketName| {
            let tags = self.cloud.bucket(name).unwrap().tags;
            let marked = tags
                .get(OWNER_TAG)
                .is_some_and(|owner| owner.starts_with(INSTALLATION));
            marked || made.contains_key(name)
        };
        let names = self
            .cloud
            .bucket_names()
            .into_iter()
            .filter(is_ours)
            .map(|name| name.to_string());
        let buckets = names.filter(|name| !known.contains(&name.as_str()));
        buckets.chain(roles).collect()
    }

    /// A hub as it is now.
    pub fn hub(&self, hub: &HubStorage) -> HubStorage {
        self.server.get(hub).expect("the hub is there")
    }

    /// A condition of a hub.
    pub fn condition(&self, hub: &HubStorage, type_: ConditionType) -> Condition {
        let status = self.hub(hub).status.unwrap_or_default();
        condition(&status.conditions, type_)
            .unwrap_or_else(|| panic!("no condition {type_}: {status:?}"))
            .clone()
    }

    /// Asserts what a condition of a hub says; its message has to hold all of `words`.
    pub fn says(
        &self,
        hub: &HubStorage,
        type_: ConditionType,
        status: &str,
        reason: Reason,
        words: &[&str],
    ) {
        assert_says(&self.condition(hub, type_), status, reason, words);
    }

    /// The same of the provider.
    pub fn provider_says(
        &self,
        type_: ConditionType,
        status: &str,
        reason: Reason,
        words: &[&str],
    ) {
        let providers = self.server.list::<StorageProvider>();
        let provider = providers
            .iter()
            .find(|provider| provider.name_any() == PROVIDER)
            .unwrap();
        let known = provider.status.clone().unwrap_or_default();
        assert_says(
            condition(&known.conditions, type_).expect("the condition is there"),
            status,
            reason,
            words,
        );
    }

    /// When hubs were last compared with the store, as the metrics tell it.
    pub fn last_check(&self) -> String {
        let metrics = self.metrics();
        let lines = metrics
            .lines()
            .filter(|line| line.contains("last_check_timestamp_seconds{"));
        lines.collect()
    }

    /// All metrics, as they are scraped.
    pub fn metrics(&self) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        let context = &self.controller.context;
        let homes = HomeMetrics(context.usage.clone());
        context.metrics.register(homes, &mut registry);
        encode(&mut text, &registry).unwrap();
        text
    }

    pub fn is_ready(&self, hub: &HubStorage) -> bool {
        self.condition(hub, ConditionType::Ready).status == "True"
    }
}

fn assert_says(condition: &Condition, status: &str, reason: Reason, words: &[&str]) {
    assert_eq!(
        (condition.status.as_str(), condition.reason.as_str()),
        (status, reason.to_string().as_str()),
        "{condition:?}"
    );
    for word in words {
        assert!(
            condition.message.contains(word),
            "{word:?} is not in: {}",
            condition.message
        );
    }
}

/// Takes these fields out of everything in `value`.
pub fn forget(value: &mut Value, fields: &[&str]) {
    match value {
        Value::Object(object) => {
            object.retain(|name, _| !fields.contains(&name.as_str()));
            object.values_mut().for_each(|value| forget(value, fields));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| forget(item, fields)),
        _ => {}
    }
}
