//! Lifecycle rules: which are taken, and, where a day is short, that they do what they say.

use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, ExpirationStatus, LifecycleExpiration, LifecycleRule,
    LifecycleRuleAndOperator, LifecycleRuleFilter, Tag,
};
use hubstorage_cloud::CloudError;
use hubstorage_core::lifecycle::{self, Days, Effect};
use hubstorage_core::names::BucketName;

use super::Finding;
use crate::s3::S3World;
use crate::stores::Day;
use crate::world::{RULE_OF_OTHERS, World, new_bucket};

const ONE_DAY: Days = Days(NonZeroU16::MIN);

/// A bound on a hang. On RGW with days of 10 s, each effect was seen 10 to 25 s after its cause.
const PATIENCE: Duration = Duration::from_secs(150);
const LOOKS_EVERY: Duration = Duration::from_millis(250);

pub async fn objects(world: &S3World) -> Finding {
    let bucket = new_bucket(world).await;
    world.put_by_hand(&bucket, "bob/object").await;
    happens(world, &bucket, Effect::Expire(ONE_DAY)).await
}

pub async fn uploads(world: &S3World) -> Finding {
    let bucket = new_bucket(world).await;
    let (s3, name, key) = (world.by_hand(), bucket.as_str(), "bob/upload");
    let begin = s3.create_multipart_upload().bucket(name).key(key);
    let upload = begin.send().await.unwrap();
    let part = s3.upload_part().bucket(name).key(key).part_number(1);
    let part = part.set_upload_id(upload.upload_id);
    part.body(ByteStream::from_static(b"a part"))
        .send()
        .await
        .unwrap();
    happens(world, &bucket, Effect::AbortIncompleteUploads(ONE_DAY)).await
}

pub async fn noncurrent(world: &S3World) -> Finding {
    let bucket = new_bucket(world).await;
    world.enable_versions(&bucket).await;
    for _ in 0..2 {
        world.put_by_hand(&bucket, "bob/object").await;
    }
    happens(world, &bucket, Effect::ExpireNoncurrent(ONE_DAY)).await
}

pub async fn markers(world: &S3World) -> Finding {
    let bucket = new_bucket(world).await;
    world.enable_versions(&bucket).await;
    let (s3, name) = (world.by_hand(), bucket.as_str());
    let key = "bob/object";
    let put = s3.put_object().bucket(name).key(key);
    let put = put.body(ByteStream::from_static(b"x")).send().await;
    let delete = || s3.delete_object().bucket(name).key(key);
    delete().send().await.unwrap();
    // The marker stays, and hides nothing any more.
    let version = put.unwrap().version_id;
    delete().set_version_id(version).send().await.unwrap();
    happens(world, &bucket, Effect::RemoveExpiredDeleteMarkers).await
}

/// Declares the effect, and sees to it where that can be waited for.
async fn happens(world: &S3World, bucket: &BucketName, effect: Effect) -> Finding {
    assert!(is_there(world, bucket, effect).await, "{effect}");
    let store = world.store().await;
    match store.set_lifecycle_rules(bucket, &[effect]).await {
        Ok(()) => {}
        Err(CloudError::Unsupported { .. }) => return Finding::no("the rule is refused"),
        Err(error) => return Finding::No(error.to_string()),
    }
    let read = store.lifecycle_rules(bucket).await.unwrap();
    if !lifecycle::difference(&read, &[effect]).is_empty() {
        return Finding::kept(false);
    }
    if world.which().day == Day::Whole {
        return Finding::YesAnd("the rule is kept".into());
    }
    let began = Instant::now();
    while is_there(world, bucket, effect).await {
        assert!(began.elapsed() < PATIENCE, "waited in vain to {effect}");
        tokio::time::sleep(LOOKS_EVERY).await;
    }
    Finding::YesAnd("seen".into())
}

/// Whether there is still something for the effect to do.
async fn is_there(world: &S3World, bucket: &BucketName, effect: Effect) -> bool {
    let (s3, bucket) = (world.by_hand(), bucket.as_str());
    if let Effect::AbortIncompleteUploads(_) = effect {
        // MinIO lists an upload by its exact key only.
        let uploads = s3.list_multipart_uploads().bucket(bucket);
        let uploads = uploads.prefix("bob/upload").send().await.unwrap();
        return !uploads.uploads().is_empty();
    }
    let held = s3.list_object_versions().bucket(bucket).send().await;
    let held = held.unwrap();
    match effect {
        Effect::ExpireNoncurrent(_) => held.versions().len() > 1,
        Effect::RemoveExpiredDeleteMarkers => !held.delete_markers().is_empty(),
        Effect::Expire(_) | Effect::AbortIncompleteUploads(_) | Effect::Transition(..) => {
            !held.versions().is_empty()
        }
    }
}

/// A rule on a prefix, and one on a prefix and a tag: as the store tells of them before ours come
/// and go, and after.
pub async fn rules_of_others(world: &S3World) -> Finding {
    let bucket = new_bucket(world).await;
    let tag = Tag::builder().key("keep").value("short").build().unwrap();
    let both = LifecycleRuleAndOperator::builder().prefix("a/").tags(tag);
    let rule = |id: &str, filter: LifecycleRuleFilter| {
        LifecycleRule::builder()
            .id(id)
            .status(ExpirationStatus::Enabled)
            .filter(filter)
            .expiration(LifecycleExpiration::builder().days(30).build())
            .build()
            .unwrap()
    };
    let rules = [
        rule(
            RULE_OF_OTHERS,
            LifecycleRuleFilter::builder().prefix("part/").build(),
        ),
        rule(
            "tagged",
            LifecycleRuleFilter::builder().and(both.build()).build(),
        ),
    ];
    let configuration = BucketLifecycleConfiguration::builder().set_rules(Some(rules.into()));
    let put = world
        .by_hand()
        .put_bucket_lifecycle_configuration()
        .bucket(bucket.as_str())
        .lifecycle_configuration(configuration.build().unwrap());
    if let Err(error) = put.send().await {
        return Finding::refused(&error);
    }

    let (store, before) = (world.store().await, sorted(world, &bucket).await);
    for ours in [&[Effect::Expire(ONE_DAY)][..], &[]] {
        if let Err(error) = store.set_lifecycle_rules(&bucket, ours).await {
            return Finding::No(error.to_string());
        }
    }
    let after = sorted(world, &bucket).await;
    if before == after {
        return Finding::Yes;
    }
    let lost = before.iter().filter(|rule| !after.contains(rule));
    let lost: Vec<&str> = lost.filter_map(LifecycleRule::id).collect();
    Finding::No(format!("changes {}", lost.join(", ")))
}

async fn sorted(world: &S3World, bucket: &BucketName) -> Vec<LifecycleRule> {
    let mut rules = world.rules(bucket).await;
    rules.sort_by(|one, other| one.id.cmp(&other.id));
    rules
}
