//! Whose bucket it is, and what has to be done before it is ours.
//!
//! The owner tag decides (`<installation>/<namespace>/<name>`). A bucket without it is ours only
//! if nobody else can have made it, if it is the very bucket that we had tagged before, or if the
//! spec says to take it over.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Action, Declared, Remembered, TagCause, drift_if};
use crate::api::{
    Adoption, Bucket, CREATION_TAG, CreationIntent, Management, OWNER_TAG, Origin, Reason,
};
use crate::names::{BucketName, InvalidBucketName};

/// Whose bucket it is, as the value of the owner tag says it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Id of the installation: default the UID of the namespace kube-system.
    pub installation: String,
    /// Namespace of the HubStorage.
    pub namespace: String,
    /// Name of the HubStorage.
    pub name: String,
}

impl Owner {
    /// The name in the store of a bucket that this owner declares.
    ///
    /// # Errors
    /// If the spec names it, and no store would take the name.
    pub fn bucket_name(&self, bucket: &Bucket) -> Result<BucketName, InvalidBucketName> {
        match &bucket.bucket_name {
            Some(name) => BucketName::parse(name),
            None => Ok(BucketName::derive(
                &self.installation,
                &self.namespace,
                &self.name,
                &bucket.name,
            )),
        }
    }

    /// The tags of a bucket that this owner creates.
    pub fn creation_tags(&self, nonce: &str) -> [(&'static str, String); 2] {
        [
            (OWNER_TAG, self.to_string()),
            (CREATION_TAG, nonce.to_owned()),
        ]
    }

    /// The tags of a bucket that this owner takes over: without the creation tag, so that nobody
    /// ever takes it for one that the operator made.
    pub fn adoption_tags(&self) -> [(&'static str, String); 1] {
        [(OWNER_TAG, self.to_string())]
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.installation, self.namespace, self.name)
    }
}

/// That we were about to create a bucket, as it stands in status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Tells this intent from every other.
    pub nonce: String,
    /// When it was written.
    pub time: Timestamp,
}

impl From<&CreationIntent> for Intent {
    fn from(written: &CreationIntent) -> Self {
        Self {
            nonce: written.nonce.clone(),
            time: written.time.0,
        }
    }
}

impl From<&Intent> for CreationIntent {
    fn from(intent: &Intent) -> Self {
        Self {
            nonce: intent.nonce.clone(),
            time: Time(intent.time),
        }
    }
}

/// How far a store's clock may be behind ours: beyond it, its signatures would not be accepted
/// either (`RequestTimeTooSkewed`, Amazon S3 error responses).
const CLOCK_SLACK: SignedDuration = SignedDuration::from_mins(15);

impl Intent {
    /// Whether an untagged bucket, created then, can only be the one that was about to be
    /// created: nobody has used it, and it is not older than the intent, as far as two clocks
    /// can tell. The intent was written only after the store had said that there is no such
    /// bucket, so the slack lets nobody's older bucket in.
    pub fn explains(&self, created: Timestamp, empty: bool) -> bool {
        empty && self.time.duration_since(created) <= CLOCK_SLACK
    }
}

/// What a first look at a bucket tells: its tags, or that there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sighting {
    /// There is no bucket of this name.
    Missing,
    /// It bears our owner tag.
    Ours {
        /// The nonce of the intent by which it was created; none on a bucket that was taken over.
        nonce: Option<String>,
    },
    /// It bears no owner tag at all.
    Untagged {
        /// When it was created, as the store says.
        created: Timestamp,
        /// Whether it holds nothing, not even an old version.
        empty: bool,
    },
    /// It bears somebody else's owner tag, or our keys do not reach it.
    OthersOwn {
        /// The tag's value, where it could be read.
        owner: Option<String>,
    },
}

/// Why nothing may be done about a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For machines.
    pub reason: Reason,
    /// For people, with the way out.
    pub message: String,
}

/// That a bucket is ours, or is once `first` was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// How it comes to be ours.
    pub origin: Origin,
    /// What makes it ours; none where it is.
    pub first: Option<Action>,
}

/// Whether a bucket is ours to keep.
///
/// # Errors
/// Why it is not, with the way out.
pub fn stand(
    declared: &Declared,
    sighting: &Sighting,
    remembered: &Remembered,
    owner: &Owner,
) -> Result<Standing, Refusal> {
    if declared.management == Management::AccessOnly {
        return stand_beside(declared, sighting, owner);
    }
    let bucket = declared.bucket.clone();
    match sighting {
        Sighting::Missing => Ok(Standing {
            origin: Origin::Created,
            first: Some(Action::Create {
                bucket,
                cause: drift_if(remembered.existed),
            }),
        }),
        Sighting::Ours { nonce } => {
            let is_new = remembered.intent.as_ref().map(|intent| &intent.nonce) == nonce.as_ref()
                && nonce.is_some();
            if declared.adoption == Adoption::Never && !remembered.existed && !is_new {
                return Err(refuse_known(declared));
            }
            let origin = if nonce.is_some() {
                Origin::Created
            } else {
                Origin::Adopted
            };
            Ok(Standing {
                origin,
                first: None,
            })
        }
        Sighting::Untagged { created, empty } => {
            let (origin, cause) = claim(declared, *created, *empty, remembered)
                .ok_or_else(|| refuse_untagged(declared, owner))?;
            Ok(Standing {
                origin,
                first: Some(Action::Tag {
                    bucket,
                    origin,
                    cause,
                }),
            })
        }
        Sighting::OthersOwn { owner: other } => {
            Err(refuse_foreign(declared, other.as_deref(), owner))
        }
    }
}

/// Why an untagged bucket is ours all the same, if it is.
fn claim(
    declared: &Declared,
    created: Timestamp,
    empty: bool,
    remembered: &Remembered,
) -> Option<(Origin, TagCause)> {
    let intent = remembered.intent.as_ref();
    if intent.is_some_and(|intent| intent.explains(created, empty)) {
        return Some((Origin::Created, TagCause::Created));
    }
    let was_ours = remembered
        .origin
        .filter(|origin| *origin != Origin::AccessOnly);
    if let Some(origin) = was_ours
        && remembered.created == Some(created)
    {
        return Some((origin, TagCause::Removed));
    }
    (declared.adoption == Adoption::Always).then_some((Origin::Adopted, TagCause::Adopted))
}

/// A bucket that others keep has to be there, and not be the storage of another hub.
fn stand_beside(
    declared: &Declared,
    sighting: &Sighting,
    owner: &Owner,
) -> Result<Standing, Refusal> {
    match sighting {
        Sighting::Ours { .. } | Sighting::Untagged { .. } => Ok(Standing {
            origin: Origin::AccessOnly,
            first: None,
        }),
        Sighting::Missing => Err(Refusal {
            reason: Reason::BucketMissing,
            message: format!(
                "spec.buckets[{}]: there is no bucket {}, and with management AccessOnly the operator creates none. \
                 Create it, correct bucketName, or set management to Full",
                declared.name, declared.bucket
            ),
        }),
        Sighting::OthersOwn { owner: other } => {
            Err(refuse_foreign(declared, other.as_deref(), owner))
        }
    }
}

fn refuse_known(declared: &Declared) -> Refusal {
    Refusal {
        reason: Reason::BucketExists,
        message: format!(
            "spec.buckets[{}]: bucket {} was there before this HubStorage, left by an earlier one of the same name, and \
             adoption is Never. Set adoption to IfOwned, or choose another bucketName",
            declared.name, declared.bucket
        ),
    }
}

/// Refuses a bucket that bears another owner's tag (`other`), or that our keys do not reach.
fn refuse_foreign(declared: &Declared, other: Option<&str>, owner: &Owner) -> Refusal {
    let whose = match other {
        Some(other) => format!("it belongs to {other} (tag {OWNER_TAG})"),
        None => "our keys do not reach it".to_owned(),
    };
    refuse_existing(declared, &whose, "", owner)
}

fn refuse_untagged(declared: &Declared, owner: &Owner) -> Refusal {
    let whose = format!("it bears no tag {OWNER_TAG} of this HubStorage");
    refuse_existing(declared, &whose, "set adoption to Always, or ", owner)
}

fn refuse_existing(declared: &Declared, whose: &str, way_out: &str, owner: &Owner) -> Refusal {
    Refusal {
        reason: Reason::BucketOwnedByOthers,
        message: format!(
            "spec.buckets[{}]: bucket {} exists and {whose}; it is left as it is. Choose another bucketName, or, if the \
             bucket is yours to give, {way_out}set its tag {OWNER_TAG} to {owner}",
            declared.name, declared.bucket
        ),
    }
}
