//! `HubUser`: one user of one hub, the unit of audit.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NameReference;
use super::home::{HomeUsage, UserHome};

/// One user of one hub. Made by the operator when the user's first pod appears; admins may set
/// `access`.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "hubstorage.io",
    version = "v1alpha1",
    kind = "HubUser",
    shortname = "hu",
    category = "hubstorage",
    namespaced,
    status = "HubUserStatus",
    derive = "PartialEq",
    doc = "HubUser is one user of one hub: what they reach, and whether they may.",
    selectable = ".spec.username",
    printcolumn(name = "User", type_ = "string", json_path = ".spec.username"),
    printcolumn(name = "Hub", type_ = "string", json_path = ".spec.hubRef.name"),
    printcolumn(name = "Prefix", type_ = "string", json_path = ".status.prefix"),
    printcolumn(name = "Access", type_ = "string", json_path = ".spec.access"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(
        name = "Home-%",
        type_ = "integer",
        json_path = ".status.homes[0].usedPercent"
    ),
    printcolumn(name = "Last-Vend", type_ = "date", json_path = ".status.lastVendTime"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct HubUserSpec {
    /// The HubStorage in the same namespace. Immutable. This object has no status before the namespace has a HubStorage.
    #[x_kube(validation = Rule::new("self == oldSelf").message("hubRef is immutable"))]
    pub hub_ref: NameReference,

    /// The username as JupyterHub knows it. Immutable.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("username is immutable"))]
    pub username: String,

    /// Suspended: nothing is vended for this user. Set by admins, never by the operator.
    #[serde(default)]
    pub access: AccessMode,

    /// The user's homes, where they are to differ from those of the others. Set by admins, never by the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<UserHome>,
}

/// Whether a user may have credentials.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AccessMode {
    /// The user may.
    #[default]
    Active,
    /// The user may not.
    Suspended,
}

/// What is known of a user.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HubUserStatus {
    /// Generation of the spec that this status describes; -1 before the first look.
    #[serde(default = "super::never_observed")]
    pub observed_generation: i64,

    /// Ready, and Stalled where this object has no effect or its user can have no prefix.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The user's key prefix in every bucket of the hub. Absent: the conditions say why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,

    /// When credentials were last issued, to the hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_vend_time: Option<Time>,

    /// How full the user's homes were when a server had them mounted last, the fullest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["claim".into()]))]
    pub homes: Vec<HomeUsage>,
}
