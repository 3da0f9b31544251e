//! What a bucket holds, and its deletion.

use hubstorage_cloud::{Batch, CloudError, Contents, MOST_VERSIONS, ObjectStore, Removal};
use hubstorage_core::names::BucketName;

use crate::world::{World, new_bucket};

/// Empties the bucket; what all batches did together, and how many there were.
async fn emptied(store: &dyn ObjectStore, bucket: &BucketName) -> (Batch, usize) {
    let (mut sum, mut batches) = (Batch::default(), 0);
    loop {
        let batch = store.empty_some(bucket).await.unwrap();
        batches += 1;
        assert_eq!(batch.refused, None);
        assert!(batch.has_moved() || !batch.is_left, "{batch:?}");
        sum.deleted_versions += batch.deleted_versions;
        sum.aborted_uploads += batch.aborted_uploads;
        if !batch.is_left {
            return (sum, batches);
        }
    }
}

pub async fn a_new_bucket_holds_nothing(world: &dyn World) {
    let (store, bucket) = (world.store().await, new_bucket(world).await);
    assert_eq!(store.contents(&bucket).await, Ok(Contents::default()));
    assert_eq!(store.empty_some(&bucket).await, Ok(Batch::default()));
}

pub async fn what_a_bucket_holds_is_counted_and_one_key_named(world: &dyn World) {
    let (store, bucket) = (world.store().await, new_bucket(world).await);
    world.leave_a_version_behind(&bucket).await;
    world.put_by_hand(&bucket, "a/object").await;
    world.begin_upload_by_hand(&bucket, "an/upload").await;

    let contents = store.contents(&bucket).await.unwrap();

    let expected = Contents {
        objects: 1,
        noncurrent_versions: 1,
        delete_markers: 1,
        unfinished_uploads: 1,
        has_more: false,
        example: Some("a/object".into()),
    };
    assert_eq!(contents, expected);
}

pub async fn a_bucket_that_holds_something_is_not_deleted(world: &dyn World) {
    let (store, bucket) = (world.store().await, new_bucket(world).await);
    world.put_by_hand(&bucket, "some/object").await;
    assert_eq!(store.delete_bucket(&bucket).await, Ok(Removal::NotEmpty));

    let of_versions = new_bucket(world).await;
    world.leave_a_version_behind(&of_versions).await;
    let refused = store.delete_bucket(&of_versions).await;
    assert_eq!(refused, Ok(Removal::NotEmpty));
    assert!(store.bucket_tags(&of_versions).await.unwrap().is_some());
}

pub async fn an_empty_bucket_is_deleted_and_then_is_gone(world: &dyn World) {
    let (store, bucket) = (world.store().await, new_bucket(world).await);
    let absent = CloudError::NoSuchBucket {
        bucket: bucket.clone(),
    };
    assert_eq!(store.delete_bucket(&bucket).await, Ok(Removal::Deleted));
    assert_eq!(store.bucket_tags(&bucket).await, Ok(None));
    assert_eq!(store.delete_bucket(&bucket).await, Ok(Removal::AlreadyGone));
    assert_eq!(store.contents(&bucket).await, Err(absent.clone()));
    assert_eq!(store.empty_some(&bucket).await, Err(absent));
}

pub async fn versions_markers_and_uploads_are_deleted_for_good(world: &dyn World) {
    let (store, bucket) = (world.store().await, new_bucket(world).await);
    world.put_by_hand(&bucket, "before/versions").await;
    world.leave_a_version_behind(&bucket).await;
    world.put_by_hand(&bucket, "bob/a").await;
    world.begin_upload_by_hand(&bucket, "bob/b").await;
    world.begin_upload_by_hand(&bucket, "bob/b c").await;

    let (sum, _) = emptied(store.as_ref(), &bucket).await;

    assert_eq!((sum.deleted_versions, sum.aborted_uploads), (4, 2));
    assert!(store.contents(&bucket).await.unwrap().is_empty());
    assert_eq!(store.delete_bucket(&bucket).await, Ok(Removal::Deleted));
}

pub async fn keys_with_odd_characters_are_named_and_deleted(world: &dyn World) {
    let (store, bucket) = (world.store().await, new_bucket(world).await);
    let keys = [
        "a line\nand\tanother",
        "a return\r",
        "penguin \u{1F427}",
        "plus+space and%2Fpercent",
        "<&\"'>",
        "folder/",
        "dots..within",
        "caf\u{e9}",
        "cafe\u{301}",
    ];
    let takes_lines = world.traits().line_breaks_in_keys;
    let keys = keys
        .into_iter()
        .filter(|key| takes_lines || !key.contains('\n'))
        .collect::<Vec<_>>();
    for key in &keys {
        world.put_by_hand(&bucket, key).await;
    }
    let named = store.contents(&bucket).await.unwrap().example.unwrap();
    assert_eq!(named, keys.iter().min().copied().unwrap());

    let (sum, _) = emptied(store.as_ref(), &bucket).await;

    assert_eq!(sum.deleted_versions, keys.len());
    assert_eq!(store.delete_bucket(&bucket).await, Ok(Removal::Deleted));
}

pub async fn a_bucket_of_more_than_a_batch_is_emptied_batch_by_batch(world: &dyn World) {
    let (store, bucket) = (world.store().await, new_bucket(world).await);
    let objects = MOST_VERSIONS + 5;
    for number in 0..objects {
        world.put_by_hand(&bucket, &format!("bob/{number}")).await;
    }
    let contents = store.contents(&bucket).await.unwrap();
    assert_eq!((contents.objects, contents.has_more), (MOST_VERSIONS, true));

    let (sum, batches) = emptied(store.as_ref(), &bucket).await;

    assert_eq!((sum.deleted_versions, batches), (objects, 2));
    assert_eq!(store.delete_bucket(&bucket).await, Ok(Removal::Deleted));
}

pub async fn what_is_locked_is_named_and_stays_and_the_rest_goes(world: &dyn World) {
    let store = world.store().await;
    let bucket = world.bucket_with_a_locked_object("bob/locked").await;
    for key in ["bob/a", "bob/z"] {
        world.put_by_hand(&bucket, key).await;
    }

    let first = store.empty_some(&bucket).await.unwrap();
    let second = store.empty_some(&bucket).await.unwrap();

    assert_eq!(
        (first.deleted_versions, first.is_left),
        (2, true),
        "{first:?}"
    );
    assert_eq!(
        (second.deleted_versions, second.is_left),
        (0, true),
        "{second:?}"
    );
    let refused = second.refused.unwrap();
    assert_eq!(refused.key, "bob/locked");
    let contents = store.contents(&bucket).await.unwrap();
    assert_eq!(contents.example.as_deref(), Some("bob/locked"));
}
