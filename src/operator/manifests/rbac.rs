//! What each role may do, and what needs it.

use hubstorage_core::api::{AGENTS_NAMESPACE, SYSTEM_NAMESPACE, VENDING_NAMESPACE};
use serde_json::{Value, json};

use super::document::Document;
use super::namespaces::{AGENTS, CONTROLLER_ACCOUNT, SERVE_ACCOUNT, USAGE_ACCOUNT, labels};
use super::webhook::WEBHOOK_CONFIGURATION;
use crate::certificates::AUTHORITY_NAME;
use crate::controller::bypasses::{TRIAL_POD, TRIAL_ROLE};

/// The lease of the leading controller, in `hubstorage-system`.
pub const CONTROLLER_LEASE: &str = "hubstorage-controller";

/// The lease of the serve replica that writes `status.vending`, in `hubstorage-system`.
pub const SERVE_LEASE: &str = "hubstorage-vending";

const RBAC: &str = "rbac.authorization.k8s.io";

/// Everything is followed by watches; what is read singly says `get` as well.
const FOLLOW: &[&str] = &["list", "watch"];

/// A rule and what needs it.
type Rule = (&'static str, Value);

pub(super) fn documents() -> Vec<Document> {
    let mut documents = controller();
    documents.extend(usage());
    documents.extend(serve());
    documents.push(trial());
    documents
}

fn controller() -> Vec<Document> {
    let everywhere = vec![
        rule(
            "Reads what is declared.",
            "hubstorage.io",
            &["storageproviders", "hubstorages", "hubusers"],
            FOLLOW,
        ),
        named(
            "Begins only where what it writes and reads fits into them.",
            "apiextensions.k8s.io",
            &["customresourcedefinitions"],
            &[
                "hubstorages.hubstorage.io",
                "hubusers.hubstorage.io",
                "storageproviders.hubstorage.io",
            ],
            &["get"],
        ),
        rule(
            "Writes what it found and did.",
            "hubstorage.io",
            &[
                "storageproviders/status",
                "hubstorages/status",
                "hubusers/status",
            ],
            &["patch"],
        ),
        rule(
            "Sets and removes metadata.finalizers, nothing else. RBAC cannot say that: the right is to the whole object.",
            "hubstorage.io",
            &["hubstorages"],
            &["patch"],
        ),
        rule(
            "Makes HubStorages the owners of their HubUsers, where OwnerReferencesPermissionEnforcement asks for it.",
            "hubstorage.io",
            &["hubstorages/finalizers"],
            &["update"],
        ),
        rule(
            "Makes a HubUser for every user.",
            "hubstorage.io",
            &["hubusers"],
            &["create", "patch"],
        ),
        rule(
            "Matches spec.namespaces of a StorageProvider with their labels.",
            "",
            &["namespaces"],
            FOLLOW,
        ),
        named(
            "Its UID is the default of --installation-id.",
            "",
            &["namespaces"],
            &["kube-system"],
            &["get"],
        ),
        rule(
            "Finds hub users in the metadata of pods. RBAC cannot say that: the right is to whole pods.",
            "",
            &["pods"],
            FOLLOW,
        ),
        rule(
            "Finds users' homes and the claims of shared folders, and makes homes ask for more where spec.home says so. RBAC cannot say that: the right is to whole claims.",
            "",
            &["persistentvolumeclaims"],
            &["list", "watch", "patch"],
        ),
        rule(
            "Sees whether homes can grow.",
            "storage.k8s.io",
            &["storageclasses"],
            &["get"],
        ),
        rule(
            "Finds the kubelets that know how full homes are.",
            "",
            &["nodes"],
            &["list"],
        ),
        rule(
            "Sees whether the service accounts of users' pods stand for an identity of a cloud.",
            "",
            &["serviceaccounts"],
            &["get"],
        ),
        rule(
            "Asks what the service accounts of users' pods may do.",
            "authorization.k8s.io",
            &["subjectaccessreviews"],
            &["create"],
        ),
        rule(
            "Says what it did, and counts on where it did the same before.",
            "events.k8s.io",
            &["events"],
            &["create", "get", "patch"],
        ),
        rule(
            "Checks that the guard is in force.",
            "admissionregistration.k8s.io",
            &[
                "validatingadmissionpolicies",
                "validatingadmissionpolicybindings",
            ],
            FOLLOW,
        ),
        named(
            "Writes caBundle. List and watch are allowed for a field selector on this name only.",
            "admissionregistration.k8s.io",
            &["mutatingwebhookconfigurations"],
            &[WEBHOOK_CONFIGURATION],
            &["get", "list", "watch", "patch"],
        ),
    ];
    let in_system = vec![
        rule(
            "Reads the managing keys, whatever name a StorageProvider gives them, and follows their versions by metadata. RBAC cannot say that: the right is to whole Secrets.",
            "",
            &["secrets"],
            &["get", "list", "watch"],
        ),
        rule(
            "Creates the certificate authority. RBAC cannot tie create to a name.",
            "",
            &["secrets"],
            &["create"],
        ),
        named(
            "Renews the certificate authority and follows changes.",
            "",
            &["secrets"],
            &[AUTHORITY_NAME],
            &["get", "list", "watch", "update"],
        ),
        named(
            "Asks kubelets as an account that may do nothing else.",
            "",
            &["serviceaccounts/token"],
            &[USAGE_ACCOUNT],
            &["create"],
        ),
        rule(
            "Becomes leader for the first time.",
            "coordination.k8s.io",
            &["leases"],
            &["create"],
        ),
        named(
            "Stays leader.",
            "coordination.k8s.io",
            &["leases"],
            &[CONTROLLER_LEASE],
            &["get", "patch"],
        ),
        rule(
            "Sees whether a replica of serve is ready. The names of EndpointSlices are generated.",
            "discovery.k8s.io",
            &["endpointslices"],
            FOLLOW,
        ),
    ];
    let in_agents = vec![
        rule(
            "Publishes the certificates by which agents know the broker. RBAC cannot tie create to a name.",
            "",
            &["configmaps"],
            &["create"],
        ),
        named(
            "Renews them and follows changes.",
            "",
            &["configmaps"],
            &[AUTHORITY_NAME],
            &["get", "list", "watch", "patch"],
        ),
        named(
            "Sees whether they run. List and watch are allowed for a field selector on this name only.",
            "apps",
            &["daemonsets"],
            &[AGENTS],
            FOLLOW,
        ),
    ];
    let account = CONTROLLER_ACCOUNT;
    let mut documents = grant(
        Scope::Cluster,
        account,
        "What `hubstorage controller` may do.",
        everywhere,
    );
    documents.extend(grant(
        Scope::In(SYSTEM_NAMESPACE),
        account,
        "… in its own namespace.",
        in_system,
    ));
    documents.extend(grant(
        Scope::In(AGENTS_NAMESPACE),
        account,
        "… and where the agents are.",
        in_agents,
    ));
    documents
}

/// Asked for by every kubelet (its `authorization.mode: Webhook`), of whoever asks it.
fn usage() -> Vec<Document> {
    let rules = vec![rule(
        "Asks a kubelet how full the volumes of its pods are. Not nodes/proxy, with which one runs commands in them.",
        "",
        &["nodes/stats"],
        &["get"],
    )];
    grant(
        Scope::Cluster,
        USAGE_ACCOUNT,
        "What a token may do that every node sees.",
        rules,
    )
}

/// Bound by nobody here: whoever wants the metadata service tried binds it in the hub's namespace.
fn trial() -> Document {
    Document::with_rules(
        "What lets `hubstorage controller` try, by a pod, whether users' pods get credentials from a metadata service. Takes effect where somebody binds it (docs/examples/metadata-trial.yaml); the guard holds what the pod may be.",
        json!({
            "apiVersion": format!("{RBAC}/v1"),
            "kind": "ClusterRole",
            "metadata": {"name": TRIAL_ROLE, "labels": labels()},
        }),
        vec![
            rule(
                "Makes the pod. RBAC cannot tie create to a name.",
                "",
                &["pods"],
                &["create"],
            ),
            named(
                "Reads what came of it, and makes room for the next.",
                "",
                &["pods"],
                &[TRIAL_POD],
                &["get", "delete"],
            ),
        ],
    )
}

fn serve() -> Vec<Document> {
    let everywhere = vec![
        rule(
            "Knows what pods are given, who vends from where, and who is suspended.",
            "hubstorage.io",
            &["hubstorages", "storageproviders", "hubusers"],
            FOLLOW,
        ),
        rule(
            "Writes status.vending and status.lastVendTime.",
            "hubstorage.io",
            &["hubstorages/status", "hubusers/status"],
            &["patch"],
        ),
        rule(
            "Sees whether a token's pod lives, who made it and whose it is; one that it does not know yet it reads singly.",
            "",
            &["pods"],
            &["get", "list", "watch"],
        ),
        rule(
            "Has tokens of pods checked.",
            "authentication.k8s.io",
            &["tokenreviews"],
            &["create"],
        ),
        rule(
            "Vends nothing while the guard is not in force.",
            "admissionregistration.k8s.io",
            &[
                "validatingadmissionpolicies",
                "validatingadmissionpolicybindings",
            ],
            FOLLOW,
        ),
    ];
    let in_system = vec![
        named(
            "Signs its own certificate. No other Secret here: the managing keys are the controller's.",
            "",
            &["secrets"],
            &[AUTHORITY_NAME],
            FOLLOW,
        ),
        rule(
            "Asks for the first time to be the replica that probes.",
            "coordination.k8s.io",
            &["leases"],
            &["create"],
        ),
        named(
            "Stays the replica that probes.",
            "coordination.k8s.io",
            &["leases"],
            &[SERVE_LEASE],
            &["get", "patch"],
        ),
    ];
    let in_vending = vec![rule(
        "Reads the vending keys, whatever name a StorageProvider gives them, and follows their versions by metadata. RBAC cannot say that: the right is to whole Secrets.",
        "",
        &["secrets"],
        &["get", "list", "watch"],
    )];
    let account = SERVE_ACCOUNT;
    let mut documents = grant(
        Scope::Cluster,
        account,
        "What `hubstorage serve` may do.",
        everywhere,
    );
    documents.extend(grant(
        Scope::In(SYSTEM_NAMESPACE),
        account,
        "… in its own namespace.",
        in_system,
    ));
    documents.extend(grant(
        Scope::In(VENDING_NAMESPACE),
        account,
        "… and where the vending keys are.",
        in_vending,
    ));
    documents.push(Document::new(
        "Reads the public keys that tokens of pods are signed with. Bound to all service accounts by default, but not on hardened clusters.",
        json!({
            "apiVersion": format!("{RBAC}/v1"),
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "hubstorage-serve-issuer", "labels": labels()},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "system:service-account-issuer-discovery"},
            "subjects": [subject(account)],
        }),
    ));
    documents
}

fn rule(why: &'static str, group: &str, resources: &[&str], verbs: &[&str]) -> Rule {
    (
        why,
        json!({"apiGroups": [group], "resources": resources, "verbs": verbs}),
    )
}

fn named(
    why: &'static str,
    group: &str,
    resources: &[&str],
    names: &[&str],
    verbs: &[&str],
) -> Rule {
    let (why, mut rule) = rule(why, group, resources, verbs);
    rule["resourceNames"] = json!(names);
    (why, rule)
}

#[derive(Clone, Copy)]
enum Scope {
    Cluster,
    In(&'static str),
}

/// A role and its binding to one service account.
fn grant(scope: Scope, account: &str, purpose: &'static str, rules: Vec<Rule>) -> Vec<Document> {
    let (kind, mut metadata) = match scope {
        Scope::Cluster => ("ClusterRole", json!({})),
        Scope::In(namespace) => ("Role", json!({"namespace": namespace})),
    };
    metadata["name"] = json!(account);
    metadata["labels"] = labels();
    let api_version = format!("{RBAC}/v1");
    let role = json!({"apiVersion": api_version, "kind": kind, "metadata": metadata});
    let binding = json!({
        "apiVersion": api_version,
        "kind": format!("{kind}Binding"),
        "metadata": metadata,
        "roleRef": {"apiGroup": RBAC, "kind": kind, "name": account},
        "subjects": [subject(account)],
    });
    vec![
        Document::with_rules(purpose, role, rules),
        Document::new("", binding),
    ]
}

fn subject(account: &str) -> Value {
    json!({"kind": "ServiceAccount", "name": account, "namespace": SYSTEM_NAMESPACE})
}

#[cfg(test)]
mod tests;
