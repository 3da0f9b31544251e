//! Connections to real stores, with keys from Secrets.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use hubstorage_cloud::Layered;
use hubstorage_cloud::ObjectStore;
use hubstorage_cloud::budget::{Budget, Budgeted};
use hubstorage_cloud::s3::{S3Probe, S3Store, StsSource};
use hubstorage_core::api::{SYSTEM_NAMESPACE, StorageProvider, VENDING_NAMESPACE};
use kube::{Client, ResourceExt as _};
use moka::future::Cache;

use super::kept::{IDLE, Kept};
use super::keys::KeySource;
use super::s3::{config, invalid, s3_of};
use super::{Connect, ConnectError, SecretVersions, VendingSide, refuse_moved};

/// Connections to real stores.
pub struct Connections {
    client: Client,
    secrets: SecretVersions,
    stores: Kept<ManagingSide>,
    vending: Kept<VendingSide>,
    /// By the provider's UID. They outlast connections: with other keys it is the same store.
    budgets: Cache<String, Budget>,
}

/// The managing side of a provider.
#[derive(Clone)]
struct ManagingSide {
    store: Arc<dyn ObjectStore>,
    /// Whose its keys are, once the store has said so: they stay with their account.
    account: Arc<OnceLock<Option<String>>>,
}

impl ManagingSide {
    async fn account(&self) -> Result<Option<&str>, ConnectError> {
        let account = match self.account.get() {
            Some(known) => known,
            None => {
                // Several may ask at the same time; none waits for one whose call hangs.
                let told = self.store.check_access().await?;
                self.account.get_or_init(|| told)
            }
        };
        Ok(account.as_deref())
    }
}

impl Connections {
    /// No connection yet. `secrets` are those of the side that is connected to.
    pub fn new(client: Client, secrets: SecretVersions) -> Self {
        Self {
            client,
            secrets,
            stores: Kept::default(),
            vending: Kept::default(),
            budgets: Cache::builder().time_to_idle(IDLE).build(),
        }
    }

    async fn budget(&self, provider: &StorageProvider) -> Budget {
        let uid = provider.uid().unwrap_or_default();
        self.budgets
            .get_with(uid, async { Budget::default() })
            .await
    }
}

#[async_trait]
impl Connect for Connections {
    async fn store(
        &self,
        provider: &StorageProvider,
    ) -> Result<Arc<dyn ObjectStore>, ConnectError> {
        let s3 = s3_of(provider)?;
        // Keys of the one store are not shown to another.
        refuse_moved(provider, None)?;
        let keys = KeySource {
            provider,
            field: "spec.s3.credentials",
            namespace: SYSTEM_NAMESPACE,
            credentials: &s3.credentials,
        };
        let make = async || {
            let (keys, version) = keys.read(&self.client).await?;
            let connected = S3Store::connect(&config(provider, s3, keys)?).await;
            let connected = connected.map_err(|error| invalid(provider, &error))?;
            let side = ManagingSide {
                store: Arc::new(Layered::new(
                    Arc::new(connected),
                    self.budget(provider).await,
                )),
                account: Arc::default(),
            };
            Ok((version, side))
        };
        let current = keys.current(&self.secrets);
        let side = self.stores.get_or_make(provider, current, make).await?;
        refuse_moved(provider, side.account().await?)?;
        Ok(side.store)
    }

    async fn vending(&self, provider: &StorageProvider) -> Result<VendingSide, ConnectError> {
        let s3 = s3_of(provider)?;
        let none = || ConnectError::NoVending {
            provider: provider.name_any(),
        };
        let vending = s3.vending.as_ref().ok_or_else(none)?;
        let keys = KeySource {
            provider,
            field: "spec.s3.vending.credentials",
            namespace: VENDING_NAMESPACE,
            credentials: &vending.credentials,
        };
        let make = async || {
            let (keys, version) = keys.read(&self.client).await?;
            let config = config(provider, s3, keys)?;
            let role = &vending.role.arn;
            let source = StsSource::connect(&config, role.clone())
                .await
                .map_err(|error| invalid(provider, &error))?;
            let probe =
                S3Probe::new(&config, role.clone()).map_err(|error| invalid(provider, &error))?;
            let side = VendingSide {
                source: Arc::new(Budgeted::new(source, self.budget(provider).await)),
                probe: Arc::new(probe),
                secret_version: version.clone(),
            };
            Ok((version, side))
        };
        let current = keys.current(&self.secrets);
        self.vending.get_or_make(provider, current, make).await
    }
}
