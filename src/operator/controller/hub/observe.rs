//! One bucket as the store has it: its tags first, and only if they say that it is ours to keep
//! its rules, its policy, and one read for each setting that is declared.

use std::collections::BTreeSet;

use hubstorage_cloud::{CloudError, ObjectStore};
use hubstorage_core::api::{CREATION_TAG, Capability, Management, OWNER_TAG, Origin};
use hubstorage_core::bucket_policy::{BucketPolicy, Grant};
use hubstorage_core::names::BucketName;
use hubstorage_core::plan::{
    Declared, Found, Observed, Owner, Remembered, Sighting, Standing, stand,
};
use hubstorage_core::settings::{self, Deviation, Setting};
use hubstorage_core::supports::Supports;

/// What was seen of a bucket, and what the store turned out to be unable to do.
pub struct Look {
    /// The bucket.
    pub observed: Observed,
    /// Capabilities that the store lacks, beyond those that were known to be lacking.
    pub lacking: BTreeSet<Capability>,
}

/// Reads everything that the plan needs to know of a bucket.
///
/// # Errors
/// Those of the store, but for what it cannot do at all.
pub async fn bucket(
    store: &dyn ObjectStore,
    declared: &Declared,
    remembered: &Remembered,
    owner: &Owner,
    supports: Supports,
) -> Result<Look, CloudError> {
    let mut look = Look {
        observed: Observed {
            sighting: sight(store, &declared.bucket, declared.management, owner).await?,
            found: Found::default(),
        },
        lacking: BTreeSet::new(),
    };
    let is_there = look.observed.sighting != Sighting::Missing;
    // What is refused is not looked at any closer.
    if let Ok(Standing { origin, .. }) = stand(declared, &look.observed.sighting, remembered, owner)
        && is_there
    {
        close_look(store, declared, origin, supports, &mut look).await?;
    }
    Ok(look)
}

/// Whether a bucket bears this owner's tag. One whose tags nobody lets us read does not.
///
/// # Errors
/// Those of the store, but for its refusals.
pub async fn is_tagged(
    store: &dyn ObjectStore,
    bucket: &BucketName,
    owner: &Owner,
) -> Result<bool, CloudError> {
    match store.bucket_tags(bucket).await {
        Ok(tags) => Ok(tags.is_some_and(|tags| tags.get(OWNER_TAG) == Some(&owner.to_string()))),
        Err(CloudError::OwnedByOthers { .. } | CloudError::AccessDenied { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The first look at a bucket: whose it is.
///
/// # Errors
/// Those of the store.
pub async fn sight(
    store: &dyn ObjectStore,
    bucket: &BucketName,
    management: Management,
    owner: &Owner,
) -> Result<Sighting, CloudError> {
    let tags = match store.bucket_tags(bucket).await {
        Ok(Some(tags)) => tags,
        Ok(None) => return Ok(Sighting::Missing),
        Err(CloudError::OwnedByOthers { .. }) => return Ok(Sighting::OthersOwn { owner: None }),
        Err(error) => return Err(error),
    };
    match tags.get(OWNER_TAG) {
        Some(tag) if tag == owner.to_string() => Ok(Sighting::Ours {
            nonce: tags.get(CREATION_TAG).map(str::to_owned),
        }),
        Some(other) => Ok(Sighting::OthersOwn {
            owner: Some(other.to_owned()),
        }),
        // Whose it is does not matter then, so nobody asks what it holds.
        None if management == Management::AccessOnly => Ok(Sighting::Ours { nonce: None }),
        None => {
            let unclaimed = store.unclaimed(bucket).await?;
            Ok(Sighting::Untagged {
                created: unclaimed.created,
                empty: unclaimed.empty,
            })
        }
    }
}

async fn close_look(
    store: &dyn ObjectStore,
    declared: &Declared,
    origin: Origin,
    mut supports: Supports,
    look: &mut Look,
) -> Result<(), CloudError> {
    let bucket = &declared.bucket;
    if supports.has(Capability::BucketPolicy) {
        look.observed.found.policy = policy(store, bucket, origin, &mut look.lacking).await?;
    }
    // After the policy: MinIO lets those read a list who may read a policy, and only that right has a name
    // there.
    look.observed.found.access_list = access_list(store, bucket, origin).await?;
    if origin == Origin::AccessOnly {
        return Ok(());
    }
    look.observed.found.rules = store.lifecycle_rules(bucket).await?;

    for setting in settings::wanted(&declared.settings, origin, supports).apply {
        if matches!(setting, Setting::Statements(_)) {
            continue;
        }
        match store.deviation(bucket, &setting).await {
            Ok(None) => {}
            Ok(Some(found)) => look
                .observed
                .found
                .deviations
                .push(Deviation { setting, found }),
            Err(CloudError::Unsupported { capability }) => {
                supports = supports.without(capability);
                look.lacking.insert(capability);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The bucket's policy. Of a bucket that others keep it is read where they let us: it only tells
/// who else has access.
async fn policy(
    store: &dyn ObjectStore,
    bucket: &BucketName,
    origin: Origin,
    lacking: &mut BTreeSet<Capability>,
) -> Result<BucketPolicy, CloudError> {
    match store.bucket_policy(bucket).await {
        Err(CloudError::Unsupported { capability }) => {
            lacking.insert(capability);
            Ok(BucketPolicy::default())
        }
        Err(CloudError::AccessDenied { .. } | CloudError::UnreadablePolicy { .. })
            if origin == Origin::AccessOnly =>
        {
            Ok(BucketPolicy::default())
        }
        read => read,
    }
}

/// What the bucket's access control list grants; of a bucket that others keep, where they let us read it.
async fn access_list(
    store: &dyn ObjectStore,
    bucket: &BucketName,
    origin: Origin,
) -> Result<Vec<Grant>, CloudError> {
    match store.access_list(bucket).await {
        Err(CloudError::AccessDenied { .. }) if origin == Origin::AccessOnly => Ok(Vec::new()),
        read => read,
    }
}
