//! Two HubStorages that name one bucket of one store. Users of both would have the same prefixes,
//! so one of them gets it. From memory only.
//!
//! Where the bucket bears the owner tag of one, that one gets it, as soon as no other has it. Where both are to
//! keep it, one of them tags it; where one or both only use it, there may be no tag to tell, and the older claim
//! counts.

use std::collections::BTreeMap;

use hubstorage_core::api::{Bucket, HubStorage, Management, Reason};
use hubstorage_core::names::BucketName;
use hubstorage_core::plan::{Declared, Refusal};
use kube::ResourceExt as _;

use crate::controller::Context;

/// A bucket that another hub claimed first.
pub struct Taken {
    /// Why this hub does not get it.
    pub refusal: Refusal,
    /// Whether the other one has it, by its status: its users may be at it now. Where it only wants it, the tag
    /// decides.
    pub is_held: bool,
}

/// The buckets of `hub` at the store `location` that another hub claimed first, by their names
/// within the hub.
pub fn taken(
    hub: &HubStorage,
    declared: &[Declared],
    location: &str,
    context: &Context,
) -> BTreeMap<String, Taken> {
    let others = context
        .stores
        .hubs
        .state_filter(|other| other.uid() != hub.uid() && is_at(other, location, context));
    let taken = declared.iter().filter_map(|declared| {
        let mine = Claim::of(hub, &declared.bucket, location);
        let claims = others
            .iter()
            .filter(|other| rivals(other, declared, context))
            .map(|other| (Claim::of(other, &declared.bucket, location), other));
        let (best, other) = claims.min_by(|(one, _), (other, _)| one.cmp(other))?;
        let taken = Taken {
            refusal: refusal(declared, other),
            is_held: !best.is_new,
        };
        (best < mine).then(|| (declared.name.clone(), taken))
    });
    taken.collect()
}

/// Whether another hub's spec names this bucket of the store `location`.
pub fn is_named_by_another(
    hub: &HubStorage,
    bucket: &BucketName,
    location: &str,
    context: &Context,
) -> bool {
    let names_it = |other: &HubStorage| {
        let owner = super::owner(other, context);
        let mut buckets = other.spec.buckets.iter();
        other.uid() != hub.uid()
            && is_at(other, location, context)
            && buckets.any(|named| owner.bucket_name(named).as_ref() == Ok(bucket))
    };
    !context.stores.hubs.state_filter(names_it).is_empty()
}

fn is_at(hub: &HubStorage, location: &str, context: &Context) -> bool {
    let provider = context.provider(&hub.spec.provider_ref.name);
    let s3 = provider
        .as_ref()
        .and_then(|provider| provider.spec.s3.as_ref());
    s3.is_some_and(|s3| s3.store() == location)
}

/// Whether `other` names the bucket too, and the tag cannot decide. The second hub of a namespace
/// claims nothing.
fn rivals(other: &HubStorage, declared: &Declared, context: &Context) -> bool {
    let owner = super::owner(other, context);
    let names_it = |bucket: &&Bucket| owner.bucket_name(bucket).as_ref() == Ok(&declared.bucket);
    let untold = |bucket: &Bucket| {
        [bucket.management, declared.management].contains(&Management::AccessOnly)
    };
    let named = other.spec.buckets.iter().find(names_it);
    named.is_some_and(untold) && is_first(other, context)
}

fn is_first(hub: &HubStorage, context: &Context) -> bool {
    let first = context.hub_of(&hub.namespace().unwrap_or_default());
    first.is_none_or(|first| first.uid() == hub.uid())
}

/// How good a claim is, the best first: a bucket that stands in status, the older object, the name.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    is_new: bool,
    is_unwritten: bool,
    created: Option<jiff::Timestamp>,
    namespace: Option<String>,
    name: String,
}

impl Claim {
    fn of(hub: &HubStorage, bucket: &BucketName, location: &str) -> Self {
        let status = hub.status.as_ref();
        let mut known = status
            .into_iter()
            .flat_map(|s| s.existing_buckets(location));
        let created = hub.metadata.creation_timestamp.as_ref().map(|time| time.0);
        Self {
            is_new: !known.any(|known| known.bucket_name == bucket.as_str()),
            is_unwritten: created.is_none(),
            created,
            namespace: hub.namespace(),
            name: hub.name_any(),
        }
    }
}

fn refusal(declared: &Declared, other: &HubStorage) -> Refusal {
    Refusal {
        reason: Reason::BucketOwnedByOthers,
        message: format!(
            "spec.buckets[{}]: bucket {} is claimed by HubStorage {}/{} already, and users of two hubs may have the same \
             names; this one does not use it. Choose another bucketName, or take the bucket out of that HubStorage",
            declared.name,
            declared.bucket,
            other.namespace().unwrap_or_default(),
            other.name_any()
        ),
    }
}
