//! Namespaces and the accounts in them.

use hubstorage_core::api::{AGENTS_NAMESPACE, SYSTEM_NAMESPACE, VENDING_NAMESPACE};
use serde_json::{Value, json};

use super::document::Document;

/// The service account of `hubstorage controller`, in `hubstorage-system`.
pub const CONTROLLER_ACCOUNT: &str = "hubstorage-controller";

/// The service account of `hubstorage serve`, in `hubstorage-system`.
pub const SERVE_ACCOUNT: &str = "hubstorage-serve";

/// The service account as which `hubstorage controller` asks kubelets how full homes are, in `hubstorage-system`.
pub const USAGE_ACCOUNT: &str = "hubstorage-usage";

/// The service account of `hubstorage-agent`, in `hubstorage-agents`.
pub const AGENT_ACCOUNT: &str = "hubstorage-agent";

/// Name of the DaemonSet that runs the agents, in `hubstorage-agents`.
pub const AGENTS: &str = "hubstorage-agent";

pub(super) fn namespaces() -> Vec<Document> {
    vec![
        Document::new(
            "The operator, the keys that manage, and its certificate authority.",
            namespace(SYSTEM_NAMESPACE, "restricted"),
        ),
        Document::new(
            "The keys that vend, apart from those that manage: `hubstorage serve` reads these alone.",
            namespace(VENDING_NAMESPACE, "restricted"),
        ),
        Document::new(
            "The agents, apart from the rest: they are in their nodes' network, which only \"privileged\" allows.",
            namespace(AGENTS_NAMESPACE, "privileged"),
        ),
    ]
}

pub(super) fn accounts() -> Vec<Document> {
    vec![
        Document::new(
            "Who `hubstorage controller` is.",
            account(SYSTEM_NAMESPACE, CONTROLLER_ACCOUNT),
        ),
        Document::new(
            "Who `hubstorage serve` is.",
            account(SYSTEM_NAMESPACE, SERVE_ACCOUNT),
        ),
        Document::new(
            "As whom `hubstorage controller` asks kubelets how full homes are: every node sees that token, and it is good for nothing else.",
            without_token(account(SYSTEM_NAMESPACE, USAGE_ACCOUNT)),
        ),
        Document::new(
            "Who `hubstorage-agent` is: nobody. It has no rights, and no token.",
            without_token(account(AGENTS_NAMESPACE, AGENT_ACCOUNT)),
        ),
    ]
}

/// Labels of everything that is installed.
pub(super) fn labels() -> Value {
    json!({"app.kubernetes.io/part-of": "hubstorage"})
}

fn namespace(name: &str, pod_security: &str) -> Value {
    let mut labels = labels();
    labels["pod-security.kubernetes.io/enforce"] = json!(pod_security);
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

fn account(namespace: &str, name: &str) -> Value {
    let metadata = json!({"name": name, "namespace": namespace, "labels": labels()});
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
}

fn without_token(mut account: Value) -> Value {
    account["automountServiceAccountToken"] = json!(false);
    account
}
