//! What a behaviour needs of a store beside the traits under test: somebody who changes things
//! by hand, users, and a description of where this store differs from others.

use async_trait::async_trait;
use hubstorage_cloud::{Credential, CredentialSource, IsolationProbe, ObjectStore, RoleStore};
use hubstorage_core::names::BucketName;
use hubstorage_core::supports::Supports;
use jiff::Timestamp;

/// The id of the rule that [`World::add_rule_of_others`] makes.
pub const RULE_OF_OTHERS: &str = "somebody-else";

/// Why a user did not get what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// The store's own AccessDenied.
    AccessDenied,
    /// 404.
    NotFound,
    /// Anything else, which no behaviour expects.
    Other(String),
}

/// In which respects this store differs from others. Every behaviour runs on every store, and
/// holds each to what is said here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traits {
    /// What it can do.
    pub supports: Supports,
    /// Whether creating a bucket that the account has already is answered like the first time.
    pub creates_again: bool,
    /// What is told of buckets of other accounts.
    pub others: Others,
    /// What is told of keys that are no good.
    pub wrong_keys: WrongKeys,
    /// What session policies are worth.
    pub sessions: Sessions,
    /// Whether buckets have access control lists.
    pub access_lists: bool,
    /// Whether keys may hold line breaks.
    pub line_breaks_in_keys: bool,
    /// A valid name that this store does not take.
    pub refused_name: Option<BucketName>,
}

/// What a store tells of a bucket that another account made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// It refuses every call, and says that the name is taken.
    Refused,
    /// It says that the name is taken, but lets everybody read; the bucket is not listed.
    Unlisted,
    /// Every account has every bucket.
    Shared,
}

/// What a store answers to a key that it does not know, or to a secret that is not the key's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongKeys {
    /// That the key is wrong.
    Rejected,
    /// That the right is missing.
    Denied,
    /// It looks at no key.
    Taken,
}

/// What a session policy is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sessions {
    /// What the policy does not allow is refused.
    Held {
        /// Whether bulk deletes are looked at key by key. If not, a session that is limited to a
        /// prefix has none at all.
        bulk_delete: bool,
        /// Whether a session is told that a key beyond its policy does not exist: 404, where one
        /// that exists is 403.
        tells_absent_keys: bool,
    },
    /// The policy is taken, and limits nothing.
    NotHeld,
}

impl Sessions {
    /// As on AWS.
    pub const AS_ON_AWS: Self = Self::Held {
        bulk_delete: true,
        tells_absent_keys: false,
    };
}

/// A store under test.
#[async_trait]
pub trait World: Send + Sync {
    fn traits(&self) -> Traits;
    fn now(&self) -> Timestamp;
    async fn store(&self) -> Box<dyn ObjectStore>;
    async fn roles(&self) -> Box<dyn RoleStore>;
    async fn source(&self) -> Box<dyn CredentialSource>;
    /// ARN of the role that the vending identity assumes for everybody, where there are roles.
    fn role(&self) -> Option<String> {
        None
    }
    /// ARN of the vending identity.
    fn vending_principal(&self) -> String;
    /// ARN of somebody else.
    fn other_principal(&self) -> String;
    async fn probe(&self) -> Box<dyn IsolationProbe>;

    /// The store with a key that it does not know, and with the wrong secret of one that it does.
    async fn store_with_unknown_key(&self) -> Box<dyn ObjectStore>;
    async fn store_with_wrong_secret(&self) -> Box<dyn ObjectStore>;
    async fn source_with_wrong_secret(&self) -> Box<dyn CredentialSource>;
    async fn store_at_a_closed_port(&self) -> Box<dyn ObjectStore>;

    /// A name that no other test uses.
    fn new_name(&self) -> BucketName;
    /// A bucket of somebody else, where the store knows of owners.
    async fn bucket_of_others(&self) -> BucketName;

    async fn put_by_hand(&self, bucket: &BucketName, key: &str);
    /// Begins a multipart upload that nobody finishes.
    async fn begin_upload_by_hand(&self, bucket: &BucketName, key: &str);
    /// Leaves a noncurrent version and the delete marker above it.
    async fn leave_a_version_behind(&self, bucket: &BucketName);
    /// A bucket with an object that may not be deleted for an hour.
    async fn bucket_with_a_locked_object(&self, key: &str) -> BucketName;
    /// Writes the whole policy.
    async fn write_policy_by_hand(&self, bucket: &BucketName, policy: &str);
    /// Lets everybody list the bucket, in its access control list.
    async fn open_access_list_by_hand(&self, bucket: &BucketName);
    async fn tag_by_hand(&self, bucket: &BucketName, key: &str, value: &str);
    /// Adds a rule that is not ours: objects under `part/` expire after 30 days.
    async fn add_rule_of_others(&self, bucket: &BucketName);
    /// Whether that rule is there, word for word.
    async fn has_rule_of_others(&self, bucket: &BucketName) -> bool;
    async fn remove_rule_by_hand(&self, bucket: &BucketName, id: &str);
    async fn disable_rule_by_hand(&self, bucket: &BucketName, id: &str);

    fn user(&self, credential: &Credential) -> Box<dyn User>;

    async fn clean_up(&self) {}
}

/// Somebody with a vended credential.
#[async_trait]
pub trait User: Send + Sync {
    async fn put(&self, bucket: &BucketName, key: &str, body: &str) -> Result<(), Denial>;
    async fn get(&self, bucket: &BucketName, key: &str) -> Result<String, Denial>;
    async fn list(&self, bucket: &BucketName, prefix: &str) -> Result<Vec<String>, Denial>;
    async fn copy(&self, bucket: &BucketName, from: &str, to: &str) -> Result<(), Denial>;
    async fn delete(&self, bucket: &BucketName, key: &str) -> Result<(), Denial>;
    /// Deletes in one bulk call; the first denial of any key.
    async fn delete_all(&self, bucket: &BucketName, keys: &[&str]) -> Result<(), Denial>;
    /// Creates a multipart upload, uploads a part, lists parts and completes it.
    async fn upload_in_parts(
        &self,
        bucket: &BucketName,
        key: &str,
        body: &str,
    ) -> Result<(), Denial>;
}

/// A new bucket.
pub async fn new_bucket(world: &dyn World) -> BucketName {
    let bucket = world.new_name();
    world
        .store()
        .await
        .create_bucket(&bucket, &Default::default())
        .await
        .unwrap();
    bucket
}
