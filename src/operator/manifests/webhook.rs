//! The registration of the admission webhooks.

use anyhow::bail;
use hubstorage_core::api::{
    AGENTS_NAMESPACE, STAMP_ANNOTATION, SYSTEM_NAMESPACE, USERNAME_ANNOTATION, USERNAME_LABEL,
};
use hubstorage_core::homes::{CLAIM_LABEL, CLAIM_LABEL_VALUE};
use serde_json::{Value, json};
use url::Url;

use super::document::Document;
use super::namespaces::labels;

/// Name of the MutatingWebhookConfiguration.
pub const WEBHOOK_CONFIGURATION: &str = "hubstorage";

/// Name of the webhook for pods in it.
pub const POD_WEBHOOK: &str = "pods.hubstorage.io";

/// Name of the webhook for claims in it.
pub const CLAIM_WEBHOOK: &str = "claims.hubstorage.io";

/// Name of the Service of `hubstorage serve`, in `hubstorage-system`.
pub const SERVE_SERVICE: &str = "hubstorage-serve";

/// Path of the webhook for pods.
pub const POD_PATH: &str = "/admit/pods";

/// Path of the webhook for claims.
pub const CLAIM_PATH: &str = "/admit/claims";

pub(super) fn document(url: Option<&Url>) -> anyhow::Result<Document> {
    let mut pods = webhook(POD_WEBHOOK, "pods", client_config(url, POD_PATH)?);
    // Another webhook may add a container or an annotation after ours.
    pods["reinvocationPolicy"] = json!("IfNeeded");
    pods["matchConditions"] =
        json!([{"name": "names-a-hub-user", "expression": names_a_hub_user()}]);
    let called = client_config(url, CLAIM_PATH)?;
    let mut claims = webhook(CLAIM_WEBHOOK, "persistentvolumeclaims", called);
    claims["reinvocationPolicy"] = json!("Never");
    claims["objectSelector"] = json!({"matchLabels": {(CLAIM_LABEL): CLAIM_LABEL_VALUE}});
    let object = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": WEBHOOK_CONFIGURATION, "labels": labels()},
        "webhooks": [pods, claims],
    });
    Ok(Document::new(
        "Gives user pods their environment and the stamp, and homes the size that they may have. No caBundle: the \
         controller writes it.",
        object,
    ))
}

/// What both have in common.
fn webhook(name: &str, resource: &str, called: Value) -> Value {
    json!({
        "name": name,
        "admissionReviewVersions": ["v1"],
        "clientConfig": called,
        // An operator that is down costs a pod its storage, never its start.
        "failurePolicy": "Ignore",
        // KubeSpawner waits 3 s for a pod or a claim to be created.
        "timeoutSeconds": 1,
        "matchPolicy": "Equivalent",
        "sideEffects": "None",
        "rules": [{
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "operations": ["CREATE"],
            "resources": [resource],
            "scope": "Namespaced",
        }],
        "namespaceSelector": {"matchExpressions": [{
            "key": "kubernetes.io/metadata.name",
            "operator": "NotIn",
            "values": ["kube-system", SYSTEM_NAMESPACE, AGENTS_NAMESPACE],
        }]},
    })
}

fn client_config(url: Option<&Url>, path: &str) -> anyhow::Result<Value> {
    let Some(url) = url else {
        return Ok(json!({
            "service": {"namespace": SYSTEM_NAMESPACE, "name": SERVE_SERVICE, "path": path, "port": 443},
        }));
    };
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if url.scheme() != "https" || !bare || !url.username().is_empty() || url.password().is_some() {
        bail!(
            "--webhook-url {url}: it must be https://HOST:PORT and nothing more; the path is ours to add"
        );
    }
    let mut endpoint = url.clone();
    endpoint.set_path(path);
    Ok(json!({"url": endpoint.as_str()}))
}

/// Keeps the API server from asking about pods that have nothing to do with a hub.
fn names_a_hub_user() -> String {
    format!(
        "'{USERNAME_LABEL}' in object.metadata.?labels.orValue({{}}) || \
         '{USERNAME_ANNOTATION}' in object.metadata.?annotations.orValue({{}}) || \
         '{STAMP_ANNOTATION}' in object.metadata.?annotations.orValue({{}})"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(url: &str) -> anyhow::Result<Value> {
        client_config(Some(&url.parse().unwrap()), POD_PATH)
    }

    #[test]
    fn a_url_gets_our_path() {
        assert_eq!(
            configured("https://127.0.0.1:9443").unwrap(),
            json!({"url": "https://127.0.0.1:9443/admit/pods"})
        );
    }

    #[test]
    fn without_a_url_the_service_is_called() {
        assert_eq!(
            client_config(None, POD_PATH).unwrap()["service"]["name"],
            "hubstorage-serve"
        );
    }

    #[test]
    fn a_url_that_the_api_server_would_not_take_is_refused() {
        for url in [
            "http://h:1",
            "https://h:1/path",
            "https://h:1/?q",
            "https://u:p@h:1",
            "https://h:1/#f",
        ] {
            let error = configured(url).unwrap_err().to_string();
            assert!(error.starts_with("--webhook-url"), "{url}: {error}");
        }
    }
}
