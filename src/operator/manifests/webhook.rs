//! The registration of the admission webhook.

use anyhow::bail;
use hubstorage_core::api::{
    AGENTS_NAMESPACE, STAMP_ANNOTATION, SYSTEM_NAMESPACE, USERNAME_ANNOTATION, USERNAME_LABEL,
};
use serde_json::{Value, json};
use url::Url;

use super::document::Document;
use super::namespaces::labels;

/// Name of the MutatingWebhookConfiguration.
pub const WEBHOOK_CONFIGURATION: &str = "hubstorage";

/// Name of the webhook in it.
pub const WEBHOOK_NAME: &str = "pods.hubstorage.io";

/// Name of the Service of `hubstorage serve`, in `hubstorage-system`.
pub const SERVE_SERVICE: &str = "hubstorage-serve";

/// Path of the webhook.
pub const WEBHOOK_PATH: &str = "/admit/pods";

pub(super) fn document(url: Option<&Url>) -> anyhow::Result<Document> {
    let object = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": WEBHOOK_CONFIGURATION, "labels": labels()},
        "webhooks": [{
            "name": WEBHOOK_NAME,
            "admissionReviewVersions": ["v1"],
            "clientConfig": client_config(url)?,
            // An operator that is down costs a pod its storage, never its start.
            "failurePolicy": "Ignore",
            // KubeSpawner waits 3 s for a pod to be created.
            "timeoutSeconds": 1,
            "matchPolicy": "Equivalent",
            // Another webhook may add a container or an annotation after ours.
            "reinvocationPolicy": "IfNeeded",
            "sideEffects": "None",
            "rules": [{
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "operations": ["CREATE"],
                "resources": ["pods"],
                "scope": "Namespaced",
            }],
            "matchConditions": [{"name": "names-a-hub-user", "expression": names_a_hub_user()}],
            "namespaceSelector": {"matchExpressions": [{
                "key": "kubernetes.io/metadata.name",
                "operator": "NotIn",
                "values": ["kube-system", SYSTEM_NAMESPACE, AGENTS_NAMESPACE],
            }]},
        }],
    });
    Ok(Document::new(
        "Gives user pods their environment and the stamp. No caBundle: the controller writes it.",
        object,
    ))
}

fn client_config(url: Option<&Url>) -> anyhow::Result<Value> {
    let Some(url) = url else {
        return Ok(json!({
            "service": {"namespace": SYSTEM_NAMESPACE, "name": SERVE_SERVICE, "path": WEBHOOK_PATH, "port": 443},
        }));
    };
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if url.scheme() != "https" || !bare || !url.username().is_empty() || url.password().is_some() {
        bail!(
            "--webhook-url {url}: it must be https://HOST:PORT and nothing more; the path is ours to add"
        );
    }
    let mut endpoint = url.clone();
    endpoint.set_path(WEBHOOK_PATH);
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
        client_config(Some(&url.parse().unwrap()))
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
            client_config(None).unwrap()["service"]["name"],
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
