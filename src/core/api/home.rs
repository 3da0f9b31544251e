//! Home directories: how large they may be.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::homes::StorageSize;

/// The rule of every size.
const IS_AMOUNT: &str = "isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))";

/// Users' home directories.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!isQuantity(self.size) || !has(self.maxSize) || !isQuantity(self.maxSize) || quantity(self.maxSize).compareTo(quantity(self.size)) >= 0")
    .message("maxSize is less than size: it is what a home may grow to, and at least as much as each has"))]
#[x_kube(validation = Rule::new("!has(self.growth) || has(self.maxSize)")
    .message("growth needs maxSize: the most that a home grows to"))]
pub struct Home {
    /// What a home is. Claim: a PersistentVolumeClaim for each server or user, which KubeSpawner makes (label
    /// component=singleuser-storage, annotation hub.jupyter.org/username).
    #[serde(rename = "type")]
    pub type_: HomeType,

    /// What every home has, such as 10Gi. New claims ask for as much, and claims that have less grow to it where
    /// their StorageClass lets them. None ever shrinks.
    #[x_kube(validation = Rule::new(IS_AMOUNT)
        .message("size is an amount of storage greater than 0, such as 10Gi"))]
    pub size: StorageSize,

    /// The most that a new claim may ask for. Not set: as much as size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(IS_AMOUNT)
        .message("maxSize is an amount of storage greater than 0, such as 50Gi"))]
    pub max_size: Option<StorageSize>,

    /// What becomes of a new claim that asks for more. Clamp: it is given maxSize. Deny: it is refused, and so is
    /// the server for which it is made; a user who has a claim already is not concerned.
    #[serde(default)]
    pub on_oversize: OnOversize,

    /// Makes homes grow that are nearly full, up to maxSize. Not set: they are told, and stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<HomeGrowth>,
}

/// When a home grows by itself, and by how much at a time.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HomeGrowth {
    /// How full a home is that grows, in percent of its file system as `df` says it; of its inodes, where they run
    /// out first. Looked at each minute while a server has it mounted.
    #[serde(default = "default_threshold")]
    #[schemars(range(min = 50, max = 95))]
    pub threshold_percent: i32,

    /// By how much it grows then, such as 1Gi; again, once it is as full as that again. Never beyond maxSize.
    #[x_kube(validation = Rule::new("isQuantity(self) && quantity(self).compareTo(quantity('10Mi')) >= 0")
        .message("step is an amount of storage of at least 10Mi, such as 1Gi"))]
    pub step: StorageSize,
}

/// The share at which people start to tidy up, and at which there is still room for the minutes that growth takes.
fn default_threshold() -> i32 {
    90
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

/// The homes of one user, where they differ from those of the others.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.size) || has(self.maxSize)")
    .message("one of size and maxSize has to be set: size makes this user's homes grow, maxSize lets them be larger"))]
pub struct UserHome {
    /// What every home of this user has, instead of spec.home.size of the HubStorage; each named server may have a
    /// home of its own, and all of them grow. It may be more than maxSize.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(IS_AMOUNT)
        .message("size is an amount of storage greater than 0, such as 100Gi"))]
    pub size: Option<StorageSize>,

    /// The most that a home of this user may have, instead of spec.home.maxSize of the HubStorage; none grows by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(IS_AMOUNT)
        .message("maxSize is an amount of storage greater than 0, such as 100Gi"))]
    pub max_size: Option<StorageSize>,
}

/// What is known of users' homes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HomesStatus {
    /// Generation of the spec that this describes; -1 before the first look.
    #[serde(default = "super::never_observed")]
    pub observed_generation: i64,

    /// Number of claims that are homes.
    pub claims: i32,

    /// Number of those whose volume is being made larger; above 10 in steps of 10, above 100 of 100.
    #[serde(default, skip_serializing_if = "is_none")]
    pub growing: i32,

    /// Number of those that are as large as they should be once a server mounts them; in the same steps.
    #[serde(default, skip_serializing_if = "is_none")]
    pub awaiting_server: i32,

    /// Users whose HubUsers give them a size of their own. By this the admission of new claims goes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["username".into()]))]
    pub overrides: Vec<HomeOverride>,

    /// Number of users with sizes of their own who are not in overrides, because it is full: theirs do not count.
    #[serde(default, skip_serializing_if = "is_none")]
    pub overrides_left_out: i32,

    /// Why nodes do not tell how full homes are, or half of them and more; not set where more do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub usage_unknown: Option<String>,

    /// What was found of claims, and of how many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["reason".into()]))]
    pub found: Vec<HomeCount>,

    /// Claims that somebody should look at; of more than 64 those that keep homes from being as declared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["claim".into(), "reason".into()]))]
    pub findings: Vec<HomeFinding>,
}

fn is_none(number: &i32) -> bool {
    *number == 0
}

/// The sizes of one user's homes.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HomeOverride {
    /// The username as JupyterHub knows it.
    pub username: String,
    /// What each home of this user has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<StorageSize>,
    /// The most that a home of this user may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<StorageSize>,
}

/// How full one home of a user is.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HomeUsage {
    /// Name of the PersistentVolumeClaim.
    pub claim: String,
    /// UID of that claim: another one that is made under its name has a usage of its own.
    pub uid: String,
    /// How much of it is used, in percent of its file system or of its inodes, whichever is more. In steps: 10, 20 and
    /// so on to 90, 95, 100. A step is told when it is reached, and left when less is used by more than 2.
    pub used_percent: i32,
    /// The size of the volume of which that is.
    pub size: StorageSize,
}

/// How many claims somebody should look at for one reason.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
pub struct HomeCount {
    /// Why, for machines.
    pub reason: String,
    /// How many.
    pub claims: i32,
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
