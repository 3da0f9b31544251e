//! Who has which of the rights.

use std::collections::BTreeSet;

use hubstorage_core::api::{HubStorage, SYSTEM_NAMESPACE};
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use super::rights::dangers;
use crate::manifests::{CONTROLLER_ACCOUNT, SERVE_ACCOUNT};

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
    let mut found = Vec::new();
    for binding in &rbac.cluster_role_bindings {
        let may = dangers(rbac.rules(&binding.role_ref, None), true);
        for subject in binding
            .subjects
            .iter()
            .flatten()
            .filter(|_| !may.is_empty())
        {
            found.push(Finding {
                namespace: None,
                subject: name(subject),
                may: may.clone(),
                by: format!("ClusterRoleBinding {}", of(&binding.metadata)),
                known_as: known_as(subject, hubs),
                is_of_kubernetes: is_of_kubernetes(&binding.metadata, subject),
            });
        }
    }
    for binding in &rbac.role_bindings {
        let Some(namespace) = binding
            .metadata
            .namespace
            .as_ref()
            .filter(|n| namespaces.contains(*n))
        else {
            continue;
        };
        let may = dangers(rbac.rules(&binding.role_ref, Some(namespace)), false);
        for subject in binding
            .subjects
            .iter()
            .flatten()
            .filter(|_| !may.is_empty())
        {
            found.push(Finding {
                namespace: Some(namespace.clone()),
                subject: name(subject),
                may: may.clone(),
                by: format!("RoleBinding {}", of(&binding.metadata)),
                known_as: known_as(subject, hubs),
                is_of_kubernetes: is_of_kubernetes(&binding.metadata, subject),
            });
        }
    }
    found.sort();
    found
}

impl Rbac {
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

fn of(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

fn name(subject: &Subject) -> String {
    match &subject.namespace {
        Some(namespace) => format!("{} {namespace}/{}", subject.kind, subject.name),
        None => format!("{} {}", subject.kind, subject.name),
    }
}

/// As what an account is expected to have such rights.
fn known_as(subject: &Subject, hubs: &[HubStorage]) -> Option<String> {
    if subject.kind != "ServiceAccount" {
        return None;
    }
    let namespace = subject.namespace.as_deref();
    if namespace == Some(SYSTEM_NAMESPACE)
        && [CONTROLLER_ACCOUNT, SERVE_ACCOUNT].contains(&subject.name.as_str())
    {
        return Some("HubStorage itself".to_owned());
    }
    let of_namespace = hubs
        .iter()
        .filter(|hub| hub.metadata.namespace.as_deref() == namespace);
    let mut sources = of_namespace.flat_map(|hub| &hub.spec.users.sources);
    sources
        .find(|source| {
            source
                .creators
                .iter()
                .any(|creator| creator.service_account.name == subject.name)
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
    use serde_json::{Value, json};

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
        json!({"metadata": {"name": "pods", "namespace": namespace},
               "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}]})
    }

    fn account(namespace: &str, name: &str) -> Value {
        json!({"kind": "ServiceAccount", "name": name, "namespace": namespace})
    }

    fn hub() -> HubStorage {
        serde_json::from_value(json!({
            "apiVersion": "hubstorage.io/v1alpha1", "kind": "HubStorage",
            "metadata": {"name": "earth", "namespace": "earth"},
            "spec": {"providerRef": {"name": "minio"}, "buckets": [{"name": "scratch"}]},
        }))
        .unwrap()
    }

    fn found(objects: Value) -> Vec<Finding> {
        findings(&rbac(objects), &[hub()], &["earth".to_owned()].into())
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
