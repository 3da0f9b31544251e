//! Home directories: how large they may be.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::homes::StorageSize;

/// Users' home directories.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!isQuantity(self.size) || !has(self.maxSize) || !isQuantity(self.maxSize) || quantity(self.maxSize).compareTo(quantity(self.size)) >= 0")
    .message("maxSize is less than size: it is what a home may grow to, and at least as much as each has"))]
pub struct Home {
    /// What a home is. Claim: a PersistentVolumeClaim for each server or user, which KubeSpawner makes (label
    /// component=singleuser-storage, annotation hub.jupyter.org/username).
    #[serde(rename = "type")]
    pub type_: HomeType,

    /// What every home has, such as 10Gi. New claims ask for as much, and claims that have less grow to it where
    /// their StorageClass lets them. None ever shrinks.
    #[x_kube(validation = Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))")
        .message("size is an amount of storage greater than 0, such as 10Gi"))]
    pub size: StorageSize,

    /// The most that a new claim may ask for. Not set: as much as size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))")
        .message("maxSize is an amount of storage greater than 0, such as 50Gi"))]
    pub max_size: Option<StorageSize>,

    /// What becomes of a new claim that asks for more. Clamp: it is given maxSize. Deny: it is refused, and so is
    /// the server for which it is made; a user who has a claim already is not concerned.
    #[serde(default)]
    pub on_oversize: OnOversize,
}

/// What a home is.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HomeType {
    /// A PersistentVolumeClaim of its own.
    Claim,
}

/// What becomes of a claim that asks for too much.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnOversize {
    /// It is given what it may have.
    #[default]
    Clamp,
    /// It is refused.
    Deny,
}

/// The home of one user, where it differs from those of the others.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct UserHome {
    /// What this user's homes have, instead of spec.home.size of the HubStorage; it may be more than maxSize there.
    #[x_kube(validation = Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))")
        .message("size is an amount of storage greater than 0, such as 100Gi"))]
    pub size: StorageSize,
}

/// What is known of users' homes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HomesStatus {
    /// Number of claims that are homes.
    pub claims: i32,

    /// Number of those whose volume is being made larger.
    #[serde(default, skip_serializing_if = "is_none")]
    pub growing: i32,

    /// Number of those that are as large as they should be once a server mounts them.
    #[serde(default, skip_serializing_if = "is_none")]
    pub awaiting_server: i32,

    /// Users whose HubUsers give them a size of their own. By this the admission of new claims goes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["username".into()]))]
    pub overrides: Vec<HomeOverride>,

    /// Claims that somebody should look at, the first by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["claim".into(), "reason".into()]))]
    pub findings: Vec<HomeFinding>,
}

fn is_none(number: &i32) -> bool {
    *number == 0
}

/// The size of one user's homes.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
pub struct HomeOverride {
    /// The username as JupyterHub knows it.
    pub username: String,
    /// What each home of this user has, and the most that a new one may ask for where that is more than maxSize.
    pub size: StorageSize,
}

/// A claim that somebody should look at.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
pub struct HomeFinding {
    /// Name of the PersistentVolumeClaim.
    pub claim: String,
    /// Why, for machines.
    // A text, so that a controller that does not know a reason can read what another version wrote.
    pub reason: String,
    /// Why, for people, with the way out.
    pub message: String,
}
