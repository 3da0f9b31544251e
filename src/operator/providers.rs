//! From a StorageProvider and its Secrets to a connection.
//!
//! Two connections, never the same keys: the controller gets the managing side, `serve` the
//! vending side. Each is kept until the spec or the Secret changes, or nobody asks any more.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

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
use moka::future::Cache;
use moka::ops::compute::Op;
use url::{Host, Url};

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
    /// resourceVersion of the Secret with its keys; none where the identity is ambient.
    pub secret_version: Option<String>,
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

/// Connections that nobody asked for in this time are dropped: their provider is gone, or they
/// are made again.
const IDLE: Duration = Duration::from_secs(60 * 60);

/// One connection for each provider, until what it was made from changes. While one provider's is
/// made, only those who want that one wait.
struct Kept<T> {
    by_provider: Cache<String, (Basis, T)>,
}

impl<T: Clone + Send + Sync + 'static> Default for Kept<T> {
    fn default() -> Self {
        Self {
            by_provider: Cache::builder().time_to_idle(IDLE).build(),
        }
    }
}

impl<T: Clone + Send + Sync + 'static> Kept<T> {
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
        if let Some((made_from, connection)) = self.by_provider.get(&uid).await
            && made_from == basis
        {
            return Ok(connection);
        }
        let mut made = None;
        // It asks again: somebody else may have made it meanwhile.
        let outcome = self
            .by_provider
            .entry(uid)
            .and_try_compute_with(async |kept| {
                let kept = kept.map(|entry| entry.into_value());
                if let Some((made_from, connection)) = kept
                    && made_from == basis
                {
                    made = Some(connection);
                    return Ok(Op::Nop);
                }
                let connection = make().await?;
                made = Some(connection.clone());
                Ok(Op::Put((basis, connection)))
            });
        outcome.await?;
        // Both ways through set it.
        made.ok_or_else(|| ConnectError::Invalid {
            provider: provider.name_any(),
            problem: "no connection was made".into(),
        })
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

/// The CRD's own rules know the usual spellings; `http://2852039166` is 169.254.169.254 too.
fn endpoint(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("endpoint is no URL: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("endpoint holds a user name or password; put keys into the Secrets".into());
    }
    let address = match url.host() {
        Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        // What a name stands for is seen when it is connected to.
        Some(Host::Domain(_)) | None => None,
    };
    if address.is_some_and(s3::is_link_local) {
        return Err("endpoint is a link-local address; those belong to metadata services".into());
    }
    Ok(url)
}

fn config(
    provider: &StorageProvider,
    s3: &S3Provider,
    keys: Keys,
) -> Result<S3Config, ConnectError> {
    let endpoint = s3.endpoint.as_deref().map(endpoint).transpose();
    let endpoint = endpoint.map_err(|problem| ConnectError::Invalid {
        provider: provider.name_any(),
        problem,
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
        let secret_version = version.clone();
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
                secret_version,
            })
        };
        self.vending.get_or_make(provider, version, make).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::sync::Barrier;

    use super::*;

    fn provider(uid: &str, generation: i64) -> StorageProvider {
        let secret = json!({"type": "Secret", "secretRef": {"name": "minio"}});
        serde_json::from_value(json!({
            "apiVersion": "hubstorage.io/v1alpha1", "kind": "StorageProvider",
            "metadata": {"name": uid, "uid": uid, "generation": generation},
            "spec": {
                "namespaces": {}, "bucketNames": ["*"],
                "s3": {"region": "us-east-1", "credentials": secret},
            },
        }))
        .unwrap()
    }

    async fn ask(
        kept: &Kept<&'static str>,
        provider: &StorageProvider,
        version: &str,
        make: &'static str,
    ) -> &'static str {
        let made = kept.get_or_make(provider, Some(version.into()), async || Ok(make));
        made.await.unwrap()
    }

    #[tokio::test]
    async fn a_connection_is_kept_until_the_spec_or_the_secret_changes() {
        let kept = Kept::default();
        let (old, new) = (provider("a", 1), provider("a", 2));
        assert_eq!(ask(&kept, &old, "7", "first").await, "first");
        assert_eq!(ask(&kept, &old, "7", "not needed").await, "first");
        assert_eq!(ask(&kept, &old, "8", "other keys").await, "other keys");
        assert_eq!(ask(&kept, &new, "8", "other spec").await, "other spec");
        kept.by_provider.run_pending_tasks().await;
        assert_eq!(kept.by_provider.entry_count(), 1, "one for each provider");
    }

    #[tokio::test]
    async fn what_could_not_be_made_is_tried_again() {
        let kept = Kept::default();
        let provider = provider("a", 1);
        let failing = async || {
            Err(ConnectError::NoVending {
                provider: "a".into(),
            })
        };
        assert!(kept.get_or_make(&provider, None, failing).await.is_err());
        assert_eq!(
            kept.get_or_make(&provider, None, async || Ok("made")).await,
            Ok("made")
        );
    }

    #[tokio::test]
    async fn two_providers_connect_at_the_same_time() {
        let kept = Kept::default();
        let (a, b) = (provider("a", 1), provider("b", 1));
        // Neither gets past it before the other is there.
        let both = Barrier::new(2);
        let make = async || {
            both.wait().await;
            Ok("made")
        };
        let made = tokio::join!(
            kept.get_or_make(&a, None, make),
            kept.get_or_make(&b, None, make),
        );
        assert_eq!(made, (Ok("made"), Ok("made")));
    }

    #[test]
    fn an_endpoint_with_keys_or_at_a_metadata_service_is_refused_however_it_is_spelled() {
        for (text, problem) in [
            ("http://user:secret@store", "user name or password"),
            ("http://169.254.169.254", "link-local"),
            ("http://2852039166", "link-local"),
            ("http://0xa9fea9fe/", "link-local"),
            ("http://[fe80::1]:9000", "link-local"),
            ("http://[fd00:ec2::254]", "link-local"),
            ("http://[0:0:0:0:0:ffff:a9fe:a9fe]", "link-local"),
        ] {
            let error = endpoint(text).unwrap_err();
            assert!(
                error.contains(problem) && !error.contains("secret"),
                "{text}: {error}"
            );
        }
        for text in [
            "http://minio.minio.svc:9000",
            "https://10.0.0.1",
            "http://[fd00::1]:9000",
        ] {
            assert!(endpoint(text).is_ok(), "{text}");
        }
    }
}
