//! Creations that were begun for a spec that does not name the bucket any more. Where tags come
//! after the call that creates, and that call's answer was lost, the bucket is there without a tag:
//! nobody else would ever know whose it is, and it would be refused as somebody else's if it were
//! named again.

use hubstorage_cloud::{CloudError, Disposition};
use hubstorage_core::api::{BucketStatus, HubStorage, Management};
use hubstorage_core::names::BucketName;
use hubstorage_core::plan::{Intent, Sighting};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;

use super::apply::{Failure, claim};
use super::{Target, claims, delete, observe};
use crate::controller::Context;

/// How long a bucket may take to be seen after it was asked for: a call goes on in the store when nobody
/// waits for its answer any more, and some stores tell for a while of what was.
const MAY_STILL_COME: SignedDuration = SignedDuration::from_mins(15);

/// Most of them that status keeps: the list has a bound there.
const MOST: usize = 32;

/// What became of such a creation.
enum Ended {
    /// The bucket is there, and bears our tag.
    Made,
    /// There is none, or it is somebody else's.
    Nothing,
    /// Nobody can tell yet.
    Open,
}

/// Marks as ours, and tells of, what was created and is not named any more. Those that nobody can tell of
/// yet have to stay in status, and are looked at again.
pub async fn follow_up(hub: &HubStorage, target: &Target, context: &Context) -> Vec<BucketStatus> {
    let known = hub.status.iter().flat_map(|status| &status.buckets);
    let mut open = Vec::new();
    let mut answers = true;
    for bucket in known.filter(|known| known.store == target.location) {
        let Some(intent) = bucket.creation.as_ref().map(Intent::from) else {
            continue;
        };
        if delete::is_declared(hub, bucket, &target.owner) {
            continue;
        }
        // A store that does not answer is asked once: those that the spec names are waiting.
        if !answers {
            open.push(bucket.clone());
            continue;
        }
        match end(bucket, &intent, hub, target, context).await {
            // By another entry, which goes on with it.
            Ok(Ended::Made) if delete::is_named(hub, bucket, &target.owner) => {}
            Ok(Ended::Made) => delete::left_behind(hub, bucket, context).await,
            Ok(Ended::Nothing) => {}
            Ok(Ended::Open) => open.push(bucket.clone()),
            Err(error) => {
                let (namespace, name) = (hub.namespace(), hub.name_any());
                tracing::warn!(namespace, name, %error, "a creation was not followed up");
                answers = error.disposition() == Disposition::Stall;
                open.push(bucket.clone());
            }
        }
    }
    open.truncate(MOST);
    open
}

async fn end(
    bucket: &BucketStatus,
    intent: &Intent,
    hub: &HubStorage,
    target: &Target,
    context: &Context,
) -> Result<Ended, CloudError> {
    // A name that no store takes is no bucket's.
    let Ok(name) = BucketName::parse(&bucket.bucket_name) else {
        return Ok(Ended::Nothing);
    };
    let store = target.store.as_ref();
    match observe::sight(store, &name, Management::Full, &target.owner).await? {
        Sighting::Ours { .. } => Ok(Ended::Made),
        Sighting::OthersOwn { .. } => Ok(Ended::Nothing),
        Sighting::Missing => {
            // It may have been asked for until the spec was edited.
            let observed = hub.status.as_ref().map(|status| status.observed_generation);
            let is_edited = observed != hub.metadata.generation;
            Ok(match is_over(intent, (context.clock)()) && !is_edited {
                true => Ended::Nothing,
                false => Ended::Open,
            })
        }
        // It may be theirs as well: both were about to create it.
        Sighting::Untagged { .. }
            if claims::is_named_by_another(hub, &name, &target.location, context) =>
        {
            Ok(Ended::Nothing)
        }
        Sighting::Untagged { .. } => {
            let tags = target.owner.creation_tags(&intent.nonce);
            let tags = tags.into_iter().collect();
            match claim(target, &name, Some(intent), &tags).await {
                Ok(()) => Ok(Ended::Made),
                Err(Failure::Raced(_)) => Ok(Ended::Nothing),
                Err(Failure::Store(error)) => Err(error),
            }
        }
    }
}

fn is_over(intent: &Intent, now: Timestamp) -> bool {
    now.duration_since(intent.time) > MAY_STILL_COME
}
