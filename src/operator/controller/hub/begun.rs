//! Creations that were begun for a spec that does not name the bucket any more. Where tags come
//! after the call that creates, and that call's answer was lost, the bucket is there without a tag:
//! nobody else would ever know whose it is, and it would be refused as somebody else's if it were
//! named again.

use hubstorage_cloud::CloudError;
use hubstorage_core::api::{BucketStatus, HubStorage, OWNER_TAG};
use hubstorage_core::names::BucketName;
use hubstorage_core::plan::Intent;

use super::apply::{Failure, claim};
use super::{Target, delete};
use crate::controller::Context;

/// Marks as ours, and tells of, what was created and is not named any more. Status forgets these
/// intents when it is written next.
///
/// # Errors
/// If the store fails; the intents have to stay in status then.
pub async fn follow_up(
    hub: &HubStorage,
    target: &Target,
    context: &Context,
) -> Result<(), CloudError> {
    let known = hub.status.iter().flat_map(|status| &status.buckets);
    for bucket in known.filter(|known| known.store == target.location) {
        let Some(intent) = bucket.creation.as_ref().map(Intent::from) else {
            continue;
        };
        let is_declared = (target.buckets.iter()).any(|d| d.bucket.as_str() == bucket.bucket_name);
        if !is_declared && is_ours(bucket, &intent, target).await? {
            delete::left_behind(hub, bucket, context).await;
        }
    }
    Ok(())
}

/// Whether the bucket was created by this intent; it bears our tag from here on.
async fn is_ours(
    bucket: &BucketStatus,
    intent: &Intent,
    target: &Target,
) -> Result<bool, CloudError> {
    // A name that no store takes is no bucket's.
    let Ok(name) = BucketName::parse(&bucket.bucket_name) else {
        return Ok(false);
    };
    let Some(tags) = target.store.bucket_tags(&name).await? else {
        return Ok(false);
    };
    if let Some(owner) = tags.get(OWNER_TAG) {
        return Ok(owner == target.owner.to_string());
    }
    match claim(target, &name, intent).await {
        Ok(()) => Ok(true),
        Err(Failure::Raced(_)) => Ok(false),
        Err(Failure::Store(error)) => Err(error),
    }
}
