//! The store that the controller connects to: in memory, watched for broken promises.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use hubstorage::providers::{Connect, ConnectError, VendingSide};
use hubstorage_cloud::faults::Faulty;
use hubstorage_cloud::memory::{MemoryCloud, MemoryStore};
use hubstorage_cloud::{CloudError, Creation, ObjectStore, Tags, Unclaimed};
use hubstorage_core::api::{FINALIZER, HubStorage, StorageProvider};
use hubstorage_core::lifecycle::{Effect, Rule};
use hubstorage_core::names::BucketName;
use kube::ResourceExt as _;

use crate::api_server::{ApiServer, Faults};
use crate::fixtures::ACCOUNT;

/// Stands between the controller and the store, and notes every promise that it breaks:
/// a call without a finalizer, a bucket made without an intent in status.
#[derive(Clone)]
pub struct Witness {
    server: ApiServer,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    created: BTreeMap<BucketName, usize>,
    broken: Vec<String>,
}

impl Witness {
    pub fn new(server: ApiServer) -> Self {
        Self {
            server,
            seen: Arc::default(),
        }
    }

    /// How often each bucket was made.
    pub fn created(&self) -> BTreeMap<BucketName, usize> {
        self.seen.lock().unwrap().created.clone()
    }

    /// Starts counting anew.
    pub fn forget(&self) {
        self.seen.lock().unwrap().created.clear();
    }

    /// Promises that were broken.
    pub fn broken(&self) -> Vec<String> {
        self.seen.lock().unwrap().broken.clone()
    }

    fn note(&self, broken: String) {
        self.seen.lock().unwrap().broken.push(broken);
    }

    fn called(&self, call: &str, bucket: &BucketName) {
        let hubs = self.server.list::<HubStorage>();
        if !hubs
            .iter()
            .any(|hub| hub.finalizers().contains(&FINALIZER.to_owned()))
        {
            self.note(format!(
                "{call} {bucket} was called while no HubStorage held the finalizer"
            ));
        }
    }

    fn creating(&self, bucket: &BucketName) {
        let hubs = self.server.list::<HubStorage>();
        let mut known = hubs
            .iter()
            .flat_map(|hub| &hub.status)
            .flat_map(|status| &status.buckets);
        if !known.any(|known| known.bucket_name == bucket.as_str() && known.creation.is_some()) {
            self.note(format!(
                "{bucket} was about to be created, and no status said so"
            ));
        }
    }
}

/// Connects to the cloud in memory, under the faults of the world.
pub struct Connection {
    pub cloud: MemoryCloud,
    pub faults: Faults,
    pub witness: Witness,
}

#[async_trait]
impl Connect for Connection {
    async fn store(
        &self,
        provider: &StorageProvider,
    ) -> Result<Arc<dyn ObjectStore>, ConnectError> {
        if provider.spec.s3.is_none() {
            let provider = provider.name_any();
            return Err(ConnectError::Unsupported { provider });
        }
        let watched = Watched {
            inner: self.cloud.store(ACCOUNT),
            cloud: self.cloud.clone(),
            witness: self.witness.clone(),
        };
        let plan = self.faults.lock().unwrap().clone();
        Ok(Arc::new(Faulty::new(watched, plan)))
    }

    async fn vending(&self, provider: &StorageProvider) -> Result<VendingSide, ConnectError> {
        let provider = provider.name_any();
        Err(ConnectError::NoVending { provider })
    }
}

struct Watched {
    inner: MemoryStore,
    cloud: MemoryCloud,
    witness: Witness,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

impl Watched {
    async fn called(&self, call: &str, bucket: &BucketName) -> &MemoryStore {
        // Gives a second controller its turn between any two calls.
        tokio::task::yield_now().await;
        self.witness.called(call, bucket);
        &self.inner
    }
}

#[async_trait]
impl ObjectStore for Watched {
    async fn check_access(&self) -> Result<(), CloudError> {
        self.inner.check_access().await
    }

    async fn bucket_tags(&self, bucket: &BucketName) -> Result<Option<Tags>, CloudError> {
        self.called("bucket_tags", bucket)
            .await
            .bucket_tags(bucket)
            .await
    }

    async fn lifecycle_rules(&self, bucket: &BucketName) -> Result<Vec<Rule<()>>, CloudError> {
        self.called("lifecycle_rules", bucket)
            .await
            .lifecycle_rules(bucket)
            .await
    }

    async fn unclaimed(&self, bucket: &BucketName) -> Result<Unclaimed, CloudError> {
        self.called("unclaimed", bucket)
            .await
            .unclaimed(bucket)
            .await
    }

    async fn create_bucket(
        &self,
        bucket: &BucketName,
        tags: &Tags,
    ) -> Result<Creation, CloudError> {
        let store = self.called("create_bucket", bucket).await;
        self.witness.creating(bucket);
        let is_new = self.cloud.bucket(bucket).is_none();
        let creation = store.create_bucket(bucket, tags).await?;
        if is_new {
            let mut seen = self.witness.seen.lock().unwrap();
            *seen.created.entry(bucket.clone()).or_default() += 1;
        }
        Ok(creation)
    }

    async fn set_bucket_tags(&self, bucket: &BucketName, tags: &Tags) -> Result<(), CloudError> {
        self.called("set_bucket_tags", bucket)
            .await
            .set_bucket_tags(bucket, tags)
            .await
    }

    async fn set_lifecycle_rules(
        &self,
        bucket: &BucketName,
        declared: &[Effect],
    ) -> Result<(), CloudError> {
        self.called("set_lifecycle_rules", bucket)
            .await
            .set_lifecycle_rules(bucket, declared)
            .await
    }
}
