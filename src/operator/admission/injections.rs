//! What pods of each namespace are given, in memory.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use futures::{FutureExt as _, Stream, StreamExt as _};
use hubstorage_core::api::{Bucket, HubStorage, StorageProvider};
use hubstorage_core::hubs::hub_of_namespace;
use hubstorage_core::injection::HubInjection;
use hubstorage_core::names::BucketName;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

/// By namespace.
pub type ByNamespace = HashMap<String, Arc<HubInjection>>;

/// Why there is no answer yet.
pub(super) const NOT_READ: &str = "HubStorages and StorageProviders have not been read yet";

/// Changes that are taken together: one map is built for all that wait.
const AT_ONCE: usize = 1024;

/// What pods are given at the moment.
#[derive(Debug, Default)]
pub struct Injections {
    current: ArcSwapOption<ByNamespace>,
}

impl Injections {
    /// Follows HubStorages and StorageProviders until `stop`.
    pub fn keep(client: Client, stop: CancellationToken) -> Arc<Self> {
        let injections = Arc::new(Self::default());
        let kept = injections.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = kept.follow(client) => {}
            }
        });
        injections
    }

    /// What pods are given; `None` until everything was read once.
    pub fn current(&self) -> Option<Arc<ByNamespace>> {
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

    pub(super) fn replace(&self, injections: ByNamespace) {
        self.current.store(Some(Arc::new(injections)));
    }

    async fn follow(&self, client: Client) {
        let (hubs, hub_changes) = watched::<HubStorage>(client.clone());
        let (providers, provider_changes) = watched::<StorageProvider>(client);
        let all = futures::stream::select(hub_changes, provider_changes);
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
                self.replace(build(&hubs.state(), &providers.state()));
            }
        }
    }
}

fn watched<K>(client: Client) -> (Store<K>, impl Stream<Item = ()> + Send)
where
    K: Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (store, writer) = reflector::store();
    let changes = watcher(Api::<K>::all(client), watcher::Config::default())
        .default_backoff()
        .modify(|object| object.managed_fields_mut().clear())
        .reflect(writer)
        .map(|event| {
            if let Err(error) = event {
                tracing::warn!(kind = %K::kind(&()), %error, "a watch was interrupted");
            }
        });
    (store, changes)
}

/// What pods of each namespace are given: those whose HubStorage has buckets in the store.
fn build(hubs: &[Arc<HubStorage>], providers: &[Arc<StorageProvider>]) -> ByNamespace {
    let providers: HashMap<String, &StorageProvider> = providers
        .iter()
        .map(|provider| (provider.name_any(), provider.as_ref()))
        .collect();
    let mut by_namespace: HashMap<String, Vec<&HubStorage>> = HashMap::new();
    for hub in hubs {
        by_namespace
            .entry(hub.namespace().unwrap_or_default())
            .or_default()
            .push(hub);
    }
    by_namespace
        .into_iter()
        .filter_map(|(namespace, hubs)| {
            let hub = hub_of_namespace(&hubs)?;
            let injection = injection(hub, providers.get(&hub.spec.provider_ref.name).copied()?)?;
            Some((namespace, Arc::new(injection)))
        })
        .collect()
}

fn injection(hub: &HubStorage, provider: &StorageProvider) -> Option<HubInjection> {
    let s3 = provider.spec.s3.as_ref()?;
    let store = s3.store();
    let buckets: Vec<(Bucket, BucketName)> = hub
        .spec
        .buckets
        .iter()
        .filter_map(|bucket| Some((bucket.clone(), name_in_store(hub, bucket, &store)?)))
        .collect();
    if buckets.is_empty() {
        return None;
    }
    HubInjection::new(hub, &buckets, s3)
        .inspect_err(|error| {
            let (namespace, name) = (hub.namespace().unwrap_or_default(), hub.name_any());
            tracing::warn!(namespace, name, %error, "pods of this HubStorage are given nothing");
        })
        .ok()
}

/// As the controller wrote it down: a bucket that it refuses, or has not made yet, is given to nobody.
fn name_in_store(hub: &HubStorage, bucket: &Bucket, store: &str) -> Option<BucketName> {
    let mut existing = hub.status.as_ref()?.existing_buckets(store);
    let known = existing.find(|known| known.name == bucket.name)?;
    BucketName::parse(&known.bucket_name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn hub(namespace: &str, name: &str, created: &str, status: Value) -> Arc<HubStorage> {
        Arc::new(
            serde_json::from_value(json!({
                "apiVersion": "hubstorage.io/v1alpha1",
                "kind": "HubStorage",
                "metadata": {"namespace": namespace, "name": name, "creationTimestamp": created},
                "spec": {
                    "providerRef": {"name": "minio"},
                    "buckets": [{"name": "scratch", "env": [{"name": "SCRATCH_BUCKET"}]}],
                },
                "status": status,
            }))
            .unwrap(),
        )
    }

    fn provider() -> Arc<StorageProvider> {
        Arc::new(
            serde_json::from_value(json!({
                "apiVersion": "hubstorage.io/v1alpha1",
                "kind": "StorageProvider",
                "metadata": {"name": "minio"},
                "spec": {
                    "namespaces": {},
                    "bucketNames": ["*"],
                    "s3": {"region": "us-east-1", "credentials": {"type": "Ambient"}},
                },
            }))
            .unwrap(),
        )
    }

    fn with_bucket(name: &str) -> Value {
        json!({"buckets": [{"name": "scratch", "bucketName": name, "store": "Amazon S3 us-east-1"}]})
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
        assert!(build(&[before], &[provider()]).is_empty());
        assert!(build(&[after], &[provider()]).contains_key("earth"));
    }

    #[test]
    fn a_hub_without_its_provider_gives_nothing() {
        let hub = hub(
            "earth",
            "earth",
            "2026-01-01T00:00:00Z",
            with_bucket("earth-scratch"),
        );
        assert!(build(&[hub], &[]).is_empty());
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
        assert!(build(&[younger, older], &[provider()]).is_empty());
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
        injections.replace(ByNamespace::new());
        assert_eq!(injections.check(), Ok(()));
    }
}
