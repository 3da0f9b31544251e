//! The authority in the cluster: a Secret that replicas sign with, a ConfigMap that agents trust,
//! and the caBundle that the API server trusts.

use anyhow::{Context as _, bail};
use hubstorage_core::api::{AGENTS_NAMESPACE, SYSTEM_NAMESPACE};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhook, MutatingWebhookConfiguration, ServiceReference, WebhookClientConfig,
};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, Error, ResourceExt as _};
use serde_json::{Value, json};

use super::authority::{Authority, Step};
use super::{AUTHORITY_NAME, BUNDLE_KEY};
use crate::controller::FIELD_MANAGER;
use crate::manifests::{CLAIM_WEBHOOK, POD_WEBHOOK, SERVE_SERVICE, WEBHOOK_CONFIGURATION};

/// Whether the API server can reach the webhook with a certificate that it trusts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookState {
    /// It is registered with our authority.
    Registered {
        /// Where it is called.
        address: Address,
        /// Whether it is called for users' claims, too: a registration of an older version is not.
        for_claims: bool,
    },
    /// It is not registered.
    Missing,
    /// It is registered, and our authority could not be written, or has not been yet.
    AuthorityMismatch,
}

/// Where the API server calls the webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// At the Service of `hubstorage serve`, [`SERVE_SERVICE`].
    Service,
    /// At a URL, or a Service that is not ours: what stands behind it is not ours to know.
    Elsewhere,
}

/// The webhooks that are called at our certificate.
const OURS: [&str; 2] = [POD_WEBHOOK, CLAIM_WEBHOOK];

/// Two controllers may both be at it for a moment; whoever is second takes what the first made.
const TRIES: usize = 5;

/// Makes Secret, ConfigMap and caBundle what they should be; writes nothing where they are.
///
/// # Errors
/// If the API server refuses something, or is not there.
pub async fn ensure(client: &Client, now: Timestamp) -> anyhow::Result<WebhookState> {
    let authority = ensure_secret(client, now).await?;
    let bundle = authority.bundle(now);
    // Whether agents can be told is nothing to the API server, without which no pod is given anything.
    let registered = ensure_webhook(client, &bundle).await?;
    ensure_config_map(client, &bundle).await?;
    Ok(registered)
}

async fn ensure_secret(client: &Client, now: Timestamp) -> anyhow::Result<Authority> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let what = || format!("Secret {SYSTEM_NAMESPACE}/{AUTHORITY_NAME}");
    for _ in 0..TRIES {
        let stored = secrets.get_opt(AUTHORITY_NAME).await.with_context(what)?;
        let found = stored.as_ref().and_then(readable);
        let step = Authority::step(found.as_ref(), now);
        let authority = Authority::after(found, step, now).with_context(what)?;
        if step == Step::Keep {
            return Ok(authority);
        }
        let written = match &stored {
            None => {
                secrets
                    .create(&PostParams::default(), &secret(&authority, None))
                    .await
            }
            Some(stored) => {
                let secret = secret(&authority, stored.resource_version());
                secrets
                    .replace(AUTHORITY_NAME, &PostParams::default(), &secret)
                    .await
            }
        };
        match written {
            Ok(_) => {
                tracing::info!(?step, "certificate authority");
                return Ok(authority);
            }
            Err(Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {}
            Err(error) => return Err(error).with_context(what),
        }
    }
    bail!("{}: somebody else wrote it {TRIES} times in a row", what())
}

fn readable(secret: &Secret) -> Option<Authority> {
    Authority::parse(secret.data.as_ref()?)
        .inspect_err(|error| {
            tracing::warn!(%error, "the certificate authority in Secret {AUTHORITY_NAME} is of no use, and is made anew");
        })
        .ok()
}

fn secret(authority: &Authority, resource_version: Option<String>) -> Secret {
    Secret {
        metadata: ObjectMeta {
            resource_version,
            ..metadata(SYSTEM_NAMESPACE)
        },
        type_: Some("Opaque".to_owned()),
        data: Some(authority.data()),
        ..Secret::default()
    }
}

fn metadata(namespace: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(AUTHORITY_NAME.to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: Some(
            [(
                "app.kubernetes.io/part-of".to_owned(),
                "hubstorage".to_owned(),
            )]
            .into(),
        ),
        ..ObjectMeta::default()
    }
}

async fn ensure_config_map(client: &Client, bundle: &str) -> anyhow::Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), AGENTS_NAMESPACE);
    let what = || format!("ConfigMap {AGENTS_NAMESPACE}/{AUTHORITY_NAME}");
    let found = maps.get_opt(AUTHORITY_NAME).await.with_context(what)?;
    let published = found.and_then(|map| map.data?.remove(BUNDLE_KEY));
    if published.as_deref() == Some(bundle) {
        return Ok(());
    }
    let map = ConfigMap {
        metadata: metadata(AGENTS_NAMESPACE),
        data: Some([(BUNDLE_KEY.to_owned(), bundle.to_owned())].into()),
        ..ConfigMap::default()
    };
    maps.patch(AUTHORITY_NAME, &apply(), &Patch::Apply(map))
        .await
        .map(drop)
        .with_context(what)
}

async fn ensure_webhook(client: &Client, bundle: &str) -> anyhow::Result<WebhookState> {
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let what = || format!("MutatingWebhookConfiguration {WEBHOOK_CONFIGURATION}");
    let found = configurations
        .get_opt(WEBHOOK_CONFIGURATION)
        .await
        .with_context(what)?;
    let webhooks = found.as_ref().and_then(|found| found.webhooks.as_deref());
    let ours: Vec<&MutatingWebhook> = webhooks
        .unwrap_or_default()
        .iter()
        .filter(|webhook| OURS.contains(&webhook.name.as_str()))
        .collect();
    // Without the one for pods no pod is given anything; a registration of an older version lacks the other.
    let Some(pods) = ours.iter().find(|webhook| webhook.name == POD_WEBHOOK) else {
        return Ok(WebhookState::Missing);
    };
    let is_trusted = |webhook: &&MutatingWebhook| {
        let trusted = webhook.client_config.ca_bundle.as_ref();
        // Empty if there is none yet.
        trusted.map_or(&[][..], |bundle| &bundle.0) == bundle.as_bytes()
    };
    if !ours.iter().all(is_trusted) {
        let names = ours.iter().map(|webhook| webhook.name.as_str());
        let patch = Patch::Apply(ca_bundle_alone(names, bundle));
        configurations
            .patch(WEBHOOK_CONFIGURATION, &apply(), &patch)
            .await
            .with_context(what)?;
    }
    Ok(WebhookState::Registered {
        address: address(&pods.client_config),
        for_claims: ours.iter().any(|webhook| webhook.name == CLAIM_WEBHOOK),
    })
}

fn address(called: &WebhookClientConfig) -> Address {
    let is_ours = |service: &ServiceReference| {
        service.namespace == SYSTEM_NAMESPACE && service.name == SERVE_SERVICE
    };
    if called.service.as_ref().is_some_and(is_ours) {
        Address::Service
    } else {
        Address::Elsewhere
    }
}

/// The one field that is ours; whoever installed the registration owns the rest. Server-side apply
/// merges webhooks by name and takes a part of one (seen on Kubernetes 1.36).
fn ca_bundle_alone<'n>(names: impl Iterator<Item = &'n str>, bundle: &str) -> Value {
    let bundle = ByteString(bundle.as_bytes().to_vec());
    let webhooks: Vec<Value> = names
        .map(|name| json!({"name": name, "clientConfig": {"caBundle": bundle}}))
        .collect();
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": WEBHOOK_CONFIGURATION},
        "webhooks": webhooks,
    })
}

fn apply() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called_at(service: Option<(&str, &str)>) -> Address {
        address(&WebhookClientConfig {
            service: service.map(|(namespace, name)| ServiceReference {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                ..ServiceReference::default()
            }),
            ..WebhookClientConfig::default()
        })
    }

    #[test]
    fn only_our_own_service_is_known_to_lead_to_serve() {
        assert_eq!(
            called_at(Some((SYSTEM_NAMESPACE, SERVE_SERVICE))),
            Address::Service
        );
        assert_eq!(
            called_at(Some(("elsewhere", SERVE_SERVICE))),
            Address::Elsewhere
        );
        assert_eq!(
            called_at(Some((SYSTEM_NAMESPACE, "a-proxy"))),
            Address::Elsewhere
        );
        assert_eq!(called_at(None), Address::Elsewhere);
    }
}
