//! Two HubStorages of two namespaces name one bucket: one of them gets it.

use hubstorage_cloud::memory::{Behaviour, Bucket};
use hubstorage_core::api::{ConditionType, HubStorage, OWNER_TAG, Reason};
use serde_json::{Value, json};

use crate::fixtures::{ACCOUNT, hub_with, namespace, scratch};
use crate::world::World;

use ConditionType::Stalled;

fn hub_of(namespace: &str, fields: Value) -> HubStorage {
    let mut bucket = json!({"name": "scratch", "bucketName": "earth-scratch"});
    json_patch::merge(&mut bucket, &fields);
    hub_with(namespace, namespace, json!({"buckets": [bucket]}))
}

/// `earth` is an hour older than `mars`.
async fn settled(earth: &HubStorage, mars: &HubStorage) -> World {
    let mut world = World::new(Behaviour::minio()).with(&namespace("mars"));
    let bucket = Bucket::new(ACCOUNT, world.cloud.now());
    world.cloud.insert_by_hand(&scratch(), bucket);
    world.server.apply(earth);
    world.cloud.advance(std::time::Duration::from_secs(3600));
    world.server.apply(mars);
    world.settle().await;
    world
}

fn loses(world: &World, hub: &HubStorage, to: &str) {
    let words = ["spec.buckets[scratch]", "earth-scratch", to];
    world.says(hub, Stalled, "True", Reason::BucketOwnedByOthers, &words);
    assert_eq!(world.hub(hub).status.unwrap().buckets, []);
}

#[tokio::test]
async fn of_two_hubs_that_use_a_bucket_of_others_the_older_gets_it() {
    let only = json!({"management": "AccessOnly"});
    let (earth, mars) = (hub_of("earth", only.clone()), hub_of("mars", only));
    let mut world = settled(&earth, &mars).await;
    assert!(world.is_ready(&earth));
    loses(&world, &mars, "HubStorage earth/earth");
    world.stays_as_it_is().await;

    world.server.delete(&earth);
    world.settle().await;
    assert!(world.is_ready(&mars));
}

#[tokio::test]
async fn where_one_keeps_the_bucket_the_older_claim_counts_too() {
    let only = json!({"management": "AccessOnly"});
    let always = json!({"adoption": "Always"});
    let (earth, mars) = (hub_of("earth", only), hub_of("mars", always));
    let world = settled(&earth, &mars).await;
    assert!(world.is_ready(&earth));
    loses(&world, &mars, "HubStorage earth/earth");
    assert_eq!(world.cloud.writes(), []);
}

#[tokio::test]
async fn a_bucket_that_stands_in_status_goes_before_the_older_object() {
    let only = json!({"management": "AccessOnly"});
    let elsewhere = json!({"management": "AccessOnly", "name": "other", "bucketName": "elsewhere"});
    let (before, after) = (hub_of("earth", elsewhere), hub_of("earth", only.clone()));
    let mars = hub_of("mars", only);
    let mut world = settled(&before, &mars).await;
    assert!(world.is_ready(&mars));
    world.server.apply(&after);
    world.settle().await;
    assert!(world.is_ready(&mars));
    loses(&world, &after, "HubStorage mars/mars");
}

#[tokio::test]
async fn a_claim_that_the_owner_tag_refuses_keeps_nobody_from_the_bucket() {
    let owner = hub_of("earth", json!({}));
    let mut world = World::new(Behaviour::minio())
        .with(&owner)
        .with(&namespace("mars"));
    world.settle().await;
    let claimant = hub_of("mars", json!({"management": "AccessOnly"}));
    world.server.apply(&claimant);
    world.settle().await;
    loses(&world, &claimant, "earth/earth");

    // The owner is deleted, keeps its bucket, and is made again from Git: younger than the claim.
    world.server.delete(&owner);
    world.settle().await;
    world.cloud.advance(std::time::Duration::from_secs(3600));
    world.server.apply(&owner);
    world.settle().await;

    assert!(world.is_ready(&owner));
    loses(&world, &claimant, "earth/earth");
    world.stays_as_it_is().await;
}

#[tokio::test]
async fn a_tag_that_is_put_back_by_hand_waits_until_the_hub_that_has_the_bucket_lets_go_of_it() {
    let only = json!({"management": "AccessOnly"});
    let (earth, mars) = (hub_of("earth", only), hub_of("mars", json!({})));
    let mut world = settled(&earth, &mars).await;
    assert!(world.is_ready(&earth));
    world.cloud.edit_by_hand(&scratch(), |bucket| {
        let tag = "here/mars/mars".to_owned();
        bucket.tags.0.insert(OWNER_TAG.to_owned(), tag);
    });
    world.reconcile_hub(&mars).await.unwrap();
    loses(&world, &mars, "HubStorage earth/earth");

    world.settle().await;
    loses(&world, &earth, "mars/mars");
    assert!(world.is_ready(&mars));
}
