//! A store that asks for fewer calls.

use std::collections::BTreeSet;
use std::time::Duration;

use hubstorage_cloud::CloudError;
use hubstorage_cloud::memory::Behaviour;
use hubstorage_core::api::{ConditionType, Reason};
use serde_json::json;

use crate::fixtures::{PROVIDER, hub, persistent, scratch};
use crate::world::World;

use ConditionType::{Ready, Reconciling};

const THROTTLED: CloudError = CloudError::Throttled {
    permission: "s3:ListAllMyBuckets",
};

#[tokio::test]
async fn a_provider_that_was_ready_stays_so_and_its_hubs_are_not_woken() {
    let mut world = World::new(Behaviour::aws()).with(&hub());
    world.settle().await;
    world.cloud.fail_with(Some(THROTTLED));
    let before = world.server.dump();

    for _ in 0..5 {
        world.reconcile_provider(PROVIDER).await.unwrap();
    }

    assert_eq!(world.server.dump(), before);
    world.provider_says(Ready, "True", Reason::Ready, &[]);
}

#[tokio::test]
async fn a_provider_that_was_never_seen_says_why_it_waits() {
    let mut world = World::new(Behaviour::aws());
    world.cloud.fail_with(Some(THROTTLED));
    world.settle().await;

    world.provider_says(Ready, "False", Reason::Throttled, &["s3:ListAllMyBuckets"]);
    world.provider_says(Reconciling, "True", Reason::Throttled, &[]);

    world.cloud.fail_with(None);
    world.settle().await;
    world.provider_says(Ready, "True", Reason::Ready, &[]);
}

#[tokio::test]
async fn a_hub_that_was_in_order_stays_so_while_nobody_can_look() {
    let mut world = World::new(Behaviour::aws()).with(&hub());
    world.settle().await;
    let before = world.server.dump();
    world.cloud.fail_with(Some(THROTTLED));
    for _ in 0..5 {
        world.reconcile_hub(&hub()).await.unwrap();
    }
    assert_eq!(world.server.dump(), before);

    // What waits for an answer is told why there is none.
    world.server.edit(&hub(), |hub| {
        hub["spec"]["buckets"][0]["lifecycle"]["expireAfterDays"] = json!(30);
    });
    world.reconcile_hub(&hub()).await.unwrap();
    world.says(
        &hub(),
        Ready,
        "False",
        Reason::Throttled,
        &["s3:ListAllMyBuckets"],
    );

    world.cloud.fail_with(None);
    world.settle().await;
    assert!(world.is_ready(&hub()));
}

/// A hub in order, of whose second bucket the store tells nothing just now.
async fn half_throttled() -> World {
    let mut world = World::new(Behaviour::aws()).with(&hub());
    world.settle().await;
    world
        .cloud
        .behave(|behaviour| behaviour.throttled = BTreeSet::from([persistent()]));
    world
}

#[tokio::test]
async fn a_hub_one_half_of_which_was_seen_as_it_should_be_stays_ready() {
    let mut world = half_throttled().await;
    let before = world.server.dump();
    let checked = world.last_check();
    world.cloud.advance(Duration::from_secs(600));
    world.reconcile_hub(&hub()).await.unwrap();
    assert_eq!(world.server.dump(), before);
    assert_eq!(
        world.last_check(),
        checked,
        "the hub was not compared as a whole"
    );

    world.cloud.behave(|behaviour| behaviour.throttled.clear());
    world.reconcile_hub(&hub()).await.unwrap();
    assert_ne!(world.last_check(), checked);
}

#[tokio::test]
async fn drift_in_the_half_that_was_seen_is_put_right_and_told() {
    let mut world = half_throttled().await;
    world
        .cloud
        .edit_by_hand(&scratch(), |bucket| bucket.rules.clear());
    world.reconcile_hub(&hub()).await.unwrap();
    assert!(!world.cloud.bucket(&scratch()).unwrap().rules.is_empty());
    world.says(
        &hub(),
        Ready,
        "False",
        Reason::Throttled,
        &["s3:GetBucketTagging"],
    );
}
