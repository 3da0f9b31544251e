//! The plan: from what is declared and what was observed to what should be done.
//!
//! No client, no clock, no randomness: the same input gives the same plan. Each [`Action`] is one
//! external call that is safe to repeat. How an action reads ([`std::fmt::Display`]) is what
//! events and messages say.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use crate::api::{CREATION_TAG, OWNER_TAG, Reason};
use crate::lifecycle::{self, Achievable, Difference, Effect, Rule, Supports};
use crate::names::BucketName;

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

/// A bucket as the spec wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Name within the hub.
    pub name: String,
    /// Name in the store.
    pub bucket: BucketName,
    /// Lifecycle effects; none where the spec asks for none. Rules of ours that are there from
    /// an earlier spec go, or they would delete data that somebody has just decided to keep.
    pub lifecycle: Vec<Effect>,
}

/// A bucket as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// There is none.
    Missing,
    /// It bears our owner tag.
    Ours {
        /// All its lifecycle rules.
        rules: Vec<Rule<()>>,
    },
    /// It bears no owner tag at all.
    Untagged {
        /// When it was created, as the store says.
        created: Timestamp,
        /// Whether it holds nothing, not even an old version.
        empty: bool,
        /// All its lifecycle rules.
        rules: Vec<Rule<()>>,
    },
    /// It bears somebody else's owner tag, or our keys do not reach it.
    OthersOwn {
        /// The tag's value, where it could be read.
        owner: Option<String>,
    },
}

/// What is remembered of a bucket from the last reconcile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remembered {
    /// An intent to create that was not followed up yet.
    pub intent: Option<Intent>,
    /// Whether the bucket was once seen to be there: if it is missing, it was lost.
    pub existed: bool,
    /// Whether the present spec was once fully applied: a difference is then drift.
    pub settled: bool,
}

/// Why an action is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The spec asks for it for the first time.
    Declared,
    /// The store was changed by somebody else.
    Drift,
}

/// One external call, safe to repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Create the bucket and mark it as ours. The intent is in status before.
    Create {
        /// The bucket.
        bucket: BucketName,
        /// Why.
        cause: Cause,
    },
    /// Mark as ours a bucket that only we can have made.
    Tag {
        /// The bucket.
        bucket: BucketName,
    },
    /// Write our lifecycle rules beside those of others.
    SetLifecycle {
        /// The bucket.
        bucket: BucketName,
        /// All of our rules.
        effects: Vec<Effect>,
        /// What was found instead.
        found: Difference,
        /// Why.
        cause: Cause,
    },
}

impl Action {
    /// The bucket that it is about.
    pub fn bucket(&self) -> &BucketName {
        match self {
            Self::Create { bucket, .. }
            | Self::Tag { bucket }
            | Self::SetLifecycle { bucket, .. } => bucket,
        }
    }

    /// Why the action is needed; tagging always finishes what the spec asked for.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Create { cause, .. } | Self::SetLifecycle { cause, .. } => *cause,
            Self::Tag { .. } => Cause::Declared,
        }
    }

    /// The reason of the event that tells of this action once it is done.
    pub fn reason(&self) -> Reason {
        match (self.cause(), self) {
            (Cause::Drift, _) => Reason::DriftCorrected,
            (Cause::Declared, Self::Create { .. }) => Reason::BucketCreated,
            (Cause::Declared, Self::Tag { .. }) => Reason::BucketTagged,
            (Cause::Declared, Self::SetLifecycle { .. }) => Reason::LifecycleRulesSet,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create {
                bucket,
                cause: Cause::Declared,
            } => write!(f, "create bucket {bucket}"),
            Self::Create {
                bucket,
                cause: Cause::Drift,
            } => {
                write!(
                    f,
                    "create bucket {bucket} again: it was gone, with all data in it"
                )
            }
            Self::Tag { bucket } => write!(f, "mark bucket {bucket} with the owner tag"),
            Self::SetLifecycle {
                bucket,
                effects,
                found,
                cause,
            } => {
                write!(
                    f,
                    "set lifecycle rules of bucket {bucket}: {}",
                    list(effects)
                )?;
                match cause {
                    Cause::Declared => Ok(()),
                    Cause::Drift => write!(f, "; found {}", describe(found)),
                }
            }
        }
    }
}

fn list(effects: &[Effect]) -> String {
    if effects.is_empty() {
        return "none".to_owned();
    }
    effects
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

fn describe(found: &Difference) -> String {
    let missing = found
        .missing
        .iter()
        .map(|effect| format!("no rule to {effect}"));
    let changed = found.changed.iter().map(|(id, wanted)| match wanted {
        Some(_) => format!("rule {id} changed"),
        None => format!("rule {id}, which nobody declared"),
    });
    missing.chain(changed).collect::<Vec<_>>().join(", ")
}

/// Why nothing may be done about a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For machines.
    pub reason: Reason,
    /// For people, with the way out.
    pub message: String,
}

/// What to do about one bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketPlan {
    /// Name within the hub.
    pub name: String,
    /// Name in the store.
    pub bucket: BucketName,
    /// What to do, in this order; nothing on a steady bucket.
    pub actions: Vec<Action>,
    /// Why nothing may be done. Then `actions` is empty.
    pub refusal: Option<Refusal>,
    /// Effects that will be in force; none on a refused bucket.
    pub in_force: Vec<Effect>,
    /// Declared effects that this store cannot do.
    pub omitted: Vec<Effect>,
}

/// What to do about one bucket, given all that is known of it.
pub fn plan_bucket(
    declared: &Declared,
    observed: &Observed,
    remembered: &Remembered,
    owner: &Owner,
    supports: Supports,
) -> BucketPlan {
    let Achievable { apply, omitted } = lifecycle::achievable(&declared.lifecycle, supports);
    let drift_if = |known| {
        if known { Cause::Drift } else { Cause::Declared }
    };
    let bucket = declared.bucket.clone();

    let decision = match observed {
        Observed::Missing => Ok(Some(Action::Create {
            bucket,
            cause: drift_if(remembered.existed),
        })),
        Observed::Ours { .. } => Ok(None),
        Observed::Untagged { created, empty, .. } => {
            claim(declared, *created, *empty, remembered, owner).map(Some)
        }
        Observed::OthersOwn { owner: other } => {
            Err(refuse_foreign(declared, other.as_deref(), owner))
        }
    };
    let (mut actions, refusal): (Vec<Action>, _) = match decision {
        Ok(action) => (action.into_iter().collect(), None),
        Err(refusal) => (Vec::new(), Some(refusal)),
    };

    if refusal.is_none() {
        let rules: &[Rule<()>] = match observed {
            Observed::Ours { rules } | Observed::Untagged { rules, .. } => rules,
            Observed::Missing | Observed::OthersOwn { .. } => &[],
        };
        let found = lifecycle::difference(rules, &apply);
        if !found.is_empty() {
            let bucket = declared.bucket.clone();
            actions.push(Action::SetLifecycle {
                bucket,
                effects: apply.clone(),
                found,
                cause: drift_if(remembered.settled),
            });
        }
    }
    let in_force = if refusal.is_none() { apply } else { Vec::new() };
    BucketPlan {
        name: declared.name.clone(),
        bucket: declared.bucket.clone(),
        actions,
        refusal,
        in_force,
        omitted,
    }
}

/// An untagged bucket is ours only if we said that we were about to create it, and nobody can
/// have used it since: it is empty, and younger than the intent.
fn claim(
    declared: &Declared,
    created: Timestamp,
    empty: bool,
    remembered: &Remembered,
    owner: &Owner,
) -> Result<Action, Refusal> {
    match &remembered.intent {
        Some(intent) if intent.explains(created, empty) => Ok(Action::Tag {
            bucket: declared.bucket.clone(),
        }),
        _ => Err(refuse_foreign(declared, None, owner)),
    }
}

fn refuse_foreign(declared: &Declared, other: Option<&str>, owner: &Owner) -> Refusal {
    let bucket = &declared.bucket;
    let whose = match other {
        Some(other) => format!("it belongs to {other} (tag {OWNER_TAG})"),
        None => format!("it bears no tag {OWNER_TAG} of this HubStorage"),
    };
    Refusal {
        reason: Reason::BucketOwnedByOthers,
        message: format!(
            "spec.buckets[{}]: bucket {bucket} exists and {whose}; it is left as it is. Choose another bucketName, \
             or, if the bucket is yours to give, set its tag {OWNER_TAG} to {owner}",
            declared.name
        ),
    }
}

/// The tags of a bucket that `owner` creates.
pub fn owner_tags(owner: &Owner, nonce: &str) -> [(&'static str, String); 2] {
    [
        (OWNER_TAG, owner.to_string()),
        (CREATION_TAG, nonce.to_owned()),
    ]
}
