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
            "Finds users' homes, and makes them ask for more where spec.home says so. RBAC cannot say that: the right is to whole claims.",
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
mod tests {
    use super::*;

    fn grants(rules: &[Rule], resource: &str, verb: &str) -> bool {
        let holds =
            |list: &Value, item: &str| list.as_array().unwrap().iter().any(|entry| entry == item);
        rules
            .iter()
            .any(|(_, rule)| holds(&rule["resources"], resource) && holds(&rule["verbs"], verb))
    }

    fn rules_of(documents: &[Document], kind: &str, namespace: Option<&str>) -> Vec<Rule> {
        documents
            .iter()
            .filter(|document| document.object["kind"] == kind)
            .filter(|document| document.object["metadata"]["namespace"].as_str() == namespace)
            .flat_map(|document| document.rules.clone())
            .collect()
    }

    #[test]
    fn nobody_reads_secrets_of_every_namespace() {
        for role in [controller(), serve()] {
            let rules = rules_of(&role, "ClusterRole", None);
            for verb in [
                "get", "list", "watch", "create", "update", "patch", "delete", "*",
            ] {
                assert!(
                    !grants(&rules, "secrets", verb) && !grants(&rules, "*", verb),
                    "{verb}"
                );
            }
        }
    }

    #[test]
    fn serve_reads_one_secret_beside_the_managing_keys() {
        let rules = rules_of(&serve(), "Role", Some(SYSTEM_NAMESPACE));
        let on_secrets: Vec<&Value> = rules
            .iter()
            .map(|(_, rule)| rule)
            .filter(|rule| rule["resources"] == json!(["secrets"]))
            .collect();
        assert_eq!(on_secrets.len(), 1);
        assert_eq!(on_secrets[0]["resourceNames"], json!([AUTHORITY_NAME]));
    }

    #[test]
    fn the_controller_does_not_reach_the_vending_keys() {
        assert!(rules_of(&controller(), "Role", Some(VENDING_NAMESPACE)).is_empty());
    }

    #[test]
    fn each_side_follows_the_secrets_of_its_own_keys_alone_and_changes_none() {
        for (documents, own) in [
            (controller(), SYSTEM_NAMESPACE),
            (serve(), VENDING_NAMESPACE),
        ] {
            for namespace in [SYSTEM_NAMESPACE, VENDING_NAMESPACE, AGENTS_NAMESPACE] {
                let rules = rules_of(&documents, "Role", Some(namespace));
                let of_any_name: Vec<Rule> = rules
                    .into_iter()
                    .filter(|(_, rule)| rule["resourceNames"].is_null())
                    .collect();
                for verb in ["get", "list", "watch"] {
                    let is_granted = grants(&of_any_name, "secrets", verb);
                    assert_eq!(is_granted, namespace == own, "{verb} in {namespace}");
                }
                for verb in ["update", "patch"] {
                    assert!(
                        !grants(&of_any_name, "secrets", verb),
                        "{verb} in {namespace}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_controller_follows_one_daemon_set_and_the_endpoints_of_its_own_namespace_alone() {
        let documents = controller();
        assert!(!grants(
            &rules_of(&documents, "ClusterRole", None),
            "daemonsets",
            "list"
        ));
        let agents = rules_of(&documents, "Role", Some(AGENTS_NAMESPACE));
        let on_daemon_sets: Vec<&Value> = agents
            .iter()
            .map(|(_, rule)| rule)
            .filter(|rule| rule["resources"] == json!(["daemonsets"]))
            .collect();
        assert_eq!(on_daemon_sets.len(), 1);
        assert_eq!(on_daemon_sets[0]["resourceNames"], json!([AGENTS]));
        assert_eq!(on_daemon_sets[0]["verbs"], json!(FOLLOW));
        for (rules, is_granted) in [
            (rules_of(&documents, "ClusterRole", None), false),
            (agents, false),
            (rules_of(&documents, "Role", Some(SYSTEM_NAMESPACE)), true),
        ] {
            assert_eq!(grants(&rules, "endpointslices", "list"), is_granted);
        }
    }

    #[test]
    fn nobody_creates_pods_or_asks_for_tokens() {
        for role in [controller(), serve()] {
            let rules = rules_of(&role, "ClusterRole", None);
            for (resource, verb) in [
                ("pods", "create"),
                ("pods", "patch"),
                ("serviceaccounts/token", "create"),
                ("pods/exec", "create"),
            ] {
                assert!(!grants(&rules, resource, verb), "{resource} {verb}");
            }
        }
    }

    #[test]
    fn the_token_that_every_node_sees_reads_statistics_of_nodes_and_nothing_else() {
        let documents = documents();
        let bindings = documents
            .iter()
            .filter(|document| document.object["subjects"][0]["name"] == USAGE_ACCOUNT);
        let roles: Vec<_> = bindings
            .map(|binding| {
                (
                    &binding.object["roleRef"]["kind"],
                    &binding.object["roleRef"]["name"],
                )
            })
            .collect();
        assert_eq!(roles, [(&json!("ClusterRole"), &json!(USAGE_ACCOUNT))]);
        let role = documents.iter().find(|document| {
            document.object["kind"] == "ClusterRole"
                && document.object["metadata"]["name"] == USAGE_ACCOUNT
        });
        let rules: Vec<&Value> = role.unwrap().rules.iter().map(|(_, rule)| rule).collect();
        let reads = json!({"apiGroups": [""], "resources": ["nodes/stats"], "verbs": ["get"]});
        assert_eq!(rules, [&reads]);
    }

    #[test]
    fn nobody_deletes_anything_but_the_trial_pod() {
        for (why, rule) in documents().iter().flat_map(|document| &document.rules) {
            let verbs = rule["verbs"].to_string();
            let is_of_trial = rule["resourceNames"] == json!([TRIAL_POD]);
            assert!(!verbs.contains("delete") || is_of_trial, "{why}");
        }
    }

    #[test]
    fn what_a_trial_needs_is_bound_by_whoever_wants_it() {
        let bindings = documents();
        let mut bindings = bindings
            .iter()
            .filter(|document| !document.object["roleRef"].is_null());
        assert!(bindings.all(|binding| binding.object["roleRef"]["name"] != TRIAL_ROLE));
    }

    #[test]
    fn no_rule_has_a_wildcard() {
        for (why, rule) in documents().iter().flat_map(|document| &document.rules) {
            assert!(!rule.to_string().contains("\"*\""), "{why}");
        }
    }
}
