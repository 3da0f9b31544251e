//! Status of a `HubStorage`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StorageProvider;
use super::home::HomesStatus;
use super::shared::SharedFolderStatus;
use crate::policies::PolicyDocument;

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
    // Those that the spec names, and creations that an earlier one began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into(), "bucketName".into()]))]
    pub buckets: Vec<BucketStatus>,

    /// Buckets that exist and are ours, of those declared, for example 2/2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buckets_ready: Option<String>,

    /// In mode Observe: what mode Enforce would do, in the words of the events that would tell of
    /// it, one entry for each action.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<String>,

    /// Value of the annotation hubstorage.io/check-requested-at that was last answered: the store
    /// was asked since, and the conditions say how that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_check_request: Option<String>,

    /// The role that users' sessions are of, where the operator makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleStatus>,

    /// Number of users who have a HubUser of this hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<i32>,

    /// Users' homes, where spec.home is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub homes: Option<HomesStatus>,

    /// Shared folders, where spec.shared is set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub shared: Vec<SharedFolderStatus>,

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
    /// Digest of what was declared of this bucket when it was last fully applied: while that is
    /// still declared, what differs from it was changed by somebody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_digest: Option<String>,
    /// How it came to be ours; absent while it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// When the store says that it was created: by this a bucket whose tags were removed is told
    /// from another one of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Time>,
    /// Lifecycle rules in force, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lifecycle: Vec<String>,
    /// Settings in force, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<String>,
    /// Declared rules and settings that this store cannot do, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub omitted: Vec<String>,
    /// What others grant in its policy and in its access control list, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<String>,
    /// How far its deletion is; absent unless everything in it is being deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emptying: Option<Emptying>,
}

/// The role that users' sessions are of.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RoleStatus {
    /// Its name, which is written down before it is made.
    pub name: String,
    /// Where it is: the endpoint, or Amazon's region.
    pub store: String,
    /// When it was last made or changed; absent once it was seen to be so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<Time>,
    /// Its ARN; absent while it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arn: Option<String>,
    /// The store's own id of it, by which it is told from another role of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Digest of what was declared when it was last fully applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_digest: Option<String>,
}

/// How a bucket came to be ours.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The operator created it: settings that the spec does not name have the operator's defaults.
    Created,
    /// It was there before: what the spec does not name is left as it is.
    Adopted,
    /// Somebody else keeps it.
    AccessOnly,
}

/// How far the deletion of everything in a bucket is.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct Emptying {
    /// Objects, old versions and delete markers deleted so far.
    pub deleted_versions: i64,
    /// Unfinished uploads removed so far.
    pub aborted_uploads: i64,
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
    /// Whether the store takes the session policies of the hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyTrial>,
}

/// Whether the store took a session policy that is as long as any user's of the hub gets.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PolicyTrial {
    /// Of the policy; other grants or bucket names make another one, which is tried anew.
    pub fingerprint: String,
    /// UID of the StorageProvider at which it was tried.
    pub provider_uid: String,
    /// Generation of that StorageProvider.
    pub provider_generation: i64,
    /// What the store said.
    pub verdict: PolicyVerdict,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl PolicyTrial {
    /// Whether this policy was tried, at this provider as it is now.
    pub fn is_of(&self, policy: &PolicyDocument, provider: &StorageProvider) -> bool {
        self.fingerprint == policy.fingerprint()
            && provider.is_still(&self.provider_uid, self.provider_generation)
    }
}

/// Whether a store took a session policy.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PolicyVerdict {
    /// It issued a session.
    Accepted,
    /// It did not, because of the policy.
    Refused,
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
    /// resourceVersion of the Secret with the vending keys that were probed; other keys are
    /// another identity, and are probed again. None where the identity is ambient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_version: Option<String>,
    /// Id of the role whose session was probed, where the operator makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_id: Option<String>,
    /// What was found.
    pub verdict: IsolationVerdict,
    /// Why the last try gave no session, or could not be carried out, as conditions have it. A verdict that was
    /// found before stands beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Which calls got through, or what the reason is about.
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
