//! Actions: one external call each, and how it reads.

use std::fmt;

use crate::api::{Origin, Reason};
use crate::lifecycle::{Difference, Effect};
use crate::names::BucketName;
use crate::settings::Setting;

/// Why an action is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The spec asks for it for the first time.
    Declared,
    /// The store was changed by somebody else.
    Drift,
}

/// Why a bucket is marked as ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagCause {
    /// We created it, and did not get to tag it.
    Created,
    /// The spec says to take it over.
    Adopted,
    /// Somebody removed our tags.
    Removed,
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
    /// Mark a bucket as ours.
    Tag {
        /// The bucket.
        bucket: BucketName,
        /// How it came to be ours: which tags it gets.
        origin: Origin,
        /// Why.
        cause: TagCause,
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
    /// Make a setting what it should be.
    Configure {
        /// The bucket.
        bucket: BucketName,
        /// How it should be.
        setting: Setting,
        /// What was found instead, in words.
        found: String,
        /// Why.
        cause: Cause,
    },
}

/// Something that is done to a store: how events, metrics and mode Observe tell of it, which say its
/// [`fmt::Display`].
pub trait Deed: fmt::Display {
    /// What is done, in one word: for events and metrics.
    fn verb(&self) -> &'static str;

    /// The reason of the event that tells of it once it is done.
    fn reason(&self) -> Reason;

    /// Kind and name of what it is done to.
    fn object(&self) -> (&'static str, &str);
}

impl Action {
    /// The bucket that it is about.
    pub fn bucket(&self) -> &BucketName {
        match self {
            Self::Create { bucket, .. }
            | Self::Tag { bucket, .. }
            | Self::SetLifecycle { bucket, .. }
            | Self::Configure { bucket, .. } => bucket,
        }
    }
}

impl Deed for Action {
    fn verb(&self) -> &'static str {
        match self {
            Self::Create { .. } => "CreateBucket",
            Self::Tag { .. } => "TagBucket",
            Self::SetLifecycle { .. } => "SetLifecycleRules",
            Self::Configure { setting, .. } => setting.verb(),
        }
    }

    fn reason(&self) -> Reason {
        match self {
            Self::Create {
                cause: Cause::Drift,
                ..
            }
            | Self::SetLifecycle {
                cause: Cause::Drift,
                ..
            }
            | Self::Configure {
                cause: Cause::Drift,
                ..
            }
            | Self::Tag {
                cause: TagCause::Removed,
                ..
            } => Reason::DriftCorrected,
            Self::Create { .. } => Reason::BucketCreated,
            Self::Tag {
                cause: TagCause::Adopted,
                ..
            } => Reason::BucketAdopted,
            Self::Tag { .. } => Reason::BucketTagged,
            Self::SetLifecycle { .. } => Reason::LifecycleRulesSet,
            Self::Configure { .. } => Reason::BucketConfigured,
        }
    }

    fn object(&self) -> (&'static str, &str) {
        ("Bucket", self.bucket().as_str())
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
            Self::Tag { bucket, cause, .. } => match cause {
                TagCause::Created => write!(f, "mark bucket {bucket} with the owner tag"),
                TagCause::Adopted => {
                    write!(f, "take bucket {bucket} over: mark it with the owner tag")
                }
                TagCause::Removed => {
                    write!(
                        f,
                        "mark bucket {bucket} with the owner tag; found it without"
                    )
                }
            },
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
                // That a rule is not there yet is no news; that one was another is.
                match (cause, found.changed.is_empty()) {
                    (Cause::Declared, true) => Ok(()),
                    _ => write!(f, "; found {}", describe(found)),
                }
            }
            Self::Configure {
                bucket,
                setting,
                found,
                cause,
            } => {
                write!(f, "set bucket {bucket} to {setting}")?;
                match cause {
                    Cause::Declared if found.is_empty() => Ok(()),
                    _ => write!(f, "; found {found}"),
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
    let changed = found.changed.iter().map(ToString::to_string);
    missing.chain(changed).collect::<Vec<_>>().join(", ")
}
