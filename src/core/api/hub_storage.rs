//! `HubStorage`: one hub's storage intent.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NameReference;
use crate::lifecycle::Days;
use crate::names::PrefixScheme;
use crate::policies::Access;

/// One hub's storage: its buckets, who reaches what in them, and what its users' pods are given.
/// One per namespace.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "hubstorage.io",
    version = "v1alpha1",
    kind = "HubStorage",
    plural = "hubstorages",
    shortname = "hs",
    category = "hubstorage",
    namespaced,
    status = "HubStorageStatus",
    derive = "PartialEq",
    doc = "HubStorage is the storage of one JupyterHub: buckets, access and what user pods are given.",
    selectable = ".spec.providerRef.name",
    validation = Rule::new("self.metadata.name.size() <= 63").message("the name of a HubStorage may have at most 63 characters: it goes into bucket tags"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(
        name = "Buckets",
        type_ = "string",
        json_path = ".status.bucketsReady"
    ),
    printcolumn(name = "Users", type_ = "integer", json_path = ".status.users"),
    printcolumn(name = "Isolated", type_ = "string", json_path = ".status.conditions[?(@.type=='IsolationReady')].status"),
    printcolumn(name = "Isolation", type_ = "string", json_path = ".status.conditions[?(@.type=='IsolationReady')].reason"),
    printcolumn(name = "Provider", type_ = "string", json_path = ".spec.providerRef.name"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.buckets.all(b, !has(b.env) || b.env.all(e, self.buckets.filter(other, has(other.env) && other.env.exists(f, f.name == e.name)).size() == 1))")
    .message("the same env name stands in two buckets: a variable can hold one location; rename one of them"))]
pub struct HubStorageSpec {
    /// The StorageProvider that the buckets are at. Immutable: data does not move by itself.
    #[x_kube(validation = Rule::new("self == oldSelf").message("providerRef is immutable: data does not move by itself; make a new HubStorage"))]
    pub provider_ref: NameReference,

    /// Who the hub's users are, and how their names become key prefixes.
    #[serde(default)]
    pub users: Users,

    /// The hub's buckets.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub buckets: Vec<Bucket>,
}

/// Who the hub's users are.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Users {
    /// Escaped: ordinary names as they are, all others made safe; for every new hub. Raw: all
    /// names as they are, for hubs with data under such prefixes; unsafe names get no access.
    /// Immutable.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("prefixScheme is immutable: users would lose sight of their data"))]
    pub prefix_scheme: PrefixScheme,

    /// Which pods are users' pods, and whose word is taken for it. Default: notebook servers
    /// that the service account `hub` makes.
    #[serde(default = "default_sources")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub sources: Vec<Source>,
}

impl Default for Users {
    fn default() -> Self {
        Self {
            prefix_scheme: PrefixScheme::default(),
            sources: default_sources(),
        }
    }
}

fn default_sources() -> Vec<Source> {
    // `component` stands on notebook pods of every Zero to JupyterHub version; newer labels do not.
    let labels = [("component".to_owned(), "singleuser-server".to_owned())];
    vec![Source {
        name: "notebook".to_owned(),
        pod_selector: LabelSelector {
            match_labels: Some(labels.into()),
            match_expressions: None,
        },
        creators: vec![Creator {
            service_account: NameReference {
                name: "hub".to_owned(),
            },
        }],
        container: None,
    }]
}

/// One kind of user pod.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// Name of this source.
    #[schemars(length(min = 1, max = 63), pattern(r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: String,
    /// Labels of these pods.
    pub pod_selector: LabelSelector,
    /// Accounts whose word is taken for the username on a pod: pods that anybody else made are
    /// given nothing.
    #[schemars(length(min = 1, max = 8))]
    pub creators: Vec<Creator>,
    /// The container that runs the user's code: it alone is given variables and a token. Default:
    /// the one named notebook, or else the first. On a single pod the annotation
    /// hubstorage.io/container, with the container's name, goes before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<UserContainer>,
}

/// A container of a pod, by its name or by its place.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.name) != has(self.index)")
    .message("exactly one of name and index says which container runs the user's code"))]
pub struct UserContainer {
    /// Name of the container. A pod that has none of this name is given nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), pattern(r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: Option<String>,
    /// Its place among the pod's containers, from 0; init containers do not count. Webhooks that
    /// add a sidecar may move it: prefer the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 99), with = "Option<i32>")]
    pub index: Option<u8>,
}

/// An account that creates user pods.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Creator {
    /// A service account of the hub's namespace.
    pub service_account: NameReference,
}

impl Creator {
    /// The name by which the API server knows this account, as it stands in the stamp.
    pub fn username(&self, namespace: &str) -> String {
        format!(
            "system:serviceaccount:{namespace}:{}",
            self.service_account.name
        )
    }
}

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

/// What is known of a hub's storage.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HubStorageStatus {
    /// Generation of the spec that this status describes; -1 before the first look.
    #[serde(default = "super::never_observed")]
    pub observed_generation: i64,

    /// Ready, Reconciling, Stalled, and one condition for each part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The buckets as they are in the store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub buckets: Vec<BucketStatus>,

    /// Buckets that exist and are ours, of those declared, for example 2/2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buckets_ready: Option<String>,

    /// Number of HubUser objects of this hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<i32>,

    /// What only the vending identity can know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vending: Option<HubVendingStatus>,
}

impl HubStorageStatus {
    /// The buckets that were seen to exist and to be ours at this store: those that pods may be
    /// sent to. A provider that was pointed at another store since has none.
    pub fn existing_buckets(&self, store: &str) -> impl Iterator<Item = &BucketStatus> {
        self.buckets
            .iter()
            .filter(move |bucket| bucket.creation.is_none() && bucket.store == store)
    }
}

/// A bucket as it is in the store.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BucketStatus {
    /// Name of the bucket within the hub.
    pub name: String,
    /// Name in the store.
    pub bucket_name: String,
    /// Where it was seen to be ours: the endpoint, or Amazon's region.
    #[serde(default)]
    pub store: String,
    /// Written before the bucket is created, so that a crash in between leaves no bucket that
    /// nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation: Option<CreationIntent>,
    /// Generation of the spec that was last fully applied to this bucket: what differs from it
    /// since was changed by somebody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_generation: Option<i64>,
    /// Lifecycle rules in force, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lifecycle: Vec<String>,
    /// Declared rules that this store cannot do, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub omitted: Vec<String>,
}

/// That a bucket is about to be created.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CreationIntent {
    /// Tells this intent from every other; becomes a tag of the bucket.
    pub nonce: String,
    /// When it was written: an untagged bucket that is older is not ours.
    pub time: Time,
}

/// What only the vending identity can know of a hub; written by `hubstorage serve`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HubVendingStatus {
    /// Result of the negative probe for each bucket.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub buckets: Vec<BucketVending>,
}

/// Whether the store was seen to hold the users of one bucket apart.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BucketVending {
    /// Name of the bucket within the hub.
    pub name: String,
    /// Name in the store that was probed.
    pub bucket_name: String,
    /// UID of the StorageProvider that was probed.
    pub provider_uid: String,
    /// Generation of the StorageProvider that was probed; another one is probed again.
    pub provider_generation: i64,
    /// What was found.
    pub verdict: IsolationVerdict,
    /// Which calls got through, or why nothing is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Outcome of the negative probe.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IsolationVerdict {
    /// Every call outside the own prefix was refused, every call inside succeeded.
    Isolated,
    /// Some call outside the own prefix was not refused.
    Leaks,
    /// The probe could not be carried out.
    Unknown,
}
