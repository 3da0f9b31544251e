//! One bucket of a hub, as it is declared.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lifecycle::Days;
use crate::policies::Access;

/// One bucket of a hub.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.bucketName) == has(oldSelf.bucketName) && (!has(self.bucketName) || self.bucketName == oldSelf.bucketName)")
    .message("bucketName is immutable: data does not move by itself; add a second bucket, copy, then remove this one"))]
pub struct Bucket {
    /// Name of this bucket within the hub, for example scratch.
    #[schemars(length(min = 1, max = 32), pattern(r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: String,

    /// Name in the store. Default: made of the namespace, this name and a hash. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 63), pattern(r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub bucket_name: Option<String>,

    /// When data in the bucket is deleted. Absent: lifecycle rules are not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,

    /// Who reaches what. Default: everyone their own prefix, to read and write.
    #[serde(default = "default_grants")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub grants: Vec<Grant>,

    /// Environment variables in user pods that hold the location of the user's prefix.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvVar>,

    /// What becomes of the bucket when the HubStorage is deleted. Retain: nothing.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

impl Bucket {
    /// What the grants let a user do with their own prefix; the widest counts.
    pub fn user_access(&self) -> Option<Access> {
        let is_for_everyone = |grant: &&Grant| {
            let mut subjects = grant.subjects.iter();
            subjects.any(|subject| matches!(subject.kind, SubjectKind::Everyone))
        };
        self.grants
            .iter()
            .filter(is_for_everyone)
            .map(|grant| match (grant.scope, grant.permission) {
                (Scope::UserPrefix, Permission::ReadOnly) => Access::ReadOnly,
                (Scope::UserPrefix, Permission::ReadWrite) => Access::ReadWrite,
            })
            .max()
    }
}

/// When data is deleted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Lifecycle {
    /// Objects are deleted this many days after they were written, rounded up to the next
    /// midnight UTC by most stores; noncurrent versions a day after they were replaced,
    /// unfinished uploads after as many days (7 at the most), and what is left of deleted
    /// objects with them.
    // i32 in the schema: Kubernetes warns of integer formats other than int32 and int64.
    #[schemars(range(min = 1, max = 3650), with = "i32")]
    pub expire_after_days: Days,
}

fn default_grants() -> Vec<Grant> {
    vec![Grant {
        name: "own".to_owned(),
        subjects: vec![Subject {
            kind: SubjectKind::Everyone,
        }],
        scope: Scope::UserPrefix,
        permission: Permission::ReadWrite,
    }]
}

/// Who reaches what in a bucket.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// Name of this grant.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Who.
    #[schemars(length(min = 1, max = 8))]
    pub subjects: Vec<Subject>,
    /// What of the bucket.
    pub scope: Scope,
    /// To do what with it.
    pub permission: Permission,
}

/// Whom a grant is for.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Kind of subject.
    pub kind: SubjectKind,
}

/// Kind of subject.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubjectKind {
    /// Every user of the hub.
    Everyone,
}

/// What of a bucket a grant reaches.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The prefix of the user who asks.
    UserPrefix,
}

/// What a grant allows.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Get and list.
    ReadOnly,
    /// Get, list, put and delete.
    ReadWrite,
}

/// An environment variable that holds the location of the user's prefix in a bucket.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EnvVar {
    /// Name of the variable, for example SCRATCH_BUCKET.
    #[schemars(length(min = 1, max = 128), pattern(r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    #[x_kube(validation = Rule::new("!self.startsWith('AWS_')").message("names that start with AWS_ configure the SDKs and are set by the operator"))]
    pub name: String,
    /// URL: s3://bucket/prefix. URLWithSlash: the same with a closing slash, for code that
    /// joins by hand.
    #[serde(default)]
    pub format: EnvFormat,
    /// Keep: a value that the hub itself gives the pod stands. Replace: ours does.
    #[serde(default)]
    pub on_conflict: OnConflict,
}

/// Form of a location.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EnvFormat {
    /// `s3://bucket/prefix`
    #[default]
    URL,
    /// `s3://bucket/prefix/`
    URLWithSlash,
}

/// What happens when the pod already has the variable.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnConflict {
    /// The pod's value stands.
    #[default]
    Keep,
    /// Ours replaces it.
    Replace,
}

/// What becomes of a bucket when its HubStorage is deleted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeletionPolicy {
    /// The bucket, its data and its rules stay as they are.
    #[default]
    Retain,
}
