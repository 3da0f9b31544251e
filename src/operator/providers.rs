//! From a StorageProvider and its Secrets to a connection.
//!
//! Two connections, never the same keys: the controller gets the managing side, `serve` the
//! vending side. Each is kept until the spec or the Secret changes.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use hubstorage_cloud::s3::{self, Keys, S3Config, S3Probe, S3Store, StsSource};
use hubstorage_cloud::{
    CloudError, CredentialSource, IsolationProbe, ObjectStore, Secret as Redacted,
};
use hubstorage_core::api::{
    self, CredentialsType, IdentityCredentials, Reason, S3Provider, SYSTEM_NAMESPACE,
    StorageProvider, VENDING_NAMESPACE,
};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};
use tokio::sync::Mutex;

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// gcs and azure are in the API, but not built yet.
    #[error("StorageProvider {provider} is of a kind that is not supported yet; only spec.s3 is")]
    Unsupported {
        /// Name of the StorageProvider.
        provider: String,
    },
    /// The provider has no vending side.
    #[error("StorageProvider {provider} has no spec.s3.vending, so it vends nothing")]
    NoVending {
        /// Name of the StorageProvider.
        provider: String,
    },
    /// A Secret is missing, or lacks a key.
    #[error("{field} of StorageProvider {provider}: {problem}")]
    Credentials {
        /// Name of the StorageProvider.
        provider: String,
        /// The field that refers to the Secret.
        field: &'static str,
        /// What is wrong, and with which Secret.
        problem: String,
    },
    /// The API server did not give the Secret for another reason.
    #[error("Secret {namespace}/{name} cannot be read: {cause}")]
    Unreadable {
        /// Namespace of the Secret.
        namespace: &'static str,
        /// Name of the Secret.
        name: String,
        /// What the API server said.
        cause: String,
    },
    /// The configuration does not make a client.
    #[error("spec.s3 of StorageProvider {provider}: {problem}")]
    Invalid {
        /// Name of the StorageProvider.
        provider: String,
        /// What is wrong.
        problem: String,
    },
}

impl ConnectError {
    /// The reason for conditions and metrics.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unsupported { .. } => Reason::Unsupported,
            Self::Invalid { .. } => Reason::InvalidConfiguration,
            Self::NoVending { .. } => Reason::VendingNotConfigured,
            Self::Credentials { .. } => Reason::CredentialsMissing,
            Self::Unreadable { .. } => Reason::StoreFailed,
        }
    }
}

/// The vending side of a provider.
#[derive(Clone)]
pub struct VendingSide {
    /// Issues credentials.
    pub source: Arc<dyn CredentialSource>,
    /// Tries whether they are held apart.
    pub probe: Arc<dyn IsolationProbe>,
}

/// Makes connections; a trait so that tests connect to the cloud in memory.
#[async_trait]
pub trait Connect: Send + Sync {
    /// The managing side.
    async fn store(&self, provider: &StorageProvider)
    -> Result<Arc<dyn ObjectStore>, ConnectError>;

    /// The vending side.
    async fn vending(&self, provider: &StorageProvider) -> Result<VendingSide, ConnectError>;
}

/// What a connection was made from; another value means another connection.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Basis {
    provider_generation: i64,
    secret_version: Option<String>,
}

/// One connection for each provider, until what it was made from changes.
struct Kept<T> {
    by_provider: Mutex<HashMap<String, (Basis, T)>>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self {
            by_provider: Mutex::default(),
        }
    }
}

impl<T: Clone> Kept<T> {
    async fn get_or_make(
        &self,
        provider: &StorageProvider,
        secret_version: Option<String>,
        make: impl AsyncFnOnce() -> Result<T, ConnectError>,
    ) -> Result<T, ConnectError> {
        let provider_generation = provider.metadata.generation.unwrap_or_default();
        let basis = Basis {
            provider_generation,
            secret_version,
        };
        let uid = provider.uid().unwrap_or_default();
        let mut kept = self.by_provider.lock().await;
        match kept.get(&uid) {
            Some((made_from, connection)) if *made_from == basis => Ok(connection.clone()),
            _ => {
                let connection = make().await?;
                kept.insert(uid, (basis, connection.clone()));
                Ok(connection)
            }
        }
    }
}

/// Connections to real stores, with keys from Secrets.
pub struct Connections {
    client: Client,
    stores: Kept<Arc<dyn ObjectStore>>,
    vending: Kept<VendingSide>,
}

impl Connections {
    /// No connection yet.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            stores: Kept::default(),
            vending: Kept::default(),
        }
    }

    async fn keys(
        &self,
        provider: &StorageProvider,
        field: &'static str,
        namespace: &'static str,
        credentials: &IdentityCredentials,
    ) -> Result<(Keys, Option<String>), ConnectError> {
        let reference = match (credentials.type_, &credentials.secret_ref) {
            (CredentialsType::Ambient, _) => return Ok((Keys::Ambient, None)),
            (CredentialsType::Secret, Some(reference)) => reference,
            // The CRD's own rule does not let this in; an object from before the rule might.
            (CredentialsType::Secret, None) => {
                let problem = "secretRef is missing with type Secret".to_owned();
                return Err(ConnectError::Credentials {
                    provider: provider.name_any(),
                    field,
                    problem,
                });
            }
        };
        let name = &reference.name;
        let problem = |problem: String| ConnectError::Credentials {
            provider: provider.name_any(),
            field,
            problem,
        };
        let secret = Api::<Secret>::namespaced(self.client.clone(), namespace)
            .get_opt(name)
            .await
            .map_err(|error| ConnectError::Unreadable {
                namespace,
                name: name.clone(),
                cause: error.to_string(),
            })?
            .ok_or_else(|| {
                problem(format!(
                    "there is no Secret {name} in namespace {namespace}"
                ))
            })?;
        let version = secret.resource_version();
        let data = secret.data.unwrap_or_default();
        let value = |key: &str| {
            let bytes = data.get(key).filter(|value| !value.0.is_empty());
            let text = bytes
                .and_then(|value| std::str::from_utf8(&value.0).ok())
                .map(str::trim)
                .map(str::to_owned);
            text.ok_or_else(|| problem(format!("Secret {namespace}/{name} has no key {key}")))
        };
        let access_key_id = value("AWS_ACCESS_KEY_ID")?;
        let secret_access_key = Redacted::new(value("AWS_SECRET_ACCESS_KEY")?);
        Ok((
            Keys::Static {
                access_key_id,
                secret_access_key,
            },
            version,
        ))
    }
}

fn s3_of(provider: &StorageProvider) -> Result<&S3Provider, ConnectError> {
    provider
        .spec
        .s3
        .as_ref()
        .ok_or_else(|| ConnectError::Unsupported {
            provider: provider.name_any(),
        })
}

fn config(
    provider: &StorageProvider,
    s3: &S3Provider,
    keys: Keys,
) -> Result<S3Config, ConnectError> {
    let endpoint = s3
        .endpoint
        .as_deref()
        .map(url::Url::parse)
        .transpose()
        .map_err(|error| ConnectError::Invalid {
            provider: provider.name_any(),
            problem: format!("endpoint is no URL: {error}"),
        })?;
    Ok(S3Config {
        region: s3.region.clone(),
        endpoint,
        addressing: match s3.addressing {
            api::Addressing::Path => s3::Addressing::Path,
            api::Addressing::VirtualHost => s3::Addressing::VirtualHost,
        },
        ca_bundle: s3.ca_bundle.as_ref().map(|pem| pem.0.clone()),
        keys,
    })
}

fn invalid(provider: &StorageProvider, error: &CloudError) -> ConnectError {
    ConnectError::Invalid {
        provider: provider.name_any(),
        problem: error.to_string(),
    }
}

#[async_trait]
impl Connect for Connections {
    async fn store(
        &self,
        provider: &StorageProvider,
    ) -> Result<Arc<dyn ObjectStore>, ConnectError> {
        let s3 = s3_of(provider)?;
        let (keys, version) = self
            .keys(
                provider,
                "spec.s3.credentials",
                SYSTEM_NAMESPACE,
                &s3.credentials,
            )
            .await?;
        let make = async || {
            let connected = S3Store::connect(&config(provider, s3, keys)?).await;
            let store: Arc<dyn ObjectStore> =
                Arc::new(connected.map_err(|error| invalid(provider, &error))?);
            Ok(store)
        };
        self.stores.get_or_make(provider, version, make).await
    }

    async fn vending(&self, provider: &StorageProvider) -> Result<VendingSide, ConnectError> {
        let s3 = s3_of(provider)?;
        let none = || ConnectError::NoVending {
            provider: provider.name_any(),
        };
        let vending = s3.vending.as_ref().ok_or_else(none)?;
        let field = "spec.s3.vending.credentials";
        let (keys, version) = self
            .keys(provider, field, VENDING_NAMESPACE, &vending.credentials)
            .await?;
        let make = async || {
            let config = config(provider, s3, keys)?;
            let role = &vending.role.arn;
            let source = StsSource::connect(&config, role.clone())
                .await
                .map_err(|error| invalid(provider, &error))?;
            let probe =
                S3Probe::new(&config, role.clone()).map_err(|error| invalid(provider, &error))?;
            Ok(VendingSide {
                source: Arc::new(source),
                probe: Arc::new(probe),
            })
        };
        self.vending.get_or_make(provider, version, make).await
    }
}
