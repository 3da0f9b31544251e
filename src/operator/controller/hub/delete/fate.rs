//! What is to become of a bucket, by the spec as it is now. Pure. Only the bucket's own entry
//! counts: nothing else in the spec has to be valid, or to be allowed by the provider.

use std::fmt;

use hubstorage_core::api::{
    Bucket, BucketStatus, DeletionPolicy, HubStorage, Management, Mode, Origin,
};
use hubstorage_core::plan::Owner;

/// What is to become of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It stays as it is.
    Retained(Why),
    /// It is deleted.
    Deleted(How),
}

/// How a bucket is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// If it holds nothing.
    IfEmpty,
    /// With everything in it.
    WithContents,
}

/// Why a bucket stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The spec says so.
    Policy,
    /// The spec does not name it any more.
    NotDeclared,
    /// Somebody else keeps it.
    AccessOnly,
    /// The hub only observes.
    Observing,
    /// The StorageProvider does not exist any more, so that nobody knows how to reach the store.
    NoProvider,
    /// It bears the tag of another owner.
    OthersOwn {
        /// The tag.
        owner: String,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy => f.write_str("deletionPolicy Retain"),
            Self::NotDeclared => {
                f.write_str("the spec does not name it any more, which counts as Retain")
            }
            Self::AccessOnly => f.write_str("management AccessOnly: somebody else keeps it"),
            Self::Observing => f.write_str("mode Observe changes nothing"),
            Self::NoProvider => f.write_str("its StorageProvider does not exist any more"),
            Self::OthersOwn { owner } => write!(f, "its owner tag names {owner} by now"),
        }
    }
}

/// What is to become of a bucket that status tells of.
pub fn fate(hub: &HubStorage, known: &BucketStatus, owner: &Owner) -> Fate {
    if hub.spec.mode == Mode::Observe {
        return Fate::Retained(Why::Observing);
    }
    if known.origin == Some(Origin::AccessOnly) {
        return Fate::Retained(Why::AccessOnly);
    }
    let Some(declared) = declared(hub, known, owner) else {
        return Fate::Retained(Why::NotDeclared);
    };
    match (declared.management, declared.deletion_policy) {
        (Management::AccessOnly, _) => Fate::Retained(Why::AccessOnly),
        (_, DeletionPolicy::Retain) => Fate::Retained(Why::Policy),
        (_, DeletionPolicy::DeleteIfEmpty) => Fate::Deleted(How::IfEmpty),
        (_, DeletionPolicy::DeleteContents) => Fate::Deleted(How::WithContents),
    }
}

/// Whether the spec names this very bucket, as it is named within the hub.
pub fn is_declared(hub: &HubStorage, known: &BucketStatus, owner: &Owner) -> bool {
    declared(hub, known, owner).is_some()
}

/// Whether the spec names this bucket of the store, by whatever entry.
pub fn is_named(hub: &HubStorage, known: &BucketStatus, owner: &Owner) -> bool {
    let mut named = hub.spec.buckets.iter();
    named.any(|named| names(named, known, owner))
}

fn names(named: &Bucket, known: &BucketStatus, owner: &Owner) -> bool {
    let name = owner.bucket_name(named);
    name.is_ok_and(|name| name.as_str() == known.bucket_name)
}

/// The entry of the spec for this very bucket.
pub fn declared<'h>(
    hub: &'h HubStorage,
    known: &BucketStatus,
    owner: &Owner,
) -> Option<&'h Bucket> {
    let mut named = hub.spec.buckets.iter().filter(|b| b.name == known.name);
    named.find(|declared| names(declared, known, owner))
}
