//! Buckets, their tags and their owners.

use hubstorage_cloud::{CloudError, Creation, Tags};
use jiff::SignedDuration;

use crate::world::{Others, World, new_bucket};

fn tags(pairs: &[(&str, &str)]) -> Tags {
    pairs.iter().copied().collect()
}

pub async fn a_bucket_that_is_created_exists_without_rules(world: &dyn World) {
    let (store, bucket) = (world.store().await, world.new_name());
    assert_eq!(store.bucket_tags(&bucket).await, Ok(None));
    let creation = store
        .create_bucket(&bucket, &Tags::default())
        .await
        .unwrap();
    assert!(matches!(creation, Creation::Created { .. }), "{creation:?}");
    assert_eq!(store.bucket_tags(&bucket).await, Ok(Some(Tags::default())));
    assert_eq!(store.lifecycle_rules(&bucket).await, Ok(vec![]));
}

pub async fn a_bucket_created_a_second_time_is_the_same_one(world: &dyn World) {
    let (store, bucket) = (world.store().await, new_bucket(world).await);
    world.tag_by_hand(&bucket, "kept", "yes").await;
    let again = store.create_bucket(&bucket, &tags(&[("kept", "no")])).await;
    let expected = if world.traits().creates_again {
        Creation::Created { tagged: false }
    } else {
        Creation::AlreadyThere
    };
    assert_eq!(again, Ok(expected));
    assert_eq!(
        store.bucket_tags(&bucket).await,
        Ok(Some(tags(&[("kept", "yes")])))
    );
}

pub async fn tags_are_set_and_tags_of_others_survive(world: &dyn World) {
    let (store, bucket) = (world.store().await, new_bucket(world).await);
    world
        .tag_by_hand(&bucket, "cost-centre", "physics and maths")
        .await;
    for value in ["one", "two", "two"] {
        store
            .set_bucket_tags(&bucket, &tags(&[("hubstorage.io/owner", value)]))
            .await
            .unwrap();
    }
    let expected = tags(&[
        ("cost-centre", "physics and maths"),
        ("hubstorage.io/owner", "two"),
    ]);
    assert_eq!(store.bucket_tags(&bucket).await, Ok(Some(expected)));
}

pub async fn tags_set_at_creation_are_there_where_the_store_says_so(world: &dyn World) {
    let (store, bucket) = (world.store().await, world.new_name());
    let owner = tags(&[("hubstorage.io/owner", "earth")]);
    let Ok(Creation::Created { tagged }) = store.create_bucket(&bucket, &owner).await else {
        panic!("not created")
    };
    let expected = if tagged { owner } else { Tags::default() };
    assert_eq!(store.bucket_tags(&bucket).await, Ok(Some(expected)));
}

pub async fn a_bucket_of_somebody_else_is_named_as_such(world: &dyn World) {
    let (store, bucket) = (world.store().await, world.bucket_of_others().await);
    let created = store.create_bucket(&bucket, &Tags::default()).await;
    let others = CloudError::OwnedByOthers {
        bucket: bucket.clone(),
    };
    let (expected, tags) = match world.traits().others {
        Others::Refused => (Err(others.clone()), Err(others)),
        // It is not among ours, and nothing else tells it from one that does not exist.
        Others::Unlisted => (Err(others), Ok(None)),
        // Only the tag can tell then, and there is none.
        Others::Shared => (Ok(Creation::AlreadyThere), Ok(Some(Tags::default()))),
    };
    assert_eq!(created, expected);
    assert_eq!(store.bucket_tags(&bucket).await, tags);
}

pub async fn a_bucket_that_is_not_there_is_told_as_such_by_every_call(world: &dyn World) {
    let (store, bucket) = (world.store().await, world.new_name());
    let absent = || CloudError::NoSuchBucket {
        bucket: bucket.clone(),
    };
    assert_eq!(store.bucket_tags(&bucket).await, Ok(None));
    assert_eq!(store.lifecycle_rules(&bucket).await, Err(absent()));
    assert_eq!(store.unclaimed(&bucket).await, Err(absent()));
    assert_eq!(
        store.set_bucket_tags(&bucket, &tags(&[("a", "b")])).await,
        Err(absent())
    );
    assert_eq!(
        store
            .set_lifecycle_rules(&bucket, &crate::rules::supported(world))
            .await,
        Err(absent())
    );
}

pub async fn a_name_that_the_store_does_not_take_is_refused(world: &dyn World) {
    let Some(name) = world.traits().refused_name else {
        return;
    };
    let refused = world
        .store()
        .await
        .create_bucket(&name, &Tags::default())
        .await;
    assert!(
        matches!(&refused, Err(CloudError::InvalidBucketName { bucket, .. }) if *bucket == name),
        "{refused:?}"
    );
}

pub async fn a_new_bucket_is_unclaimed_of_now_and_empty(world: &dyn World) {
    let bucket = new_bucket(world).await;
    let unclaimed = world.store().await.unclaimed(&bucket).await.unwrap();
    assert!(unclaimed.empty);
    let age = world.now().duration_since(unclaimed.created);
    assert!(age.abs() < SignedDuration::from_mins(5), "{age}");
}

pub async fn an_object_makes_a_bucket_not_empty(world: &dyn World) {
    let bucket = new_bucket(world).await;
    world.put_by_hand(&bucket, "some/object").await;
    assert!(!world.store().await.unclaimed(&bucket).await.unwrap().empty);
}

pub async fn a_version_left_behind_makes_a_bucket_not_empty(world: &dyn World) {
    let bucket = new_bucket(world).await;
    world.leave_a_version_behind(&bucket).await;
    assert!(!world.store().await.unclaimed(&bucket).await.unwrap().empty);
}
