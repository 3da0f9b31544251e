//! One bucket of a hub, as it is declared.

use std::collections::BTreeSet;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::env::LocationVariable;
use super::subject::{Subject, SubjectKind};
use crate::lifecycle::{Days, StorageClass};
use crate::names::{BucketName, Prefix, SharedPrefix};
use crate::policies::{Access, Granted, Place, Reach};

/// One bucket of a hub.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.management) || self.management != 'AccessOnly' || has(self.bucketName)")
    .message("management AccessOnly needs bucketName: the operator does not create that bucket, so somebody has to say which one it is"))]
#[x_kube(validation = Rule::new("!has(self.management) || self.management != 'AccessOnly' || (!has(self.lifecycle) && !has(self.versioning) && !has(self.encryption) && !has(self.publicAccess) && !has(self.insecureTransport) && !has(self.objectOwnership))")
    .message("with management AccessOnly somebody else keeps the bucket: take lifecycle, versioning, encryption, publicAccess, insecureTransport and objectOwnership away"))]
#[x_kube(validation = Rule::new("!has(self.management) || self.management != 'AccessOnly' || !has(self.deletionPolicy) || self.deletionPolicy == 'Retain'")
    .message("with management AccessOnly the bucket is never deleted: deletionPolicy must be Retain"))]
pub struct Bucket {
    /// Name of this bucket within the hub, for example scratch.
    #[schemars(length(min = 1, max = 32), pattern(r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: String,

    /// Name in the store. Default: made of the namespace, this name and a hash. Immutable once the
    /// bucket is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 63), pattern(r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub bucket_name: Option<String>,

    /// Full: the operator creates the bucket and keeps everything declared here as it is declared.
    /// AccessOnly: somebody else keeps the bucket; users get access to it, and nothing in the
    /// store is changed.
    #[serde(default)]
    pub management: Management,

    /// What is done about a bucket that is there already. Never: it is refused, unless this
    /// HubStorage created it. IfOwned: it is taken over where its tag hubstorage.io/owner names
    /// this HubStorage. Always: also where it has no such tag. A bucket whose tag names another
    /// owner is always refused.
    #[serde(default)]
    pub adoption: Adoption,

    /// When data in the bucket is deleted or moved. Absent: the operator keeps no lifecycle rule
    /// of its own; rules of others stay in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,

    /// Whether old versions of objects are kept. Absent: left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versioning: Option<Versioning>,

    /// How the store encrypts what is written. Absent: left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,

    /// Blocked: nobody reaches the bucket without credentials. Unmanaged: left as it is. Default:
    /// Blocked for a bucket that the operator created, Unmanaged for one that it took over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_access: Option<PublicAccess>,

    /// Denied: requests without TLS are refused by the bucket's policy; it needs an endpoint with
    /// https. Unmanaged: left as it is. Default: Denied for a bucket that the operator created
    /// where the endpoint has https, Unmanaged for one that it took over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub insecure_transport: Option<InsecureTransport>,

    /// BucketOwnerEnforced: access control lists are without effect, the bucket's account owns
    /// every object. Unmanaged: left as it is. Default: BucketOwnerEnforced for a bucket that the
    /// operator created, Unmanaged for one that it took over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_ownership: Option<ObjectOwnership>,

    /// Who reaches what; of the permissions on the same thing, the widest counts. Default: everyone their own
    /// prefix, to read and write.
    #[serde(default = "default_grants")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub grants: Vec<Grant>,

    /// Environment variables in user pods that hold the location of the user's prefix, or of what is granted
    /// to the user first where no grant is of that prefix. A user to whom nothing is granted has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<LocationVariable>,

    /// What becomes of the bucket when the HubStorage is deleted. Retain: it stays as it is, with
    /// its data and rules. DeleteIfEmpty: it is deleted if it holds nothing; until then the
    /// deletion waits. DeleteContents: everything in it is deleted, old versions and unfinished
    /// uploads too, and then the bucket. Can still be changed while the deletion runs.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

impl Bucket {
    /// Whether anything is granted to users.
    pub fn grants_something(&self) -> bool {
        !self.grants.is_empty()
    }

    /// Whether anything is granted to a user who is in these groups.
    pub fn grants_to(&self, is_in: impl Fn(&str) -> bool) -> bool {
        self.grants.iter().any(|grant| grant.is_for(&is_in))
    }

    /// What the grants let a user reach who has this prefix and is in these groups, where the bucket has
    /// this name.
    pub fn reaches(
        &self,
        bucket: &BucketName,
        own: &Prefix,
        is_in: impl Fn(&str) -> bool,
    ) -> Vec<Reach> {
        let grants = self.grants.iter().filter(|grant| grant.is_for(&is_in));
        grants.map(|grant| grant.reach(bucket, own)).collect()
    }

    /// What all the grants together let users reach, of whom one has this prefix. Of two buckets where places and
    /// subjects are the same, everybody lists the same; a group adds nothing where everyone has the place.
    pub fn granted(&self, bucket: &BucketName, own: &Prefix) -> Granted<Places> {
        let to_everyone = self.grants.iter().filter(|grant| grant.is_for(|_| false));
        let of_everyone: BTreeSet<Option<Place>> =
            to_everyone.clone().map(Grant::shared_place).collect();
        let is_listed_by_all = of_everyone.contains(&Some(Place::Whole));
        let lists = |place: &Option<Place>, subject: &Subject| {
            let is_everyones = subject.kind == SubjectKind::Everyone;
            (is_everyones || !of_everyone.contains(place))
                && (!is_listed_by_all || *place == Some(Place::Whole))
        };
        let places = self.grants.iter().flat_map(|grant| {
            let place = grant.shared_place();
            let subjects = grant.subjects.clone().into_iter();
            subjects.map(move |subject| (place.clone(), subject))
        });
        let written: BTreeSet<Reach> = to_everyone
            .map(|grant| grant.reach(bucket, own))
            .filter(|reach| reach.access == Access::ReadWrite)
            .collect();
        let is_more = |reach: &Reach| {
            let access = Access::ReadWrite;
            let written_too = Reach {
                access,
                ..reach.clone()
            };
            reach.access == access || !written.contains(&written_too)
        };
        let reaches = self.grants.iter().map(|grant| grant.reach(bucket, own));
        Granted {
            alike: places.filter(|(place, to)| lists(place, to)).collect(),
            reaches: reaches.filter(is_more).collect(),
            is_listed_by_all,
        }
    }

    /// What the grants let somebody reach beside prefixes of users' own, where the bucket has this name.
    pub fn shared(&self, bucket: &BucketName) -> Vec<Reach> {
        let shared = self.grants.iter().filter_map(|grant| {
            Some(Reach {
                bucket: bucket.clone(),
                place: grant.shared_place()?,
                access: grant.access(),
            })
        });
        shared.collect()
    }

    /// The grant by which somebody reaches what others have under their own prefixes, if there is one: it is
    /// of the whole bucket, where another is of a user's own.
    pub fn opened_by(&self) -> Option<&Grant> {
        let is_of = |scope| move |grant: &&Grant| grant.scope == scope;
        self.grants.iter().find(is_of(Scope::UserPrefix))?;
        self.grants.iter().find(is_of(Scope::Bucket))
    }

    /// What of the bucket its environment variables tell a user of: their own prefix where it is granted to
    /// them, or nobody is granted anything; else what is granted to them first. `None` where only others
    /// have something.
    pub fn place(&self, own: &Prefix, is_in: impl Fn(&str) -> bool) -> Option<Place> {
        let own = Place::Own(own.clone());
        let grants = self.grants.iter().filter(|grant| grant.is_for(&is_in));
        let places: Vec<Option<Place>> = grants.map(Grant::shared_place).collect();
        if self.grants.is_empty() || places.contains(&None) {
            return Some(own);
        }
        places.into_iter().next().flatten()
    }
}

/// What the grants of a bucket are of, and for whom; no place is that of whoever asks.
pub type Places = BTreeSet<(Option<Place>, Subject)>;

/// Who keeps a bucket.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Management {
    /// The operator.
    #[default]
    Full,
    /// Somebody else; the operator only gives users access.
    AccessOnly,
}

/// What is done about a bucket that is there already.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Adoption {
    /// It is refused, unless this HubStorage created it.
    Never,
    /// It is taken over where its owner tag names this HubStorage.
    #[default]
    IfOwned,
    /// It is taken over where its owner tag does not name another owner.
    Always,
}

/// When data is deleted or moved.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.expireAfterDays) || has(self.abortIncompleteUploadsAfterDays) || (has(self.transitions) && self.transitions.size() > 0)")
    .message("lifecycle is empty: set expireAfterDays, abortIncompleteUploadsAfterDays or transitions, or take lifecycle away"))]
#[x_kube(validation = Rule::new("!has(self.expireAfterDays) || !has(self.transitions) || self.transitions.all(t, t.afterDays < self.expireAfterDays)")
    .message("a transition must come before expireAfterDays: afterwards there is nothing left to move"))]
pub struct Lifecycle {
    /// Objects are deleted this many days after they were written, rounded up to the next
    /// midnight UTC by most stores; noncurrent versions a day after they were replaced,
    /// unfinished uploads after as many days (7 at the most), and what is left of deleted
    /// objects with them. Absent: objects are never deleted.
    // i32 in the schema: Kubernetes warns of integer formats other than int32 and int64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3650), with = "Option<i32>")]
    pub expire_after_days: Option<Days>,

    /// Multipart uploads that nobody finished are removed this many days after they began.
    /// Default: as expireAfterDays, but 7 at the most; without expireAfterDays they stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3650), with = "Option<i32>")]
    pub abort_incomplete_uploads_after_days: Option<Days>,

    /// Cheaper storage classes that objects are moved to as they get older.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 6))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["storageClass".into()]))]
    pub transitions: Vec<Transition>,
}

/// A move to another storage class.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct Transition {
    /// Objects are moved this many days after they were written.
    #[schemars(range(min = 1, max = 3650), with = "i32")]
    pub after_days: Days,
    /// Where to.
    pub storage_class: StorageClass,
}

/// Whether old versions of objects are kept.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Versioning {
    /// They are.
    Enabled,
    /// No new ones are; those that are there stay.
    Suspended,
}

/// How the store encrypts what is written.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.type == 'KMS') == has(self.kmsKeyID)")
    .message("kmsKeyID must be set with type KMS, and only then"))]
pub struct Encryption {
    /// StoreManaged: with keys that the store keeps (SSE-S3, AES256). KMS: with a key of its key
    /// management service.
    #[serde(rename = "type")]
    pub type_: EncryptionType,

    /// Id or ARN of the key. The vending identity or role needs to be allowed to use it, or users
    /// can neither read nor write.
    #[serde(default, rename = "kmsKeyID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), pattern(r"^[A-Za-z0-9:/_.-]+$"))]
    pub kms_key_id: Option<String>,
}

/// Whose keys encrypt.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EncryptionType {
    /// The store's own.
    StoreManaged,
    /// One of the key management service.
    KMS,
}

/// Whether the bucket is reached without credentials.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PublicAccess {
    /// By nobody.
    Blocked,
    /// Left as it is.
    Unmanaged,
}

/// Whether requests without TLS are served.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InsecureTransport {
    /// They are refused.
    Denied,
    /// Left as it is.
    Unmanaged,
}

/// Who owns objects that other accounts write.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ObjectOwnership {
    /// The bucket's account; access control lists are without effect.
    BucketOwnerEnforced,
    /// Left as it is.
    Unmanaged,
}

fn default_grants() -> Vec<Grant> {
    vec![Grant {
        name: "own".to_owned(),
        subjects: vec![Subject::everyone()],
        scope: Scope::UserPrefix,
        prefix: None,
        permission: Permission::ReadWrite,
    }]
}

/// Who reaches what in a bucket.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.scope == 'Prefix') == has(self.prefix)")
    .message("scope Prefix needs prefix, and nothing else takes it"))]
pub struct Grant {
    /// Name of this grant.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Who.
    #[schemars(length(min = 1, max = 8))]
    pub subjects: Vec<Subject>,
    /// What of the bucket. UserPrefix: what is under the prefix of the user who asks. Prefix: what is under
    /// the prefix that this grant names, the same for every user. Bucket: all of it, and so what every
    /// user has there.
    pub scope: Scope,
    /// With scope Prefix: which one, without a closing slash, for example _groups/ocean. It starts with an
    /// underscore, which no user's prefix does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", length(min = 2, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^_[A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)*$')")
        .message("a shared prefix starts with _ and has parts of letters, digits, dots, hyphens and underscores with a slash between them and none at its end, such as _groups/ocean"))]
    #[x_kube(validation = Rule::new("!self.startsWith('_hubstorage') && !self.contains('..') && self.split('/').all(part, part != '.' && part != '_')")
        .message("what starts with _hubstorage is the operator's own, and what is empty, _, . or holds .. is no part of a prefix"))]
    pub prefix: Option<SharedPrefix>,
    /// To do what with it.
    pub permission: Permission,
}

impl Grant {
    /// Whether it is for a user who is in these groups.
    fn is_for(&self, is_in: impl Fn(&str) -> bool) -> bool {
        Subject::include(&self.subjects, is_in)
    }

    /// What it lets a user with this prefix reach, where its bucket has this name.
    fn reach(&self, bucket: &BucketName, own: &Prefix) -> Reach {
        let place = self.shared_place();
        Reach {
            bucket: bucket.clone(),
            place: place.unwrap_or_else(|| Place::Own(own.clone())),
            access: self.access(),
        }
    }

    fn access(&self) -> Access {
        match self.permission {
            Permission::ReadOnly => Access::ReadOnly,
            Permission::ReadWrite => Access::ReadWrite,
        }
    }

    /// What it is of, where that is the same for every user; none: the prefix of whoever asks.
    fn shared_place(&self) -> Option<Place> {
        match (self.scope, &self.prefix) {
            (Scope::Prefix, Some(prefix)) => Some(Place::Shared(prefix.clone())),
            (Scope::Bucket, _) => Some(Place::Whole),
            // The API server lets no scope Prefix in that names none.
            (Scope::UserPrefix | Scope::Prefix, _) => None,
        }
    }
}

/// What of a bucket a grant reaches.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The prefix of the user who asks.
    UserPrefix,
    /// A prefix that users share.
    Prefix,
    /// All of it.
    Bucket,
}

/// What a grant allows.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Get and list.
    ReadOnly,
    /// Get, list, put and delete.
    ReadWrite,
}

/// What becomes of a bucket when its HubStorage is deleted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeletionPolicy {
    /// The bucket, its data and its rules stay as they are.
    #[default]
    Retain,
    /// It is deleted if it holds nothing.
    DeleteIfEmpty,
    /// Everything in it is deleted, and then the bucket.
    DeleteContents,
}
