//! What pods and claims of each namespace are given, in memory.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use futures::{FutureExt as _, StreamExt as _};
use hubstorage_core::api::{Bucket, HubStorage, S3Provider, StorageProvider};
use hubstorage_core::homes::HomeAdmission;
use hubstorage_core::hubs::hub_of_namespace;
use hubstorage_core::injection::{HubInjection, InvalidSelector};
use hubstorage_core::names::BucketName;
use kube::core::DeserializeGuard;
use kube::{Client, ResourceExt as _};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::Metrics;
use crate::informer::Informer;
use crate::pulse::{Cadence, Pulses};

/// What pods are given, by namespace.
pub type ByNamespace = HashMap<String, Arc<HubInjection>>;

/// What new claims go by, by namespace.
pub type Homes = HashMap<String, Arc<HomeAdmission>>;

/// What everything goes by that is admitted.
#[derive(Debug, Default)]
pub struct Given {
    /// For pods.
    pub pods: ByNamespace,
    /// For claims.
    pub homes: Homes,
}

/// Why there is no answer yet.
pub(super) const NOT_READ: &str = "HubStorages and StorageProviders have not been read yet";

/// Changes that are taken together: one map is built for all that wait.
const AT_ONCE: usize = 1024;

/// What pods are given at the moment.
#[derive(Debug, Default)]
pub struct Injections {
    current: ArcSwapOption<Given>,
    pulses: Pulses,
}

/// An object, or why this build cannot read it: such a one is not taken for absent.
type Guarded<K> = Arc<DeserializeGuard<K>>;

impl Injections {
    /// Follows HubStorages and StorageProviders until `stop`. Pods find the agent at `agent`.
    pub fn keep(
        client: Client,
        agent: Url,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let injections = Arc::new(Self::default());
        let kept = injections.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = kept.follow(client, &agent, &metrics) => {}
            }
        });
        injections
    }

    /// What is given; `None` until everything was read once.
    pub fn current(&self) -> Option<Arc<Given>> {
        self.current.load_full()
    }

    /// Why nothing is known yet, for readiness.
    ///
    /// # Errors
    /// Says what is awaited.
    pub fn check(&self) -> Result<(), String> {
        match &*self.current.load() {
            Some(_) => Ok(()),
            None => Err(NOT_READ.to_owned()),
        }
    }

    /// Whether what pods are given is what is declared now. Where it is not, the webhook goes on
    /// with what it last saw: a pod that is given what was declared minutes ago has its storage,
    /// one that no webhook sees has none.
    ///
    /// # Errors
    /// Says which watch has gone silent.
    pub fn is_current(&self) -> Result<(), String> {
        self.pulses.check()
    }

    pub(super) fn replace(&self, given: Given) {
        self.current.store(Some(Arc::new(given)));
    }

    async fn follow(&self, client: Client, agent: &Url, metrics: &Metrics) {
        let cadence = Cadence::default();
        let (hubs, hub_changes) =
            Informer::<DeserializeGuard<HubStorage>>::guarded(&client, &cadence, &self.pulses)
                .reflected();
        let (providers, provider_changes) =
            Informer::<DeserializeGuard<StorageProvider>>::guarded(&client, &cadence, &self.pulses)
                .reflected();
        let all = futures::stream::select(hub_changes.map(drop), provider_changes.map(drop));
        let mut changes = std::pin::pin!(all.ready_chunks(AT_ONCE));
        while changes.next().await.is_some() {
            let are_read = hubs
                .wait_until_ready()
                .now_or_never()
                .is_some_and(|hubs| hubs.is_ok())
                && providers
                    .wait_until_ready()
                    .now_or_never()
                    .is_some_and(|providers| providers.is_ok());
            if are_read {
                let (hubs, providers) = (hubs.state(), providers.state());
                metrics.unreadable("HubStorage", unreadable(&hubs));
                metrics.unreadable("StorageProvider", unreadable(&providers));
                self.replace(build(&hubs, &providers, agent));
            }
        }
    }
}

fn unreadable<K>(objects: &[Guarded<K>]) -> usize {
    objects.iter().filter(|object| object.0.is_err()).count()
}

/// What is given in each namespace: to pods of those whose HubStorage has buckets in the store, and to claims of
/// those whose HubStorage declares homes.
fn build(
    hubs: &[Guarded<HubStorage>],
    providers: &[Guarded<StorageProvider>],
    agent: &Url,
) -> Given {
    let providers: HashMap<String, &StorageProvider> = providers
        .iter()
        .filter_map(|provider| Some((provider.name_any(), provider.0.as_ref().ok()?)))
        .collect();
    let mut by_namespace: HashMap<String, Vec<Option<&HubStorage>>> = HashMap::new();
    for hub in hubs {
        by_namespace
            .entry(hub.namespace().unwrap_or_default())
            .or_default()
            .push(hub.0.as_ref().ok());
    }
    let mut given = Given::default();
    for (namespace, hubs) in by_namespace {
        // One that cannot be read may be the one that counts.
        let hubs: Option<Vec<&HubStorage>> = hubs.into_iter().collect();
        let Some(hub) = hubs.as_deref().and_then(hub_of_namespace) else {
            continue;
        };
        if let Some(homes) = HomeAdmission::of(hub) {
            given.homes.insert(namespace.clone(), Arc::new(homes));
        }
        let provider = providers.get(&hub.spec.provider_ref.name);
        let injection = injection(hub, provider.copied(), agent).inspect_err(|error| {
            let name = hub.name_any();
            tracing::warn!(namespace, name, %error, "pods of this HubStorage are given nothing");
        });
        if let Ok(Some(injection)) = injection {
            given.pods.insert(namespace, Arc::new(injection));
        }
    }
    given
}

/// What pods of a hub are given; of one that has no bucket at its provider, the folders that are on no store.
fn injection(
    hub: &HubStorage,
    provider: Option<&StorageProvider>,
    agent: &Url,
) -> Result<Option<HubInjection>, InvalidSelector> {
    let s3 = provider.and_then(|provider| provider.spec.s3.as_ref());
    let at_store = s3.map(|s3| (s3, existing(hub, s3)));
    match at_store.filter(|(_, buckets)| !buckets.is_empty()) {
        Some((s3, buckets)) => HubInjection::new(hub, &buckets, s3, agent.as_str()).map(Some),
        None => HubInjection::of_folders(hub),
    }
}

/// The buckets of a hub that exist at this store, with their names there.
fn existing(hub: &HubStorage, s3: &S3Provider) -> Vec<(Bucket, BucketName)> {
    let store = s3.store();
    let declared = hub.spec.buckets.iter();
    declared
        .filter_map(|bucket| Some((bucket.clone(), name_in_store(hub, bucket, &store)?)))
        .collect()
}

/// As the controller wrote it down: a bucket that it refuses, has not made yet, or has not seen at
/// this store, is given to nobody.
fn name_in_store(hub: &HubStorage, bucket: &Bucket, store: &str) -> Option<BucketName> {
    let mut existing = hub.status.as_ref()?.existing_buckets(store);
    let known = existing.find(|known| known.name == bucket.name)?;
    BucketName::parse(&known.bucket_name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubstorage_core::injection::AGENT_URL;
    use serde_json::{Value, json};

    fn hub(namespace: &str, name: &str, created: &str, status: Value) -> Guarded<HubStorage> {
        hub_with(namespace, name, created, status, json!({}))
    }

    fn hub_with(
        namespace: &str,
        name: &str,
        created: &str,
        status: Value,
        users: Value,
    ) -> Guarded<HubStorage> {
        Arc::new(
            serde_json::from_value(json!({
                "apiVersion": "hubstorage.io/v1alpha1",
                "kind": "HubStorage",
                "metadata": {"namespace": namespace, "name": name, "creationTimestamp": created},
                "spec": {
                    "providerRef": {"name": "minio"},
                    "users": users,
                    "buckets": [{"name": "scratch", "env": [{"name": "SCRATCH_BUCKET"}]}],
                },
                "status": status,
            }))
            .unwrap(),
        )
    }

    /// A hub that a newer version of the operator understands.
    fn unreadable_hub(namespace: &str, created: &str) -> Guarded<HubStorage> {
        let status = with_bucket("mars-scratch");
        let hub = hub_with(
            namespace,
            "z",
            created,
            status,
            json!({"prefixScheme": "Reversed"}),
        );
        assert!(hub.0.is_err());
        hub
    }

    fn provider() -> Guarded<StorageProvider> {
        provider_at(json!({}))
    }

    fn provider_at(extra: Value) -> Guarded<StorageProvider> {
        let mut s3 = json!({"region": "us-east-1", "credentials": {"type": "Ambient"}});
        let fields = extra.as_object().cloned().unwrap();
        s3.as_object_mut().unwrap().extend(fields);
        Arc::new(
            serde_json::from_value(json!({
                "apiVersion": "hubstorage.io/v1alpha1",
                "kind": "StorageProvider",
                "metadata": {"name": "minio"},
                "spec": {"namespaces": {}, "bucketNames": ["*"], "s3": s3},
            }))
            .unwrap(),
        )
    }

    fn with_bucket(name: &str) -> Value {
        json!({"buckets": [{"name": "scratch", "bucketName": name, "store": "Amazon S3 us-east-1"}]})
    }

    fn built(hubs: &[Guarded<HubStorage>], providers: &[Guarded<StorageProvider>]) -> Vec<String> {
        let given = build(hubs, providers, &AGENT_URL.parse().unwrap());
        let mut namespaces: Vec<String> = given.pods.into_keys().collect();
        namespaces.sort();
        namespaces
    }

    #[test]
    fn a_hub_counts_from_when_its_buckets_are_known() {
        let before = hub("earth", "earth", "2026-01-01T00:00:00Z", json!({}));
        let after = hub(
            "earth",
            "earth",
            "2026-01-01T00:00:00Z",
            with_bucket("earth-scratch"),
        );
        assert!(built(&[before], &[provider()]).is_empty());
        assert_eq!(built(&[after], &[provider()]), ["earth"]);
    }

    #[test]
    fn a_bucket_that_nobody_has_seen_at_the_store_that_the_provider_points_to_now_is_not_given() {
        let seen = with_bucket("earth-scratch");
        let hub = hub("earth", "earth", "2026-01-01T00:00:00Z", seen);
        let moved = provider_at(json!({"endpoint": "https://other.example.org"}));
        assert!(built(&[hub], &[moved]).is_empty());
    }

    #[test]
    fn folders_are_given_whether_or_not_there_is_a_bucket_or_a_provider() {
        let folder = json!({"name": "shared", "claimName": "nfs", "mountPath": "/shared"});
        let status = json!({"shared": [{"name": "shared", "claimName": "nfs"}]});
        let created = "2026-01-01T00:00:00Z";
        let mut hub = hub("earth", "earth", created, status).0.clone().unwrap();
        hub.spec.shared = vec![serde_json::from_value(folder).unwrap()];
        let with = Arc::new(DeserializeGuard(Ok(hub.clone())));
        assert_eq!(built(std::slice::from_ref(&with), &[]), ["earth"]);
        assert_eq!(built(&[with], &[provider()]), ["earth"]);
        hub.status = None;
        let unseen = Arc::new(DeserializeGuard(Ok(hub)));
        assert!(built(&[unseen], &[]).is_empty());
    }

    #[test]
    fn a_hub_without_its_provider_gives_nothing() {
        let hub = hub(
            "earth",
            "earth",
            "2026-01-01T00:00:00Z",
            with_bucket("earth-scratch"),
        );
        assert!(built(&[hub], &[]).is_empty());
    }

    #[test]
    fn of_two_hubs_in_a_namespace_the_older_counts_alone() {
        let older = hub("earth", "b", "2026-01-01T00:00:00Z", json!({}));
        let younger = hub(
            "earth",
            "a",
            "2026-01-02T00:00:00Z",
            with_bucket("earth-scratch"),
        );
        assert!(built(&[younger, older], &[provider()]).is_empty());
    }

    #[test]
    fn homes_are_those_of_the_hub_that_counts_and_need_no_bucket_and_no_provider() {
        let with_home = |name: &str, created: &str, size: &str| {
            let mut hub: HubStorage = hub("earth", name, created, json!({})).0.clone().unwrap();
            let home = json!({"type": "Claim", "size": size});
            hub.spec.home = Some(serde_json::from_value(home).unwrap());
            Arc::new(DeserializeGuard(Ok(hub)))
        };
        let first = with_home("b", "2026-01-01T00:00:00Z", "10Gi");
        let second = with_home("a", "2026-01-02T00:00:00Z", "1Gi");
        let agent = AGENT_URL.parse().unwrap();
        let given = build(&[second.clone(), first.clone()], &[], &agent);
        assert_eq!(given.pods.len(), 0);
        let of_first = HomeAdmission::of(first.0.as_ref().unwrap());
        assert_eq!(given.homes.get("earth").map(Arc::as_ref), of_first.as_ref());

        let unread = unreadable_hub("earth", "2026-01-03T00:00:00Z");
        let given = build(&[second, first, unread], &[], &agent);
        assert_eq!(given.homes.len(), 0, "that one may be the one that counts");
    }

    #[test]
    fn an_unreadable_hub_costs_its_own_namespace_everything_and_others_nothing() {
        let created = "2026-01-01T00:00:00Z";
        let earth = hub("earth", "earth", created, with_bucket("earth-scratch"));
        let mars = hub("mars", "mars", created, with_bucket("mars-scratch"));
        let younger = unreadable_hub("mars", "2026-01-02T00:00:00Z");
        assert_eq!(built(&[earth, mars, younger], &[provider()]), ["earth"]);
    }

    #[test]
    fn an_unreadable_provider_costs_its_hubs_everything_and_is_counted() {
        let hub = hub(
            "earth",
            "earth",
            "2026-01-01T00:00:00Z",
            with_bucket("earth-scratch"),
        );
        let unread = provider_at(json!({"addressing": "Diagonal"}));
        assert_eq!(unreadable(std::slice::from_ref(&unread)), 1);
        assert_eq!(unreadable(&[provider()]), 0);
        assert!(built(&[hub], &[unread]).is_empty());
    }

    #[test]
    fn readiness_says_what_is_awaited_until_everything_was_read() {
        let injections = Injections::default();
        assert!(
            injections
                .check()
                .unwrap_err()
                .contains("not been read yet")
        );
        injections.replace(Given::default());
        assert_eq!(injections.check(), Ok(()));
    }
}
