//! Connections to real stores, with keys from Secrets.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use hubstorage_cloud::Layered;
use hubstorage_cloud::budget::{Budget, Budgeted};
use hubstorage_cloud::s3::{self, S3Probe, StsSource};
use hubstorage_core::api::{SYSTEM_NAMESPACE, StorageProvider, VENDING_NAMESPACE};
use kube::{Client, ResourceExt as _};
use moka::future::Cache;

use super::kept::{IDLE, Kept};
use super::keys::KeySource;
use super::s3::{config, invalid, s3_of};
use super::{Connect, ConnectError, ManagingSide, SecretVersions, VendingSide, refuse_moved};

/// Connections to real stores.
pub struct Connections {
    client: Client,
    secrets: SecretVersions,
    managing: Kept<Managing>,
    vending: Kept<VendingSide>,
    /// By the provider's UID. They outlast connections: with other keys it is the same store.
    budgets: Cache<String, Budget>,
}

/// The managing side of a provider, as it is kept.
#[derive(Clone)]
struct Managing {
    side: ManagingSide,
    /// Whose its keys are, once the store has said so: they stay with their account.
    account: Arc<OnceLock<Option<String>>>,
}

impl Managing {
    async fn account(&self) -> Result<Option<&str>, ConnectError> {
        let account = match self.account.get() {
            Some(known) => known,
            None => {
                // Several may ask at the same time; none waits for one whose call hangs.
                let told = self.side.ours.check_access().await?;
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
            managing: Kept::default(),
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
    async fn managing(&self, provider: &StorageProvider) -> Result<ManagingSide, ConnectError> {
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
            let config = config(provider, s3, keys)?;
            let budget = self.budget(provider).await;
            let connected = s3::Managing::connect(&config).await;
            let s3::Managing {
                ours,
                others,
                roles,
            } = connected.map_err(|error| invalid(provider, &error))?;
            let within_budget = |store| Arc::new(Layered::new(Arc::new(store), budget.clone()));
            let side = ManagingSide {
                ours: within_budget(ours),
                others: within_budget(others),
                roles: Arc::new(Layered::new(Arc::new(roles), budget.clone())),
            };
            let account = Arc::default();
            Ok((version, Managing { side, account }))
        };
        let current = keys.current(&self.secrets);
        let managing = self.managing.get_or_make(provider, current, make).await?;
        // Whose the keys are is also what the store for our own buckets has to know.
        refuse_moved(provider, managing.account().await?)?;
        Ok(managing.side)
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
            let source = StsSource::connect(&config).await;
            let source = source.map_err(|error| invalid(provider, &error))?;
            let probe = S3Probe::new(&config).map_err(|error| invalid(provider, &error))?;
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
