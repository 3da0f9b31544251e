//! Namespaces and the accounts in them.

use hubstorage_core::api::{SYSTEM_NAMESPACE, VENDING_NAMESPACE};
use serde_json::{Value, json};

use super::document::Document;

/// The service account of `hubstorage controller`, in `hubstorage-system`.
pub const CONTROLLER_ACCOUNT: &str = "hubstorage-controller";

/// The service account of `hubstorage serve`, in `hubstorage-system`.
pub const SERVE_ACCOUNT: &str = "hubstorage-serve";

pub(super) fn documents() -> Vec<Document> {
    vec![
        Document::new(
            "The operator, the keys that manage, and its certificate authority.",
            namespace(SYSTEM_NAMESPACE),
        ),
        Document::new(
            "The keys that vend, apart from those that manage: `hubstorage serve` reads these alone.",
            namespace(VENDING_NAMESPACE),
        ),
        Document::new(
            "Who `hubstorage controller` is.",
            account(CONTROLLER_ACCOUNT),
        ),
        Document::new("Who `hubstorage serve` is.", account(SERVE_ACCOUNT)),
    ]
}

/// Labels of everything that is installed.
pub(super) fn labels() -> Value {
    json!({"app.kubernetes.io/part-of": "hubstorage"})
}

fn namespace(name: &str) -> Value {
    let mut labels = labels();
    labels["pod-security.kubernetes.io/enforce"] = json!("restricted");
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

fn account(name: &str) -> Value {
    let metadata = json!({"name": name, "namespace": SYSTEM_NAMESPACE, "labels": labels()});
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
}
