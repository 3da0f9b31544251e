//! One bucket as the store has it: two reads while it is ours, a third where it bears no tag.

use hubstorage_cloud::{CloudError, ObjectStore};
use hubstorage_core::api::OWNER_TAG;
use hubstorage_core::names::BucketName;
use hubstorage_core::plan::{Observed, Owner};

/// Reads everything that the plan needs to know of a bucket.
pub async fn bucket(
    store: &dyn ObjectStore,
    bucket: &BucketName,
    owner: &Owner,
) -> Result<Observed, CloudError> {
    let tags = match store.bucket_tags(bucket).await {
        Ok(Some(tags)) => tags,
        Ok(None) => return Ok(Observed::Missing),
        Err(CloudError::OwnedByOthers { .. }) => return Ok(Observed::OthersOwn { owner: None }),
        Err(error) => return Err(error),
    };
    match tags.get(OWNER_TAG) {
        Some(tag) if tag == owner.to_string() => Ok(Observed::Ours {
            rules: store.lifecycle_rules(bucket).await?,
        }),
        Some(other) => Ok(Observed::OthersOwn {
            owner: Some(other.to_owned()),
        }),
        None => {
            let unclaimed = store.unclaimed(bucket).await?;
            let rules = store.lifecycle_rules(bucket).await?;
            Ok(Observed::Untagged {
                created: unclaimed.created,
                empty: unclaimed.empty,
                rules,
            })
        }
    }
}
