//! The admission policy that refuses homes that ask for too much, where a HubStorage says `onOversize: Deny`.
//!
//! Its parameter is the HubStorage of the claim's namespace, so that it holds without the webhook. It is no part of
//! the guard: a limit is a matter of cost, and whatever goes wrong with it lets the claim pass, and the server start.

use hubstorage_core::api::USERNAME_ANNOTATION;
use hubstorage_core::homes::{CLAIM_LABEL, CLAIM_LABEL_VALUE};
use serde_json::{Value, json};

use super::Limit;
use crate::guard::Document;

/// The policy and its binding.
pub fn documents() -> Vec<Document> {
    let limit = Limit {
        name: "hubstorage-homes",
        purpose: "Refuses homes that ask for more than spec.home of their HubStorage lets them, where it says onOversize: Deny.",
        in_force: "Puts the policy above in force: by the HubStorages of the claim's own namespace.",
        actions: json!(["Deny"]),
        selector: json!({"matchLabels": {(CLAIM_LABEL): CLAIM_LABEL_VALUE}}),
        at: &[("CREATE", "persistentvolumeclaims")],
        rules: rules(),
    };
    limit.documents()
}

fn rules() -> Value {
    json!({
        "variables": [
            // Only the HubStorage that counts in its namespace has such a status.
            {"name": "refuses", "expression":
                "has(params.spec.home) && params.spec.home.?onOversize.orValue('Clamp') == 'Deny' && \
                 params.?status.homes.hasValue() && params.spec.?mode.orValue('Enforce') != 'Observe' && \
                 !has(params.metadata.deletionTimestamp)"},
            // A claim for a volume that is there, or a copy of one, has to be as large as that.
            {"name": "isNew", "expression":
                "!has(object.spec.volumeName) && !has(object.spec.dataSource) && !has(object.spec.dataSourceRef)"},
            {"name": "user", "expression": format!(
                "object.metadata.?annotations[?'{USERNAME_ANNOTATION}'].orValue('')"
            )},
            {"name": "asked", "expression": "object.spec.resources.requests['storage']"},
            // At most one: the list is a map by username.
            {"name": "own", "expression":
                "params.?status.homes.overrides.orValue([]).filter(o, o.username == variables.user)"},
            {"name": "size", "expression":
                "variables.own.exists(o, has(o.size)) ? variables.own[0].size : params.spec.home.size"},
            {"name": "max", "expression":
                "variables.own.exists(o, has(o.maxSize)) ? variables.own[0].maxSize : \
                 params.spec.home.?maxSize.orValue(params.spec.home.size)"},
            {"name": "most", "expression":
                "quantity(variables.max).compareTo(quantity(variables.size)) >= 0 ? variables.max : variables.size"},
        ],
        "validations": [{
            "expression":
                "!variables.refuses || !variables.isNew || variables.user == '' || \
                 quantity(variables.asked).compareTo(quantity(variables.most)) <= 0",
            "messageExpression":
                "'a home directory may have ' + variables.most + ', and the one that the hub asks for has ' + \
                 variables.asked + ': tell the administrators of the hub. They raise spec.home.maxSize of HubStorage ' + \
                 params.metadata.name + ', let this user have more (spec.home of a HubUser), or make the \
                 hub ask for less (singleuser.storage.capacity)'",
            "message": "a home directory asks for more than spec.home.maxSize of the HubStorage",
            // KubeSpawner goes on with the claim that is there, if one is, after 403 only.
            "reason": "Forbidden",
        }],
    })
}
