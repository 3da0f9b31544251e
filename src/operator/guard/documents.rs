//! The policies themselves.
//!
//! Every field is written out, also where the API server would fill in the same value, so that
//! what it returns can be compared as it is: [`super::state`] takes any difference for a guard
//! that is not ours. No policy has parameters or variables that live elsewhere, so nothing but
//! these objects decides.

use hubstorage_core::api::{
    AUDIENCE, GROUPS_ANNOTATION, STAMP_ANNOTATION, SYSTEM_NAMESPACE, USERNAME_ANNOTATION,
};
use hubstorage_core::injection::TOKEN_VOLUME;
use serde_json::{Value, json};

use super::GuardKind;
use crate::manifests::CONTROLLER_ACCOUNT;

/// What a pod says of its user: as it was when the pod was created, or not at all.
const FOR_GOOD: [&str; 3] = [STAMP_ANNOTATION, USERNAME_ANNOTATION, GROUPS_ANNOTATION];

/// One object of the guard.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// What kind of object.
    pub kind: GuardKind,
    /// `metadata.name`.
    pub name: &'static str,
    /// Why it is there, for whoever reads the manifests.
    pub purpose: &'static str,
    /// The whole `spec`, as the API server returns it.
    pub spec: Value,
}

impl Document {
    /// The object as it is applied.
    pub fn object(&self) -> Value {
        json!({
            "apiVersion": GuardKind::API_VERSION,
            "kind": self.kind.name(),
            "metadata": {"name": self.name, "labels": {"app.kubernetes.io/part-of": "hubstorage"}},
            "spec": self.spec,
        })
    }
}

/// A policy before it becomes two objects.
struct Policy {
    name: &'static str,
    purpose: &'static str,
    matches: Vec<Match>,
    validations: Vec<Validation>,
}

/// Requests that a policy looks at.
struct Match {
    group: &'static str,
    version: &'static str,
    operation: &'static str,
    resources: &'static [&'static str],
}

/// An expression that has to be true, and what is said when it is not.
struct Validation {
    expression: String,
    message: String,
}

/// Every policy and its binding, in the order in which they are applied: a binding without its
/// policy does nothing, and a policy without its binding neither.
pub fn documents() -> Vec<Document> {
    policies()
        .iter()
        .flat_map(|policy| [policy.document(), policy.binding()])
        .collect()
}

fn policies() -> [Policy; 7] {
    [
        pod_creation(),
        pod_changes(),
        pod_binding(),
        token_volume(),
        token_requests(),
        suspended_users(),
        trial_pods(),
    ]
}

/// Who creates a pod is known to the API server alone, and only at that moment.
fn pod_creation() -> Policy {
    Policy {
        name: "hubstorage-pod-creation",
        purpose: "A stamp names the account that creates the pod, and no other.",
        matches: vec![Match::core("CREATE", &["pods"])],
        validations: vec![Validation {
            expression: format!(
                "{}.orValue(request.userInfo.username) == request.userInfo.username",
                annotation("object", STAMP_ANNOTATION)
            ),
            message: format!(
                "annotation {STAMP_ANNOTATION} must be absent or name the account that creates the pod: remove it, \
                 the admission webhook of HubStorage sets it"
            ),
        }],
    }
}

/// The kubelet writes metadata through `pods/status`; `pods/*` holds whatever subresource a later
/// Kubernetes adds.
fn pod_changes() -> Policy {
    let unchanged = |key: &str| {
        format!(
            "{} == {}",
            annotation("object", key),
            annotation("oldObject", key)
        )
    };
    let message = |key: &str| {
        format!(
            "annotation {key} of a pod can neither be added, changed nor removed: create another pod instead"
        )
    };
    Policy {
        name: "hubstorage-pod-changes",
        purpose: "Stamp, username and groups stay as they were when the pod was created.",
        matches: vec![Match::core("UPDATE", &["pods", "pods/*"])],
        validations: FOR_GOOD
            .map(|key| Validation {
                expression: unchanged(key),
                message: message(key),
            })
            .into(),
    }
}

/// The API server copies the annotations of a binding onto the pod.
fn pod_binding() -> Policy {
    Policy {
        name: "hubstorage-pod-binding",
        purpose: "Binding a pod to a node brings neither stamp nor username nor groups.",
        matches: vec![Match::core("CREATE", &["pods/binding", "bindings"])],
        validations: FOR_GOOD
            .map(|key| Validation {
                expression: format!("!{}.hasValue()", annotation("object", key)),
                message: format!("a binding may not carry annotation {key}, which would be copied onto the pod: remove it"),
            })
            .into(),
    }
}

/// Not a wall against whoever may exec into the pod, but ephemeral containers are handed out to
/// people who may not.
fn token_volume() -> Policy {
    let ours = format!(
        "object.spec.?volumes.orValue([]).filter(v, v.name == '{TOKEN_VOLUME}' || \
         v.?projected.?sources.orValue([]).exists(s, s.?serviceAccountToken.?audience.orValue('') == '{AUDIENCE}')).map(v, v.name)"
    );
    Policy {
        name: "hubstorage-token-volume",
        purpose: "A debugging container does not get at the user's token.",
        matches: vec![Match::core("UPDATE", &["pods/ephemeralcontainers"])],
        validations: vec![Validation {
            expression: format!(
                "object.spec.?ephemeralContainers.orValue([]).all(c, \
                 c.?volumeMounts.orValue([]).all(m, !(m.name in {ours})))"
            ),
            message: format!(
                "an ephemeral container may not mount a volume with a token for {AUDIENCE} (by default {TOKEN_VOLUME}): \
                 leave that volumeMount out"
            ),
        }],
    }
}

/// Only the kubelet needs such tokens: it mounts them into the pods that they are bound to.
fn token_requests() -> Policy {
    Policy {
        name: "hubstorage-token-requests",
        purpose: "Only nodes get tokens for our audience, for the pods that run on them.",
        matches: vec![Match::core("CREATE", &["serviceaccounts/token"])],
        validations: vec![Validation {
            expression: format!(
                "!('{AUDIENCE}' in object.spec.?audiences.orValue([])) || \
                 'system:nodes' in request.userInfo.?groups.orValue([])"
            ),
            message: format!(
                "tokens for the audience {AUDIENCE} are issued to nodes only, which mount them into pods: \
                 use a pod with a projected volume, or ask for another audience"
            ),
        }],
    }
}

/// A suspended user whose object is deleted would be made anew, and not be suspended.
fn suspended_users() -> Policy {
    // The last is who the first two are where kube-controller-manager runs without
    // --use-service-account-credentials; without it a namespace could not be deleted there.
    let cleaners = "['system:serviceaccount:kube-system:generic-garbage-collector', \
                     'system:serviceaccount:kube-system:namespace-controller', \
                     'system:kube-controller-manager']";
    Policy {
        name: "hubstorage-suspended-users",
        purpose: "A suspended HubUser is deleted only with its HubStorage or its namespace.",
        matches: vec![Match {
            group: "hubstorage.io",
            version: "v1alpha1",
            operation: "DELETE",
            resources: &["hubusers"],
        }],
        validations: vec![Validation {
            expression: format!(
                "oldObject.spec.?access.orValue('Active') != 'Suspended' || request.userInfo.username in {cleaners}"
            ),
            message: "a HubUser with access: Suspended cannot be deleted, as it would come back unsuspended: \
                      set spec.access to Active first"
                .to_owned(),
        }],
    }
}

/// Where somebody lets the controller try the metadata service by a pod, it could run anything in that
/// namespace, with any of its accounts and Secrets, but for this.
fn trial_pods() -> Policy {
    let controller = format!("system:serviceaccount:{SYSTEM_NAMESPACE}:{CONTROLLER_ACCOUNT}");
    let none = |field: &str| format!("object.spec.?{field}.orValue([]).size() == 0");
    let bare = [
        "object.spec.?automountServiceAccountToken.orValue(true) == false".to_owned(),
        none("volumes"),
        none("initContainers"),
        none("resourceClaims"),
        "!object.spec.?hostNetwork.orValue(false)".to_owned(),
        "!object.spec.?hostPID.orValue(false)".to_owned(),
        "!object.spec.?hostIPC.orValue(false)".to_owned(),
        "object.spec.?securityContext.?runAsNonRoot.orValue(false)".to_owned(),
        "object.spec.containers.all(c, c.?env.orValue([]).size() == 0 && c.?envFrom.orValue([]).size() == 0 && \
         c.?securityContext.?runAsNonRoot.orValue(true) && !c.?securityContext.?privileged.orValue(false) && \
         c.?securityContext.?allowPrivilegeEscalation.orValue(true) == false && \
         c.?securityContext.?capabilities.?add.orValue([]).size() == 0)"
            .to_owned(),
    ];
    Policy {
        name: "hubstorage-trial-pods",
        purpose: "A pod that the controller makes has no token, no volume, no variable and no privilege.",
        matches: vec![Match::core("CREATE", &["pods"])],
        validations: vec![Validation {
            expression: format!(
                "request.userInfo.username != '{controller}' || ({})",
                bare.join(" && ")
            ),
            message: "the controller of HubStorage makes trial pods only: without token, volumes, variables, init \
                      containers and privileges; something else adds one of these to its pod"
                .to_owned(),
        }],
    }
}

/// An annotation as an optional value; absent metadata and absent annotations are no annotation.
fn annotation(object: &str, key: &str) -> String {
    format!("{object}.?metadata.?annotations[?'{key}']")
}

impl Match {
    fn core(operation: &'static str, resources: &'static [&'static str]) -> Self {
        Self {
            group: "",
            version: "v1",
            operation,
            resources,
        }
    }
}

impl Policy {
    fn document(&self) -> Document {
        let rules: Vec<Value> = self
            .matches
            .iter()
            .map(|rule| {
                json!({
                    "apiGroups": [rule.group],
                    "apiVersions": [rule.version],
                    "operations": [rule.operation],
                    "resources": rule.resources,
                    "scope": "*",
                })
            })
            .collect();
        let validations: Vec<Value> = self
            .validations
            .iter()
            .map(|v| json!({"expression": v.expression, "message": v.message, "reason": "Forbidden"}))
            .collect();
        Document {
            kind: GuardKind::Policy,
            name: self.name,
            purpose: self.purpose,
            spec: json!({
                "failurePolicy": "Fail",
                "matchConstraints": {
                    "matchPolicy": "Equivalent",
                    "namespaceSelector": {},
                    "objectSelector": {},
                    "resourceRules": rules,
                },
                "validations": validations,
            }),
        }
    }

    fn binding(&self) -> Document {
        Document {
            kind: GuardKind::Binding,
            name: self.name,
            purpose: "Puts the policy above in force, everywhere.",
            spec: json!({"policyName": self.name, "validationActions": ["Deny"]}),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_bound_and_fails_closed() {
        let documents = documents();
        for pair in documents.chunks(2) {
            assert_eq!(
                (pair[0].kind, pair[1].kind),
                (GuardKind::Policy, GuardKind::Binding)
            );
            assert_eq!(pair[1].spec["policyName"], pair[0].name);
            assert_eq!(pair[1].spec["validationActions"], json!(["Deny"]));
            assert_eq!(pair[0].spec["failurePolicy"], "Fail");
        }
        assert_eq!(documents.len(), 14);
    }

    #[test]
    fn no_policy_looks_away_from_a_namespace_or_an_object() {
        for policy in documents().iter().filter(|d| d.kind == GuardKind::Policy) {
            assert_eq!(
                policy.spec["matchConstraints"]["namespaceSelector"],
                json!({}),
                "{}",
                policy.name
            );
            assert_eq!(
                policy.spec["matchConstraints"]["objectSelector"],
                json!({}),
                "{}",
                policy.name
            );
            assert!(
                policy.spec.get("matchConditions").is_none(),
                "{}",
                policy.name
            );
            assert!(policy.spec.get("paramKind").is_none(), "{}", policy.name);
        }
    }

    #[test]
    fn every_message_fits_what_the_api_server_takes() {
        // validation.message: at most one line; the API server shows it after a prefix of its own.
        for policy in documents() {
            for validation in policy.spec["validations"].as_array().into_iter().flatten() {
                let message = validation["message"].as_str().unwrap();
                assert!(!message.contains('\n') && message.len() < 300, "{message}");
            }
        }
    }
}
