//! Tells which buckets stay in the store, and where: the only ones who still know of them are
//! people.

use hubstorage_core::api::{BucketStatus, HubStorage, Origin};
use kube::{Resource as _, ResourceExt as _};

use super::fate::{Why, is_named};
use crate::controller::Context;
use crate::controller::hub::owner;

/// Tells that a bucket outlives its HubStorage: on the HubStorage, which is about to go, in the
/// log, and always on the StorageProvider too. That one stays, and can be told of even while the
/// hub's namespace is being deleted, when the API server takes no new events there.
pub async fn outlives(hub: &HubStorage, bucket: &BucketStatus, why: &Why, context: &Context) {
    let (namespace, name) = (hub.namespace().unwrap_or_default(), hub.name_any());
    if *why == Why::NotDeclared && is_named(hub, bucket, &owner(hub, context)) {
        // By another entry, which tells what became of it.
        return;
    }
    let (bucket_name, store) = (&bucket.bucket_name, &bucket.store);
    let note = match bucket.creation {
        None => format!(
            "bucket {bucket_name} of HubStorage {namespace}/{name} was left in the store {store} as it is, with data and \
             rules ({why}). Delete it there if its data is no longer needed"
        ),
        Some(_) => format!(
            "the creation of bucket {bucket_name} of HubStorage {namespace}/{name} was begun, and how it ended is not \
             known ({why}). Look for it in the store {store}, and delete it there if it is not needed"
        ),
    };
    tell(hub, bucket, &note, context).await;
}

/// Tells of the buckets that were ours, and that the spec of a living hub does not name any more.
pub async fn left_out(
    hub: &HubStorage,
    before: &[BucketStatus],
    after: &[BucketStatus],
    context: &Context,
) {
    let owner = owner(hub, context);
    let is_left_out = |known: &&BucketStatus| {
        let is_known_still = after
            .iter()
            .any(|bucket| bucket.bucket_name == known.bucket_name);
        known.creation.is_none()
            && known.origin != Some(Origin::AccessOnly)
            && !is_known_still
            && !is_named(hub, known, &owner)
    };
    for bucket in before.iter().filter(is_left_out) {
        left_behind(hub, bucket, context).await;
    }
}

/// Tells of one of them.
pub async fn left_behind(hub: &HubStorage, bucket: &BucketStatus, context: &Context) {
    let note = format!(
        "bucket {} stays in the store {} as it is, with data and rules: spec.buckets does not name {} any more. Name \
         it again to go on with it, or delete it in the store if its data is no longer needed",
        bucket.bucket_name, bucket.store, bucket.name
    );
    tell(hub, bucket, &note, context).await;
}

async fn tell(hub: &HubStorage, bucket: &BucketStatus, note: &str, context: &Context) {
    tracing::info!(namespace = hub.namespace(), name = hub.name_any(), "{note}");
    let bucket = &bucket.bucket_name;
    let about = hub.object_ref(&());
    context.events.retained(&about, bucket, note).await;
    if let Some(provider) = context.provider(&hub.spec.provider_ref.name) {
        let about = provider.object_ref(&());
        context.events.retained(&about, bucket, note).await;
    }
}
