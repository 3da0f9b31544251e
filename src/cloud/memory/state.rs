//! What the cloud holds and how it behaves.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hubstorage_core::api::{Capability, Encryption, Versioning};
use hubstorage_core::bucket_policy::{BucketPolicy, Grant};
use hubstorage_core::lifecycle::Rule;
use hubstorage_core::names::{BucketName, RoleName};
use hubstorage_core::policies::MAX_SESSION_POLICY;
use hubstorage_core::roles::FoundRole;
use hubstorage_core::supports::Supports;
use jiff::Timestamp;

use super::calls::Call;
use super::policy::Policy;
use crate::{Batch, CloudError, Contents, MOST_VERSIONS, Operation, RefusedDeletion, Tags};

/// In which respects stores differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behaviour {
    /// What it can do.
    pub supports: Supports,
    /// Whether tags are taken in the call that creates.
    pub tags_on_create: bool,
    /// Whether creating a bucket that the account has already is answered like the first time,
    /// as in us-east-1.
    pub creates_again: bool,
    /// Whether every account reaches every bucket, as on MinIO, where `AlreadyThere` is the
    /// answer whoever made it.
    pub shared_buckets: bool,
    /// Whether a session policy limits a session, or is only accepted.
    pub enforces_session_policies: bool,
    /// The longest session policy that it takes, in characters. Amazon's limit is on a packed form of it, and
    /// is met sooner or later than its documented 2048.
    pub longest_session_policy: usize,
    /// Names that this store does not take, though others do.
    pub refused_names: BTreeSet<String>,
    /// Permissions that every account lacks, for example `s3:PutBucketTagging`.
    pub missing_permissions: BTreeSet<&'static str>,
    /// Whether nobody may set the permissions boundary of a role.
    pub refuses_boundaries: bool,
    /// Buckets of which it tells nothing, because it asks for fewer calls.
    pub throttled: BTreeSet<BucketName>,
    /// How many versions, and how many uploads, one batch of deletions takes.
    pub batch: usize,
    /// How long a bucket is still told of as it was before it was made, deleted or set up anew: Amazon S3
    /// keeps what it knows of buckets eventually consistent, though not of what is in them (User Guide,
    /// "Amazon S3 data consistency model"). By the clock that is set; from the first change on, so that
    /// what is changed again meanwhile is told of sooner.
    pub lag: Duration,
}

impl Behaviour {
    /// As AWS does.
    pub fn aws() -> Self {
        Self {
            supports: Supports::ALL,
            tags_on_create: true,
            creates_again: false,
            shared_buckets: false,
            enforces_session_policies: true,
            longest_session_policy: MAX_SESSION_POLICY,
            refused_names: BTreeSet::new(),
            missing_permissions: BTreeSet::new(),
            refuses_boundaries: false,
            throttled: BTreeSet::new(),
            batch: MOST_VERSIONS,
            lag: Duration::ZERO,
        }
    }

    /// As AWS does in us-east-1, where tags do not go with the create call.
    pub fn aws_us_east_1() -> Self {
        Self {
            tags_on_create: false,
            creates_again: true,
            ..Self::aws()
        }
    }

    /// As MinIO does.
    pub fn minio() -> Self {
        Self {
            supports: Supports::ALL
                .without(Capability::AbortIncompleteUploads)
                .without(Capability::Transitions)
                .without(Capability::PublicAccessBlock)
                .without(Capability::ObjectOwnership)
                // No key management service is configured.
                .without(Capability::Encryption)
                .without(Capability::Roles),
            tags_on_create: false,
            shared_buckets: true,
            refused_names: BTreeSet::from(["minio".to_owned()]),
            ..Self::aws()
        }
    }
}

/// A bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// The account that made it.
    pub owner: String,
    /// When.
    pub created: Timestamp,
    /// Its tags.
    pub tags: Tags,
    /// Its lifecycle rules; those of others are only words here.
    pub rules: Vec<Rule<String>>,
    /// Its policy.
    pub policy: BucketPolicy,
    /// What its access control list grants to others than its owner.
    pub access_list: Vec<Grant>,
    /// Whether the switch that overrides public grants is on.
    pub public_access_blocked: bool,
    /// Whether access control lists are switched off.
    pub owner_enforced: bool,
    /// Whether it keeps versions; none before anybody said so.
    pub versioning: Option<Versioning>,
    /// How it encrypts; none where nobody said so.
    pub encryption: Option<Encryption>,
    /// Its objects.
    pub objects: BTreeMap<String, Vec<u8>>,
    /// Keys of noncurrent versions.
    pub noncurrent: Vec<String>,
    /// Keys of delete markers.
    pub delete_markers: Vec<String>,
    /// Keys whose versions may not be deleted (object lock).
    pub locked: BTreeSet<String>,
    /// Keys of uploads in progress.
    pub uploads: Vec<String>,
}

impl Bucket {
    /// A new and empty bucket.
    pub fn new(owner: &str, created: Timestamp) -> Self {
        Self {
            owner: owner.to_owned(),
            created,
            tags: Tags::default(),
            rules: Vec::new(),
            policy: BucketPolicy::default(),
            access_list: Vec::new(),
            public_access_blocked: false,
            owner_enforced: false,
            versioning: None,
            encryption: None,
            objects: BTreeMap::new(),
            noncurrent: Vec::new(),
            delete_markers: Vec::new(),
            locked: BTreeSet::new(),
            uploads: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.contents(MOST_VERSIONS).is_empty()
    }

    /// The contents as a store tells them whose listings have pages of this length.
    pub(super) fn contents(&self, page: usize) -> Contents {
        let objects = self.objects.len().min(page);
        let noncurrent_versions = self.noncurrent.len().min(page - objects);
        let left = page - objects - noncurrent_versions;
        let delete_markers = self.delete_markers.len().min(left);
        let versions = self.objects.len() + self.noncurrent.len() + self.delete_markers.len();
        let mut keys = self.objects.keys().chain(&self.noncurrent);
        let example = keys.next().or(self.delete_markers.first());
        Contents {
            objects,
            noncurrent_versions,
            delete_markers,
            unfinished_uploads: self.uploads.len().min(page),
            has_more: versions > page || self.uploads.len() > page,
            example: example.or(self.uploads.first()).cloned(),
        }
    }

    /// Deletes at most so many versions, and as many uploads; those that are locked are passed over
    /// within it.
    pub(super) fn empty_some(&mut self, most: usize) -> Batch {
        let mut batch = Batch::default();
        let mut left = most;
        let locked = &self.locked;
        let mut goes = |key: &String| {
            if left == 0 {
                return false;
            }
            left -= 1;
            if locked.contains(key) {
                batch.refused.get_or_insert_with(|| RefusedDeletion {
                    key: key.clone(),
                    code: "AccessDenied".into(),
                    message: "Access Denied because object protected by object lock.".into(),
                });
                return false;
            }
            batch.deleted_versions += 1;
            true
        };
        self.objects.retain(|key, _| !goes(key));
        self.noncurrent.retain(|key| !goes(key));
        self.delete_markers.retain(|key| !goes(key));
        batch.aborted_uploads = self.uploads.len().min(most);
        self.uploads.drain(..batch.aborted_uploads);
        batch.is_left = !self.is_empty();
        batch
    }
}

#[derive(Debug)]
pub(super) struct Session {
    pub policy: Policy,
    /// The policy of the role that it is of.
    pub ceiling: Option<Policy>,
    pub expires: Timestamp,
}

#[derive(Debug)]
pub(super) struct State {
    pub behaviour: Behaviour,
    pub now: Timestamp,
    pub outage: Option<CloudError>,
    pub buckets: BTreeMap<BucketName, Bucket>,
    /// Buckets as they are still told of, and until when.
    pub lagging: BTreeMap<BucketName, (Timestamp, Option<Bucket>)>,
    pub sessions: BTreeMap<String, Session>,
    pub roles: BTreeMap<RoleName, FoundRole>,
    /// Roles as they are still told of, and until when: IAM is eventually consistent.
    pub lagging_roles: BTreeMap<RoleName, (Timestamp, Option<FoundRole>)>,
    /// Also of those that are gone: no two have one id.
    pub roles_made: u64,
    pub calls: Vec<Call>,
}

impl State {
    pub fn new(behaviour: Behaviour) -> Self {
        Self {
            behaviour,
            // Any fixed time does: 2026-01-01, so that tests read naturally.
            now: Timestamp::constant(1_767_225_600, 0),
            outage: None,
            buckets: BTreeMap::new(),
            lagging: BTreeMap::new(),
            sessions: BTreeMap::new(),
            roles: BTreeMap::new(),
            lagging_roles: BTreeMap::new(),
            roles_made: 0,
            calls: Vec::new(),
        }
    }

    /// Notes the call and refuses it if everything or this fails.
    pub fn enter(
        &mut self,
        account: &str,
        operation: Operation,
        bucket: Option<&BucketName>,
    ) -> Result<(), CloudError> {
        self.calls.push(Call {
            account: account.to_owned(),
            operation,
            bucket: bucket.cloned(),
        });
        if let Some(error) = &self.outage {
            return Err(error.clone());
        }
        let permission = operation.permission();
        if bucket.is_some_and(|bucket| self.behaviour.throttled.contains(bucket)) {
            return Err(CloudError::Throttled { permission });
        }
        if self.behaviour.missing_permissions.contains(permission) {
            let resource = bucket.map_or_else(|| "*".to_owned(), ToString::to_string);
            return Err(CloudError::AccessDenied {
                permission,
                resource,
            });
        }
        Ok(())
    }

    /// The bucket to be changed, if it is there and `account` reaches it.
    pub fn reach(
        &mut self,
        account: &str,
        operation: Operation,
        bucket: &BucketName,
    ) -> Result<&mut Bucket, CloudError> {
        self.look(account, operation, bucket)?;
        self.keep_telling(bucket);
        self.buckets
            .get_mut(bucket)
            .ok_or_else(|| CloudError::NoSuchBucket {
                bucket: bucket.clone(),
            })
    }

    /// From here on the bucket is told of as it is now, for as long as the store lags.
    pub fn keep_telling(&mut self, bucket: &BucketName) {
        let lag = self.behaviour.lag;
        if lag.is_zero() || self.before(bucket).is_some() {
            return;
        }
        let until = self.now.saturating_add(lag).unwrap_or(Timestamp::MAX);
        let before = self.buckets.get(bucket).cloned();
        self.lagging.insert(bucket.clone(), (until, before));
    }

    /// From here on the role is told of as it is now, for as long as the store lags.
    pub fn keep_telling_role(&mut self, name: &RoleName) {
        let lag = self.behaviour.lag;
        let is_lagging = (self.lagging_roles.get(name)).is_some_and(|(until, _)| self.now < *until);
        if lag.is_zero() || is_lagging {
            return;
        }
        let until = self.now.saturating_add(lag).unwrap_or(Timestamp::MAX);
        let before = self.roles.get(name).cloned();
        self.lagging_roles.insert(name.clone(), (until, before));
    }

    /// The role as it is told of.
    pub fn told_role(&self, name: &RoleName) -> Option<&FoundRole> {
        match self.lagging_roles.get(name) {
            Some((until, before)) if self.now < *until => before.as_ref(),
            _ => self.roles.get(name),
        }
    }

    /// The bucket as it was, while it is told of so.
    fn before(&self, bucket: &BucketName) -> Option<&Option<Bucket>> {
        let (until, before) = self.lagging.get(bucket)?;
        (self.now < *until).then_some(before)
    }

    /// The bucket as it is told of: with what is in it now.
    fn told(&self, bucket: &BucketName) -> Option<Cow<'_, Bucket>> {
        let now = self.buckets.get(bucket);
        let Some(before) = self.before(bucket) else {
            return now.map(Cow::Borrowed);
        };
        let (before, now) = (before.as_ref()?, now.cloned());
        let Some(now) = now else {
            return Some(Cow::Borrowed(before));
        };
        Some(Cow::Owned(Bucket {
            objects: now.objects,
            noncurrent: now.noncurrent,
            delete_markers: now.delete_markers,
            locked: now.locked,
            uploads: now.uploads,
            ..before.clone()
        }))
    }

    /// The bucket as it is told of, if it is there and `account` reaches it.
    pub fn look(
        &self,
        account: &str,
        operation: Operation,
        bucket: &BucketName,
    ) -> Result<Cow<'_, Bucket>, CloudError> {
        let shared = self.behaviour.shared_buckets;
        match self.told(bucket) {
            None => Err(CloudError::NoSuchBucket {
                bucket: bucket.clone(),
            }),
            Some(found) if shared || found.owner == account => Ok(found),
            Some(_) => Err(CloudError::AccessDenied {
                permission: operation.permission(),
                resource: bucket.to_string(),
            }),
        }
    }
}
