//! Admission policies that hold what a HubStorage declares, whether the webhook is there or not: how large homes may be,
//! and who writes to shared folders.
//!
//! Their parameter is the HubStorage, unlike the guard's ([`crate::guard`]), on which vending depends: whether these are in
//! force is told in status, and vending does not wait for it.

pub mod homes;
pub mod shared;

use serde_json::{Value, json};

use crate::guard::{Document, GuardKind};

/// A policy that has the HubStorages of an object's own namespace as parameter.
struct Limit {
    /// Name of the policy, and of its binding.
    name: &'static str,
    /// Why each is there.
    purpose: &'static str,
    in_force: &'static str,
    /// What is done about what it refuses.
    actions: Value,
    /// Which objects it looks at, by their labels.
    selector: Value,
    /// At which operations on which resources of the core group.
    at: &'static [(&'static str, &'static str)],
    /// Its conditions, variables and validations.
    rules: Value,
}

impl Limit {
    /// The policy and its binding. Whatever goes wrong with it lets the object pass: an API server that has just begun, or
    /// lacks the kind of the parameter, cannot apply it, and is to stop no hub from starting servers, least of all one
    /// without a HubStorage.
    fn documents(self) -> Vec<Document> {
        let at = self.at.iter().map(|(operation, resource)| {
            json!({
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "operations": [operation],
                "resources": [resource],
                "scope": "*",
            })
        });
        let mut policy = self.rules;
        policy["failurePolicy"] = json!("Ignore");
        policy["paramKind"] = json!({"apiVersion": "hubstorage.io/v1alpha1", "kind": "HubStorage"});
        policy["matchConstraints"] = json!({
            "matchPolicy": "Equivalent",
            "namespaceSelector": {},
            "objectSelector": self.selector,
            "resourceRules": at.collect::<Vec<_>>(),
        });
        let binding = json!({
            "policyName": self.name,
            "paramRef": {"selector": {}, "parameterNotFoundAction": "Allow"},
            "validationActions": self.actions,
        });
        let document = |kind, purpose, spec| Document {
            kind,
            name: self.name,
            purpose,
            spec,
        };
        vec![
            document(GuardKind::Policy, self.purpose, policy),
            document(GuardKind::Binding, self.in_force, binding),
        ]
    }
}
