//! Two controllers at once: a lease cannot fence a store, so both may be writing.

use std::time::Duration;

use hubstorage_cloud::faults::FaultPlan;
use hubstorage_cloud::memory::{Behaviour, Bucket};
use hubstorage_core::api::{ConditionType, OWNER_TAG, Reason};
use hubstorage_core::names::BucketName;
use serde_json::json;

use crate::emptying;
use crate::fixtures::{ACCOUNT, hub, hub_with, namespace, scratch};
use crate::world::World;

/// Both see the same, and reconcile in turns of one call each; a rest of failed writes is left
/// to the next turn.
async fn in_turns(world: &World, rounds: usize) {
    let (mut one, mut other) = (world.another_controller(), world.another_controller());
    for _ in 0..rounds {
        one.see(&world.server);
        other.see(&world.server);
        let (hub_of_one, hub_of_other) = (hub(), hub());
        let _ = tokio::join!(one.reconcile(&hub_of_one), other.reconcile(&hub_of_other));
    }
}

#[tokio::test]
async fn they_make_a_bucket_once_and_come_to_rest() {
    for behaviour in [
        Behaviour::aws(),
        Behaviour::aws_us_east_1(),
        Behaviour::minio(),
    ] {
        let mut world = World::new(behaviour).with(&hub());
        in_turns(&world, 4).await;
        assert!(world.witness.created().values().all(|times| *times == 1));
        world.settle().await;
        assert!(world.is_ready(&hub()));
        assert!(world.orphans().is_empty());
        world.stays_as_it_is().await;
    }
}

#[tokio::test]
async fn they_put_drift_right_together() {
    let mut world = World::new(Behaviour::minio()).with(&hub());
    world.settle().await;
    let before = world.inventory();
    world
        .cloud
        .edit_by_hand(&scratch(), |bucket| bucket.rules.clear());
    in_turns(&world, 2).await;
    assert_eq!(world.inventory(), before);
}

#[tokio::test]
async fn they_empty_a_bucket_together_and_its_hub_goes() {
    let mut world = emptying::world_with("DeleteContents", emptying::fill).await;
    world.server.delete(&hub());
    in_turns(&world, 1).await;
    world.settle().await;
    assert!(world.server.get(&hub()).is_none());
    assert!(world.cloud.bucket(&scratch()).is_none());
}

/// Lets a controller go on for at most `polls` polls; whether it has come to its end, and how
/// many it took.
async fn advance(reconcile: &mut (impl Future + Unpin), polls: usize) -> (bool, usize) {
    for poll in 0..polls {
        if futures::poll!(&mut *reconcile).is_ready() {
            return (true, poll);
        }
        // What it waits for is done by other tasks.
        tokio::task::yield_now().await;
    }
    (false, polls)
}

#[tokio::test]
async fn one_that_is_slow_at_any_point_does_not_spoil_what_the_other_has_done() {
    for behaviour in [Behaviour::aws(), Behaviour::minio()] {
        let fresh = || World::new(behaviour.clone()).with(&hub());
        let name = hub();
        let clean = fresh().another_controller();
        let mut reconcile = Box::pin(clean.reconcile(&name));
        let (_, all) = advance(&mut reconcile, usize::MAX).await;
        for polls in 0..all {
            let mut world = fresh();
            world.trial = format!("slow after {polls} of {all} polls");
            let (one, other) = (world.another_controller(), world.another_controller());
            let mut slow = Box::pin(one.reconcile(&name));
            let (has_ended, _) = advance(&mut slow, polls).await;
            let _ = other.reconcile(&name).await;
            // Now it goes on with what it knew.
            if !has_ended {
                let _ = slow.await;
            }
            world.settle().await;
            assert!(
                world.is_ready(&name),
                "{}: {:?}",
                world.trial,
                world.hub(&name).status
            );
            assert!(
                world.witness.created().values().all(|times| *times == 1),
                "{}",
                world.trial
            );
            assert!(world.orphans().is_empty(), "{}", world.trial);
        }
    }
}

#[tokio::test]
async fn of_two_hubs_that_want_the_same_bucket_one_gets_it_and_keeps_it() {
    for behaviour in [
        Behaviour::aws(),
        Behaviour::aws_us_east_1(),
        Behaviour::minio(),
    ] {
        let common = json!({"buckets": [{"name": "scratch", "bucketName": "common"}]});
        let (earth, mars) = (
            hub_with("earth", "earth", common.clone()),
            hub_with("mars", "mars", common),
        );
        let mut world = World::new(behaviour)
            .with(&namespace("mars"))
            .with(&earth)
            .with(&mars);
        let controller = world.another_controller();
        let _ = tokio::join!(controller.reconcile(&earth), controller.reconcile(&mars));
        world.settle().await;
        let owner = || {
            let bucket = world
                .cloud
                .bucket(&BucketName::parse("common").unwrap())
                .unwrap();
            bucket.tags.get(OWNER_TAG).unwrap().to_owned()
        };
        let won = owner();
        let (winner, loser) = if won == "here/earth/earth" {
            (&earth, &mars)
        } else {
            (&mars, &earth)
        };
        assert!(world.is_ready(winner));
        world.says(
            loser,
            ConditionType::Stalled,
            "True",
            Reason::BucketOwnedByOthers,
            &[&won],
        );
        assert_eq!(
            world.witness.created().into_values().collect::<Vec<_>>(),
            [1]
        );
    }
}

/// Between observing and creating, a bucket of somebody with the same account shows up.
async fn assert_not_taken_over(behaviour: Behaviour, theirs: impl FnOnce(&World) -> Bucket) {
    let mut world = World::new(behaviour).with(&hub());
    let controller = world.another_controller();
    let name = hub();
    let mut reconcile = Box::pin(controller.reconcile(&name));
    let plan = world.inject(FaultPlan::none());
    while !plan
        .calls()
        .iter()
        .any(|call| call == "bucket_tags earth-persistent")
    {
        let (has_ended, _) = advance(&mut reconcile, 1).await;
        assert!(!has_ended);
    }
    let theirs = theirs(&world);
    world.cloud.insert_by_hand(&scratch(), theirs.clone());
    let _ = reconcile.await;
    world.settle().await;
    assert_eq!(world.cloud.bucket(&scratch()), Some(theirs));
    world.says(
        &hub(),
        ConditionType::Stalled,
        "True",
        Reason::BucketOwnedByOthers,
        &["scratch"],
    );
}

fn every_behaviour() -> [Behaviour; 3] {
    [
        Behaviour::aws(),
        Behaviour::aws_us_east_1(),
        Behaviour::minio(),
    ]
}

#[tokio::test]
async fn a_bucket_with_data_that_appears_while_it_is_being_created_is_not_taken_over() {
    for behaviour in every_behaviour() {
        let with_data = |world: &World| {
            let mut theirs = Bucket::new(ACCOUNT, world.cloud.now());
            theirs
                .objects
                .insert("precious".to_owned(), b"data".to_vec());
            theirs
        };
        assert_not_taken_over(behaviour, with_data).await;
    }
}

#[tokio::test]
async fn an_empty_bucket_that_is_older_than_the_intent_is_not_taken_over() {
    for behaviour in every_behaviour() {
        let older = |world: &World| {
            let an_hour = Duration::from_secs(3600);
            Bucket::new(ACCOUNT, world.cloud.now() - an_hour)
        };
        assert_not_taken_over(behaviour, older).await;
    }
}
