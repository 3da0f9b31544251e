//! What HubStorage asks of an object store.
//!
//! [`ObjectStore`] is the managing side, [`CredentialSource`] the vending side: two identities,
//! never the same keys. [`s3`] speaks to S3 and its compatibles, [`memory`] keeps a store in
//! memory for tests; one contract suite (`tests/contract.rs`) runs against all of them, so that
//! the one in memory stays honest.

pub mod budget;
pub mod faults;
pub mod memory;
pub mod s3;

mod contents;
mod credential;
mod error;
mod layer;
mod operation;
mod probe;
mod roles;
mod tags;

pub use contents::{Batch, Contents, RefusedDeletion, Removal};
pub use credential::{Credential, Secret};
pub use error::{CloudError, Disposition};
pub use layer::{Layer, Layered};
pub use operation::Operation;
pub use probe::{IsolationProbe, ProbeVerdict};
pub use roles::{RoleCreation, RolePart, RoleStore};
pub use tags::Tags;

use std::time::Duration;

use async_trait::async_trait;
use hubstorage_core::bucket_policy::{BucketPolicy, Grant};
use hubstorage_core::lifecycle::{Effect, Rule};
use hubstorage_core::names::{BucketName, Prefix};
use hubstorage_core::policies::PolicyDocument;
use hubstorage_core::settings::Setting;
use jiff::Timestamp;

/// What happened when a bucket was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// The bucket is new; whether it already bears its tags is said by `tagged`.
    Created {
        /// True where the store took the tags in the call that created (AWS, but for us-east-1:
        /// there a bucket of ours that was there before gets the same answer).
        tagged: bool,
    },
    /// A bucket of this name is there, reachable with our keys. That does not make it ours:
    /// MinIO answers `BucketAlreadyOwnedByYou` whoever made it.
    AlreadyThere,
}

/// What tells whether an untagged bucket can only be one that we made and did not get to tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unclaimed {
    /// When the store says that it was created, in whole seconds or better.
    pub created: Timestamp,
    /// Whether it holds no object, no noncurrent version and no upload in progress.
    pub empty: bool,
}

/// Versions that one call of [`ObjectStore::empty_some`] deletes at most: as many as one
/// `DeleteObjects` takes (S3 API reference).
pub const MOST_VERSIONS: usize = 1000;

/// Unfinished uploads that one call of [`ObjectStore::empty_some`] removes at most: each is a
/// request of its own.
pub const MOST_UPLOADS: usize = 100;

/// The managing side of a store. Every call is safe to repeat.
#[async_trait]
pub trait ObjectStore: Send + Sync + std::fmt::Debug {
    /// Proves that the endpoint answers and takes the keys, and tells which account they belong to:
    /// `None` where the store does not say.
    ///
    /// Over S3 it is the id of the owner in the answer to `ListBuckets`: the account's canonical
    /// user id on AWS, the user on Ceph RGW, and one and the same on every MinIO.
    async fn check_access(&self) -> Result<Option<String>, CloudError>;

    /// The bucket's tags; `None` if there is no such bucket, empty if it has none.
    ///
    /// # Errors
    /// [`CloudError::OwnedByOthers`] if it exists but is not reachable with our keys.
    async fn bucket_tags(&self, bucket: &BucketName) -> Result<Option<Tags>, CloudError>;

    /// The bucket's lifecycle rules, in the store's order; none if it has no configuration.
    async fn lifecycle_rules(&self, bucket: &BucketName) -> Result<Vec<Rule<()>>, CloudError>;

    /// The bucket's policy; empty if it has none.
    ///
    /// # Errors
    /// [`CloudError::Unsupported`] if the store has no such thing,
    /// [`CloudError::UnreadablePolicy`] if it is not what we can merge with.
    async fn bucket_policy(&self, bucket: &BucketName) -> Result<BucketPolicy, CloudError>;

    /// What the bucket's access control list grants to others than its owner; nothing where the store has
    /// no such lists.
    async fn access_list(&self, bucket: &BucketName) -> Result<Vec<Grant>, CloudError>;

    /// What is found instead of `setting`, in words; `None` where it is as it should be. Compared
    /// by meaning. Statements of the policy are compared by their own document.
    ///
    /// # Errors
    /// [`CloudError::Unsupported`] if the store has no such thing.
    async fn deviation(
        &self,
        bucket: &BucketName,
        setting: &Setting,
    ) -> Result<Option<String>, CloudError>;

    /// When the bucket was created; `None` if the store does not list it among ours.
    async fn created(&self, bucket: &BucketName) -> Result<Option<Timestamp>, CloudError>;

    /// When an untagged bucket was created, and whether it is empty.
    async fn unclaimed(&self, bucket: &BucketName) -> Result<Unclaimed, CloudError>;

    /// Creates the bucket, with its tags in the same call where the store can.
    ///
    /// # Errors
    /// [`CloudError::OwnedByOthers`] if somebody else has a bucket of this name,
    /// [`CloudError::InvalidBucketName`] if the store does not take the name.
    async fn create_bucket(&self, bucket: &BucketName, tags: &Tags)
    -> Result<Creation, CloudError>;

    /// Sets these tags; other tags of the bucket stay as they are (read, merged, written).
    async fn set_bucket_tags(&self, bucket: &BucketName, tags: &Tags) -> Result<(), CloudError>;

    /// Makes `declared` the whole of our rules; rules of others stay as they are (read, merged
    /// by rule-id prefix, written).
    ///
    /// # Errors
    /// [`CloudError::Unsupported`] names the capability that one of the effects needs and the
    /// store lacks; all others are in force then. [`CloudError::UnknownRules`] if rules of others would not survive.
    async fn set_lifecycle_rules(
        &self,
        bucket: &BucketName,
        declared: &[Effect],
    ) -> Result<(), CloudError>;

    /// Makes a setting what it should be; what others set beside it stays (read, merged, written).
    ///
    /// # Errors
    /// [`CloudError::Unsupported`] if the store does not take it, or takes it without effect.
    async fn apply_setting(&self, bucket: &BucketName, setting: &Setting)
    -> Result<(), CloudError>;

    /// What the bucket holds: the first page of each listing.
    async fn contents(&self, bucket: &BucketName) -> Result<Contents, CloudError>;

    /// Deletes some of what the bucket holds, for good: at most [`MOST_VERSIONS`] objects,
    /// noncurrent versions and delete markers, and [`MOST_UPLOADS`] unfinished uploads. To be
    /// called again while anything is left.
    ///
    /// # Errors
    /// Those of the store. Single versions that it does not let go are no error, but stand in the
    /// answer.
    async fn empty_some(&self, bucket: &BucketName) -> Result<Batch, CloudError>;

    /// Deletes the bucket, if it holds nothing.
    async fn delete_bucket(&self, bucket: &BucketName) -> Result<Removal, CloudError>;
}

/// A role that is assumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AssumedRole<'r> {
    /// Its ARN.
    pub arn: &'r str,
    /// The prefix with which the session is tagged (`hubstorage_core::roles::PREFIX_TAG`), where the role's own
    /// policy looks at it.
    pub tag: Option<&'r Prefix>,
}

impl<'r> AssumedRole<'r> {
    /// A role whose sessions have no tag.
    pub fn untagged(arn: &'r str) -> Self {
        Self { arn, tag: None }
    }
}

/// The vending side of a store.
#[async_trait]
pub trait CredentialSource: Send + Sync + std::fmt::Debug {
    /// Issues a credential that reaches what `policy` allows and `role` may, which the vending identity
    /// assumes. Without one, that identity itself is narrowed, where a store does that.
    ///
    /// `session` is the name under which the store logs its use: 2 to 64 characters of
    /// `[\w+=,.@-]`. Stores round `lifetime` up to their own minimum (900 s on AWS and MinIO).
    async fn assume(
        &self,
        role: Option<AssumedRole<'_>>,
        session: &str,
        policy: &PolicyDocument,
        lifetime: Duration,
    ) -> Result<Credential, CloudError>;
}
