//! Who has which of the rights.

use std::collections::BTreeSet;

use hubstorage_core::api::{HubStorage, SYSTEM_NAMESPACE};
use hubstorage_core::hubs::hub_of_namespace;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::rights::{are_of_creators, dangers};
use crate::manifests::{self, CONTROLLER_ACCOUNT};

/// Everything that RBAC knows.
#[derive(Debug, Default)]
pub struct Rbac {
    pub roles: Vec<Role>,
    pub role_bindings: Vec<RoleBinding>,
    pub cluster_roles: Vec<ClusterRole>,
    pub cluster_role_bindings: Vec<ClusterRoleBinding>,
}

/// One account that could act as any user of a hub, and by what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Where; `None` is everywhere.
    pub namespace: Option<String>,
    /// Kind and name.
    pub subject: String,
    /// What leads to other people's data.
    pub may: Vec<String>,
    /// Kind and name of the binding.
    pub by: String,
    /// As what it is known to have such rights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_as: Option<String>,
    /// Whether it comes with Kubernetes, and nothing of it works without.
    pub is_of_kubernetes: bool,
}

/// Who has rights in these namespaces that lead to other people's data.
pub fn findings(rbac: &Rbac, hubs: &[HubStorage], namespaces: &BTreeSet<String>) -> Vec<Finding> {
    let installed = Rbac::installed();
    let everywhere = installed.role_bindings.iter();
    let everywhere = everywhere.filter_map(|binding| binding.metadata.namespace.clone());
    let ours: Vec<Finding> = bound(&installed, &everywhere.collect())
        .into_iter()
        .map(|(_, finding)| finding)
        .collect();
    let mut found: Vec<Finding> = bound(rbac, namespaces)
        .into_iter()
        .map(|(subject, finding)| Finding {
            known_as: known_as(subject, &finding, &ours, hubs),
            ..finding
        })
        .collect();
    found.sort();
    found
}

/// What each subject of each binding has, as far as it counts.
fn bound<'r>(rbac: &'r Rbac, namespaces: &BTreeSet<String>) -> Vec<(&'r Subject, Finding)> {
    let mut found = Vec::new();
    for binding in &rbac.cluster_role_bindings {
        let may = dangers(rbac.rules(&binding.role_ref, None), true);
        let subjects = binding.subjects.iter().flatten();
        for subject in subjects.filter(|_| !may.is_empty()) {
            let finding = Finding {
                namespace: None,
                subject: name(subject),
                may: may.clone(),
                by: format!("ClusterRoleBinding {}", of(&binding.metadata)),
                known_as: None,
                is_of_kubernetes: is_of_kubernetes(&binding.metadata, subject),
            };
            found.push((subject, finding));
        }
    }
    for binding in &rbac.role_bindings {
        let namespace = binding.metadata.namespace.as_ref();
        let Some(namespace) = namespace.filter(|n| namespaces.contains(*n)) else {
            continue;
        };
        let may = dangers(rbac.rules(&binding.role_ref, Some(namespace)), false);
        let subjects = binding.subjects.iter().flatten();
        for subject in subjects.filter(|_| !may.is_empty()) {
            let finding = Finding {
                namespace: Some(namespace.clone()),
                subject: name(subject),
                may: may.clone(),
                by: format!("RoleBinding {}", of(&binding.metadata)),
                known_as: None,
                is_of_kubernetes: is_of_kubernetes(&binding.metadata, subject),
            };
            found.push((subject, finding));
        }
    }
    found
}

impl Rbac {
    /// What `hubstorage manifests` prints of it.
    fn installed() -> Self {
        let mut installed = Self::default();
        for object in manifests::rights() {
            match object["kind"].as_str() {
                Some("Role") => installed.roles.extend(read(object)),
                Some("RoleBinding") => installed.role_bindings.extend(read(object)),
                Some("ClusterRole") => installed.cluster_roles.extend(read(object)),
                Some("ClusterRoleBinding") => installed.cluster_role_bindings.extend(read(object)),
                _ => {}
            }
        }
        installed
    }

    /// The rules that a binding binds to; none, if its role is not there.
    fn rules(&self, role: &RoleRef, namespace: Option<&String>) -> &[PolicyRule] {
        let is_it = |metadata: &ObjectMeta| metadata.name.as_deref() == Some(&role.name);
        let rules = match role.kind.as_str() {
            "ClusterRole" => self
                .cluster_roles
                .iter()
                .find(|role| is_it(&role.metadata))
                .map(|role| &role.rules),
            _ => self
                .roles
                .iter()
                .find(|role| is_it(&role.metadata) && role.metadata.namespace.as_ref() == namespace)
                .map(|role| &role.rules),
        };
        rules.and_then(Option::as_deref).unwrap_or_default()
    }
}

fn read<K: DeserializeOwned>(object: Value) -> Option<K> {
    serde_json::from_value(object).ok()
}

fn of(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

fn name(subject: &Subject) -> String {
    match &subject.namespace {
        Some(namespace) => format!("{} {namespace}/{}", subject.kind, subject.name),
        None => format!("{} {}", subject.kind, subject.name),
    }
}

/// What the controller may do where somebody lets it try the metadata service; the guard holds what these pods
/// are.
const MAKES_TRIALS: &str = "create pods";

/// As what an account is expected to have such rights, there: the operator what it is installed with, and who
/// makes users' pods what that needs in the hub's own namespace. Whatever else they have is like anybody's.
fn known_as(
    subject: &Subject,
    finding: &Finding,
    ours: &[Finding],
    hubs: &[HubStorage],
) -> Option<String> {
    let is_ours = |own: &Finding| {
        own.subject == finding.subject
            && own.namespace == finding.namespace
            && finding.may.iter().all(|right| own.may.contains(right))
    };
    if ours.iter().any(is_ours) {
        return Some("HubStorage itself".to_owned());
    }
    let namespace = finding.namespace.as_ref()?;
    let is_controller = subject.kind == "ServiceAccount"
        && subject.namespace.as_deref() == Some(SYSTEM_NAMESPACE)
        && subject.name == CONTROLLER_ACCOUNT;
    if is_controller && finding.may == [MAKES_TRIALS] {
        return Some("HubStorage itself, for trial pods".to_owned());
    }
    if subject.kind != "ServiceAccount"
        || subject.namespace.as_ref() != Some(namespace)
        || !are_of_creators(&finding.may)
    {
        return None;
    }
    let of_namespace = hubs.iter();
    let of_namespace: Vec<&HubStorage> = of_namespace
        .filter(|hub| hub.metadata.namespace.as_ref() == Some(namespace))
        .collect();
    let mut sources = hub_of_namespace(&of_namespace)?.spec.users.sources.iter();
    sources
        .find(|source| {
            let mut creators = source.creators.iter();
            creators.any(|creator| creator.service_account.name == subject.name)
        })
        .map(|source| format!("creator of source {}", source.name))
}

/// The API server makes these bindings at its start, and mends them; what somebody added to one is not its own.
fn is_of_kubernetes(binding: &ObjectMeta, subject: &Subject) -> bool {
    let label = binding
        .labels
        .as_ref()
        .and_then(|labels| labels.get("kubernetes.io/bootstrapping"));
    let is_default =
        label.is_some_and(|value| value == "rbac-defaults") && of(binding).starts_with("system:");
    let is_system = match subject.kind.as_str() {
        "ServiceAccount" => subject.namespace.as_deref() == Some("kube-system"),
        "User" => subject.name.starts_with("system:kube-"),
        _ => false,
    };
    is_default && is_system
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rbac(objects: Value) -> Rbac {
        let of = |kind: &str| objects.get(kind).cloned().unwrap_or_else(|| json!([]));
        Rbac {
            roles: serde_json::from_value(of("roles")).unwrap(),
            role_bindings: serde_json::from_value(of("roleBindings")).unwrap(),
            cluster_roles: serde_json::from_value(of("clusterRoles")).unwrap(),
            cluster_role_bindings: serde_json::from_value(of("clusterRoleBindings")).unwrap(),
        }
    }

    fn binding(namespace: Option<&str>, name: &str, role: (&str, &str), subjects: Value) -> Value {
        json!({
            "metadata": {"name": name, "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role.0, "name": role.1},
            "subjects": subjects,
        })
    }

    fn pods(namespace: Option<&str>) -> Value {
        role(namespace, "pods", &[("", "pods", &["create"])])
    }

    fn account(namespace: &str, name: &str) -> Value {
        json!({"kind": "ServiceAccount", "name": name, "namespace": namespace})
    }

    fn hub(name: &str, namespace: &str, created: &str) -> Value {
        json!({
            "apiVersion": "hubstorage.io/v1alpha1", "kind": "HubStorage",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created},
            "spec": {"providerRef": {"name": "minio"}, "buckets": [{"name": "scratch"}]},
        })
    }

    /// The hub earth in its namespace and mars in its own, of which the account `hub` makes the pods.
    fn found_in(namespace: &str, objects: Value) -> Vec<Finding> {
        let mut rival = hub("rival", "earth", "2026-06-01T00:00:00Z");
        rival["spec"]["users"] = json!({"sources": [
            {"name": "own", "podSelector": {}, "creators": [{"serviceAccount": {"name": "ci"}}]},
        ]});
        let hubs = [
            rival,
            hub("earth", "earth", "2026-05-01T00:00:00Z"),
            hub("mars", "mars", "2026-05-01T00:00:00Z"),
        ];
        let hubs = hubs.map(|hub| serde_json::from_value(hub).unwrap());
        findings(&rbac(objects), &hubs, &[namespace.to_owned()].into())
    }

    fn found(objects: Value) -> Vec<Finding> {
        found_in("earth", objects)
    }

    fn role(namespace: Option<&str>, name: &str, rules: &[(&str, &str, &[&str])]) -> Value {
        let rule = |(group, resource, verbs): &(&str, &str, &[&str])| json!({"apiGroups": [group], "resources": [resource], "verbs": verbs});
        let rules: Vec<Value> = rules.iter().map(rule).collect();
        json!({"metadata": {"name": name, "namespace": namespace}, "rules": rules})
    }

    #[test]
    fn a_role_counts_in_its_namespace_and_a_creator_is_known_by_it() {
        let subjects = json!([
            account("earth", "hub"),
            account("earth", "ci"),
            account("mars", "hub")
        ]);
        let told = found(json!({
            "roles": [pods(Some("earth"))],
            "roleBindings": [
                binding(Some("earth"), "hub", ("Role", "pods"), subjects),
                // Of another namespace, and of a role that is not there.
                binding(Some("mars"), "hub", ("Role", "pods"), json!([account("mars", "hub")])),
                binding(Some("earth"), "nothing", ("ClusterRole", "pods"), json!([account("earth", "eve")])),
            ],
        }));
        let told: Vec<_> = told
            .iter()
            .map(|f| (f.subject.as_str(), f.known_as.as_deref()))
            .collect();
        let expected = [
            ("ServiceAccount earth/ci", None),
            (
                "ServiceAccount earth/hub",
                Some("creator of source notebook"),
            ),
            ("ServiceAccount mars/hub", None),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn the_controller_is_known_by_its_trial_pods_where_it_may_make_no_more_than_these() {
        let trials = json!([account(SYSTEM_NAMESPACE, CONTROLLER_ACCOUNT)]);
        let manifests: Vec<ClusterRole> = Rbac::installed().cluster_roles;
        let told = found(json!({
            "clusterRoles": manifests,
            "roles": [role(Some("earth"), "more", &[("", "pods", &["create"]), ("", "pods/exec", &["create"])])],
            "roleBindings": [
                binding(Some("earth"), "trials", ("ClusterRole", "hubstorage-metadata-trial"), trials.clone()),
                binding(Some("earth"), "more", ("Role", "more"), trials),
            ],
        }));
        let told: Vec<_> = told
            .iter()
            .map(|f| (f.by.as_str(), f.known_as.as_deref()))
            .collect();
        let expected = [
            (
                "RoleBinding trials",
                Some("HubStorage itself, for trial pods"),
            ),
            ("RoleBinding more", None),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_creator_is_known_where_its_hub_is_and_by_what_it_needs_there() {
        let hub = json!([account("earth", "hub")]);
        let needs: &[(&str, &str, &[&str])] = &[
            ("", "pods", &["create", "delete"]),
            ("", "secrets", &["get", "list", "create"]),
        ];
        let mut more = needs.to_vec();
        more.push(("", "pods/exec", &["create"]));
        let objects = json!({
            "roles": [
                role(Some("earth"), "needs", needs), role(Some("earth"), "more", &more),
                role(Some("mars"), "needs", needs),
            ],
            "clusterRoles": [role(None, "needs", needs), role(None, "all", &[("*", "*", &["*"])])],
            "roleBindings": [
                binding(Some("earth"), "needs", ("Role", "needs"), hub.clone()),
                binding(Some("earth"), "more", ("Role", "more"), hub.clone()),
                binding(Some("earth"), "all", ("ClusterRole", "all"), hub.clone()),
                binding(Some("mars"), "needs", ("Role", "needs"), hub.clone()),
            ],
            "clusterRoleBindings": [
                binding(None, "all", ("ClusterRole", "all"), hub.clone()),
                binding(None, "needs", ("ClusterRole", "needs"), hub),
            ],
        });
        let known = |namespace: &str| {
            let found = found_in(namespace, objects.clone()).into_iter();
            let known = found.filter(|finding| finding.known_as.is_some());
            known.map(|finding| finding.by).collect::<Vec<_>>()
        };
        assert_eq!(found(objects.clone()).len(), 5);
        assert_eq!(known("earth"), ["RoleBinding needs"]);
        assert_eq!(found_in("mars", objects.clone()).len(), 3);
        assert!(known("mars").is_empty());
    }

    #[test]
    fn the_operator_is_known_by_what_it_is_installed_with_and_nothing_else() {
        let installed = Rbac::installed();
        let ours: BTreeSet<String> = [SYSTEM_NAMESPACE, "earth"].map(str::to_owned).into();
        let told = findings(&installed, &[], &ours);
        assert!(told.len() > 2);
        let itself = Some("HubStorage itself");
        assert!(told.iter().all(|f| f.known_as.as_deref() == itself));

        let controller = json!([account(SYSTEM_NAMESPACE, "hubstorage-controller")]);
        let secrets = role(None, "secrets", &[("", "secrets", &["get"])]);
        let given = rbac(json!({
            "clusterRoles": [secrets, role(None, "all", &[("*", "*", &["*"])])],
            "roleBindings": [binding(Some("earth"), "more", ("ClusterRole", "secrets"), controller.clone())],
            "clusterRoleBindings": [
                binding(None, "all", ("ClusterRole", "all"), controller.clone()),
                binding(None, "secrets", ("ClusterRole", "secrets"), controller),
            ],
        }));
        let told = findings(&given, &[], &ours);
        assert_eq!(told.len(), 3);
        assert!(told.iter().all(|f| f.known_as.is_none()), "{told:?}");
    }

    #[test]
    fn a_cluster_role_counts_where_it_is_bound() {
        let told = found(json!({
            "clusterRoles": [pods(None)],
            "roleBindings": [binding(Some("earth"), "edit", ("ClusterRole", "pods"), json!([{"kind": "Group", "name": "team"}]))],
            "clusterRoleBindings": [binding(None, "all", ("ClusterRole", "pods"), json!([{"kind": "User", "name": "eve"}]))],
        }));
        let told: Vec<_> = told
            .iter()
            .map(|f| (f.namespace.as_deref(), f.by.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                (None, "ClusterRoleBinding all"),
                (Some("earth"), "RoleBinding edit")
            ]
        );
    }

    #[test]
    fn only_what_the_api_server_put_into_its_own_bindings_is_of_kubernetes() {
        let default = |name: &str, subjects: Value| {
            let mut default = binding(None, name, ("ClusterRole", "pods"), subjects);
            default["metadata"]["labels"] = json!({"kubernetes.io/bootstrapping": "rbac-defaults"});
            default
        };
        let told = found(json!({
            "clusterRoles": [pods(None)],
            "clusterRoleBindings": [
                default("system:controller:job-controller", json!([
                    account("kube-system", "job-controller"), account("earth", "default"),
                    {"kind": "Group", "name": "system:authenticated"},
                ])),
                default("cluster-admin", json!([{"kind": "Group", "name": "system:masters"}])),
                binding(None, "system:mine", ("ClusterRole", "pods"), json!([account("kube-system", "helm")])),
            ],
        }));
        let of_kubernetes: Vec<_> = told
            .iter()
            .filter(|f| f.is_of_kubernetes)
            .map(|f| f.subject.as_str())
            .collect();
        assert_eq!(of_kubernetes, ["ServiceAccount kube-system/job-controller"]);
        assert_eq!(told.len(), 5);
    }
}
