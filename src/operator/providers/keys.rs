//! The keys of an identity: which Secret holds them, and what it holds.

use hubstorage_cloud::Secret as Redacted;
use hubstorage_cloud::s3::Keys;
use hubstorage_core::api::{CredentialsType, IdentityCredentials, StorageProvider};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt as _};

use super::kept::Current;
use super::{ConnectError, SecretVersions};

/// Where a provider says that the keys of an identity are.
#[derive(Clone, Copy)]
pub(super) struct KeySource<'a> {
    pub provider: &'a StorageProvider,
    /// The field of the provider, for messages.
    pub field: &'static str,
    pub namespace: &'static str,
    pub credentials: &'a IdentityCredentials,
}

impl KeySource<'_> {
    /// What is known of the keys without reading them.
    pub fn current(&self, secrets: &SecretVersions) -> Current {
        match self.credentials.secret_name() {
            None => Current::Ambient,
            Some(name) => secrets.of(name).map_or(Current::Unknown, Current::Version),
        }
    }

    /// The keys, and the resourceVersion of the Secret that holds them.
    pub async fn read(&self, client: &Client) -> Result<(Keys, Option<String>), ConnectError> {
        if self.credentials.type_ == CredentialsType::Ambient {
            return Ok((Keys::Ambient, None));
        }
        // The CRD's own rule does not let this in; an object from before the rule might.
        let name = (self.credentials.secret_name())
            .ok_or_else(|| self.problem("secretRef is missing with type Secret".to_owned()))?;
        let namespace = self.namespace;
        let found = Api::<Secret>::namespaced(client.clone(), namespace)
            .get_opt(name)
            .await
            .map_err(|error| ConnectError::Unreadable {
                namespace,
                name: name.to_owned(),
                cause: error.to_string(),
            })?;
        let secret = found.ok_or_else(|| {
            self.problem(format!(
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
            text.ok_or_else(|| self.problem(format!("Secret {namespace}/{name} has no key {key}")))
        };
        let (provider, field) = (self.provider.name_any(), self.field);
        let keys = Keys::Static {
            from: format!("Secret {namespace}/{name}, {field} of StorageProvider {provider}"),
            access_key_id: value("AWS_ACCESS_KEY_ID")?,
            secret_access_key: Redacted::new(value("AWS_SECRET_ACCESS_KEY")?),
        };
        Ok((keys, version))
    }

    fn problem(&self, problem: String) -> ConnectError {
        ConnectError::Credentials {
            provider: self.provider.name_any(),
            field: self.field,
            problem,
        }
    }
}
