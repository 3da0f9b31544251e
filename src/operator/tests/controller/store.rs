//! The store that the controller connects to: in memory, watched for broken promises.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use hubstorage::providers::{Connect, ConnectError, ManagingSide, VendingSide, refuse_moved};
use hubstorage_cloud::memory::MemoryCloud;
use hubstorage_cloud::{CloudError, Layer, Layered, Operation};
use hubstorage_core::api::{FINALIZER, HubStorage, Mode, StorageProvider};
use hubstorage_core::names::BucketName;
use kube::ResourceExt as _;

use crate::api_server::{ApiServer, Faults};

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
    reads_are_free: bool,
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

    /// From here on only writes need a finalizer: where the controller may still see a hub in mode Observe
    /// that is in another one by now.
    pub fn let_read(&self) {
        self.seen.lock().unwrap().reads_are_free = true;
    }

    /// Promises that were broken.
    pub fn broken(&self) -> Vec<String> {
        self.seen.lock().unwrap().broken.clone()
    }

    fn note(&self, broken: String) {
        self.seen.lock().unwrap().broken.push(broken);
    }

    fn called(&self, call: Operation, what: &str) {
        let hubs = self.server.list::<HubStorage>();
        let reads_are_free = self.seen.lock().unwrap().reads_are_free;
        // Whoever only observes leaves nothing behind, and needs no finalizer for that.
        let may = |hub: &HubStorage| match hub.spec.mode {
            Mode::Observe if !call.is_write() => true,
            _ => hub.finalizers().contains(&FINALIZER.to_owned()),
        };
        let is_free = reads_are_free && !call.is_write();
        if !is_free && !hubs.iter().any(may) {
            self.note(format!(
                "{call} {what} was called while no HubStorage held the finalizer"
            ));
        }
    }

    fn creating_role(&self) {
        let hubs = self.server.list::<HubStorage>();
        let mut known = hubs.iter().flat_map(|hub| &hub.status);
        if !known.any(|status| status.role.is_some()) {
            self.note("a role was about to be created, and no status said so".to_owned());
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
    /// Whose the keys are.
    pub account: Arc<Mutex<String>>,
}

#[async_trait]
impl Connect for Connection {
    async fn managing(&self, provider: &StorageProvider) -> Result<ManagingSide, ConnectError> {
        if provider.spec.s3.is_none() {
            let provider = provider.name_any();
            return Err(ConnectError::Unsupported { provider });
        }
        let account = self.account.lock().unwrap().clone();
        refuse_moved(provider, Some(&account))?;
        let witnessed = Witnessed {
            cloud: self.cloud.clone(),
            witness: self.witness.clone(),
        };
        let roles = Arc::new(self.cloud.roles(&account));
        let roles = Layered::new(roles, witnessed.clone());
        let watched = Layered::new(Arc::new(self.cloud.store(&account)), witnessed);
        let plan = self.faults.lock().unwrap().clone();
        let roles = Arc::new(Layered::new(Arc::new(roles), plan.clone()));
        let ours = Arc::new(Layered::new(Arc::new(watched), plan));
        let others = Arc::new(Layered::new(ours.clone(), ReadOnly));
        Ok(ManagingSide {
            ours,
            others,
            roles,
        })
    }

    async fn vending(&self, provider: &StorageProvider) -> Result<VendingSide, ConnectError> {
        let provider = provider.name_any();
        Err(ConnectError::NoVending { provider })
    }
}

/// Nothing is written to what others keep.
#[derive(Debug)]
struct ReadOnly;

impl Layer for ReadOnly {
    async fn around<T: Send>(
        &self,
        operation: Operation,
        bucket: Option<&BucketName>,
        call: impl Future<Output = Result<T, CloudError>> + Send,
    ) -> Result<T, CloudError> {
        assert!(!operation.is_write(), "{operation} of {bucket:?}");
        call.await
    }
}

/// Has every call seen by the witness.
#[derive(Clone)]
struct Witnessed {
    cloud: MemoryCloud,
    witness: Witness,
}

impl std::fmt::Debug for Witnessed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.cloud.fmt(f)
    }
}

impl Layer for Witnessed {
    async fn around<T: Send>(
        &self,
        operation: Operation,
        bucket: Option<&BucketName>,
        call: impl Future<Output = Result<T, CloudError>> + Send,
    ) -> Result<T, CloudError> {
        let is_of_role = operation.permission().starts_with("iam:");
        let Some(bucket) = bucket else {
            if is_of_role {
                tokio::task::yield_now().await;
                self.witness.called(operation, "of a role");
            }
            if operation == Operation::CreateRole {
                self.witness.creating_role();
            }
            return call.await;
        };
        // Gives a second controller its turn between any two calls.
        tokio::task::yield_now().await;
        self.witness.called(operation, bucket.as_str());
        if operation != Operation::CreateBucket {
            return call.await;
        }
        self.witness.creating(bucket);
        let is_new = self.cloud.bucket(bucket).is_none();
        let created = call.await?;
        if is_new {
            let mut seen = self.witness.seen.lock().unwrap();
            *seen.created.entry(bucket.clone()).or_default() += 1;
        }
        Ok(created)
    }
}
