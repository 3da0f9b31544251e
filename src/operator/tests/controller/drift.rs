//! The store was changed by somebody else: it is put right, once, and said.

use hubstorage_cloud::memory::Behaviour;
use hubstorage_core::api::{CREATION_TAG, ConditionType, OWNER_TAG, Reason};
use hubstorage_core::lifecycle::{Rule, RuleBody};
use serde_json::json;

use crate::api_server::Event;
use crate::fixtures::{hub, hub_with, persistent, scratch};
use crate::world::World;

async fn settled(behaviour: Behaviour) -> World {
    let mut world = World::new(behaviour).with(&hub());
    world.settle().await;
    world.witness.forget();
    world
}

fn corrections(world: &World) -> Vec<Event> {
    world.server.events_of("DriftCorrected")
}

fn rule_of_others() -> Rule<String> {
    Rule {
        id: "logs".to_owned(),
        body: RuleBody::Other("logs/ expire after 30 days".to_owned()),
    }
}

#[tokio::test]
async fn a_rule_that_was_removed_is_put_back_and_one_warning_says_which() {
    let mut world = settled(Behaviour::aws()).await;
    let before = world.inventory();
    world
        .cloud
        .edit_by_hand(&scratch(), |bucket| drop(bucket.rules.remove(0)));
    world.settle().await;
    assert_eq!(world.inventory(), before);
    let told = corrections(&world);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].type_, "Warning");
    assert!(
        told[0].note.contains("earth-scratch")
            && told[0]
                .note
                .contains("no rule to expire objects after 7 days")
    );
}

#[tokio::test]
async fn drift_in_two_buckets_is_told_of_both() {
    let mut world = World::new(Behaviour::aws()).with(&hub());
    world.server.edit(&hub(), |hub| {
        hub["spec"]["buckets"][1]["lifecycle"] = json!({"expireAfterDays": 30})
    });
    world.settle().await;
    for bucket in [scratch(), persistent()] {
        world
            .cloud
            .edit_by_hand(&bucket, |bucket| bucket.rules.clear());
    }
    world.settle().await;
    let told = corrections(&world);
    for bucket in [scratch(), persistent()] {
        assert!(
            told.iter()
                .any(|event| event.note.contains(bucket.as_str())),
            "{bucket}: {told:?}"
        );
    }
}

#[tokio::test]
async fn rules_and_tags_of_others_survive_creation_edit_and_drift() {
    let mut world = settled(Behaviour::minio()).await;
    let by_hand = |world: &World| {
        world.cloud.edit_by_hand(&scratch(), |bucket| {
            bucket.rules = vec![rule_of_others()];
            bucket
                .tags
                .0
                .insert("team".to_owned(), "climate".to_owned());
        });
    };
    by_hand(&world);
    world.settle().await;
    world.server.edit(&hub(), |hub| {
        hub["spec"]["buckets"][0]["lifecycle"]["expireAfterDays"] = json!(3)
    });
    world.settle().await;
    let bucket = world.cloud.bucket(&scratch()).unwrap();
    assert_eq!(bucket.rules[0], rule_of_others());
    assert_eq!(
        bucket.rules.len(),
        4,
        "ours stand beside it: {:?}",
        bucket.rules
    );
    assert_eq!(bucket.tags.get("team"), Some("climate"));
}

#[tokio::test]
async fn an_edit_of_the_spec_is_no_drift() {
    let mut world = settled(Behaviour::aws()).await;
    world.server.edit(&hub(), |hub| {
        hub["spec"]["buckets"][0]["lifecycle"]["expireAfterDays"] = json!(3)
    });
    world.settle().await;
    assert_eq!(corrections(&world), []);
    assert_eq!(
        world.hub(&hub()).status.unwrap().buckets[0].lifecycle[0],
        "expire objects after 3 days"
    );
}

#[tokio::test]
async fn without_lifecycle_in_the_spec_rules_are_not_managed() {
    let mut world = settled(Behaviour::aws()).await;
    world
        .cloud
        .edit_by_hand(&persistent(), |bucket| bucket.rules.push(rule_of_others()));
    let before = world.inventory();
    world.stays_as_it_is().await;
    assert_eq!(world.inventory(), before);
}

#[tokio::test]
async fn a_bucket_that_was_deleted_by_hand_is_made_again_and_the_loss_is_told() {
    for behaviour in [Behaviour::aws(), Behaviour::minio()] {
        let mut world = settled(behaviour).await;
        let before = world.inventory();
        world.cloud.remove_by_hand(&scratch());
        world.settle().await;
        assert_eq!(world.inventory(), before);
        assert_eq!(
            world.witness.created().into_values().collect::<Vec<_>>(),
            [1]
        );
        let told = corrections(&world);
        assert!(
            told.iter()
                .any(|event| event.note.contains("it was gone, with all data in it")),
            "{told:?}"
        );
    }
}

#[tokio::test]
async fn tags_that_were_removed_from_the_very_bucket_that_we_made_are_put_back() {
    for behaviour in [Behaviour::aws(), Behaviour::minio()] {
        let mut world = settled(behaviour).await;
        world.cloud.edit_by_hand(&scratch(), |bucket| {
            bucket.objects.insert("bob/a".to_owned(), Vec::new());
            bucket.tags.0.clear();
        });
        world.settle().await;
        let tags = world.cloud.bucket(&scratch()).unwrap().tags;
        assert_eq!(tags.get(OWNER_TAG), Some("here/earth/earth"));
        assert!(
            tags.get(CREATION_TAG).is_some(),
            "it is still one that we made"
        );
        let told = corrections(&world);
        assert!(
            told.iter()
                .any(|event| event.note.contains("found it without")),
            "{told:?}"
        );
        assert!(world.is_ready(&hub()));
    }
}

#[tokio::test]
async fn another_bucket_of_the_same_name_is_left_alone_and_said() {
    let mut world = settled(Behaviour::aws()).await;
    world.cloud.edit_by_hand(&scratch(), |bucket| {
        bucket.tags.0.clear();
        // Somebody deleted ours and made one of their own.
        bucket.created += jiff::SignedDuration::from_secs(1);
    });
    let before = world.inventory();
    world.settle().await;
    assert_eq!(world.inventory(), before);
    world.says(
        &hub(),
        ConditionType::Stalled,
        "True",
        Reason::BucketOwnedByOthers,
        &["spec.buckets[scratch]", "earth-scratch", "here/earth/earth"],
    );
}

#[tokio::test]
async fn what_the_store_cannot_do_is_asked_once_and_said() {
    let mut world = settled(Behaviour::minio()).await;
    world.says(
        &hub(),
        ConditionType::LifecycleApplied,
        "True",
        Reason::PartlyApplied,
        &["abort incomplete uploads after 7 days"],
    );
    assert!(world.is_ready(&hub()));
    world.restart();
    let before = world.writes();
    world.stays_as_it_is().await;
    assert_eq!(
        world.writes(),
        before,
        "the provider's status remembers it over a restart"
    );
}

#[tokio::test]
async fn a_store_that_has_learnt_something_is_asked_again_when_the_provider_is_edited() {
    let mut world = settled(Behaviour::minio()).await;
    world
        .cloud
        .behave(|behaviour| behaviour.supports = hubstorage_core::supports::Supports::ALL);
    world.server.edit(&crate::fixtures::provider(), |provider| {
        provider["spec"]["driftCheckInterval"] = json!("20m")
    });
    world.settle().await;
    world.says(
        &hub(),
        ConditionType::LifecycleApplied,
        "True",
        Reason::Applied,
        &["abort incomplete uploads"],
    );
    assert_eq!(world.cloud.bucket(&scratch()).unwrap().rules.len(), 4);
}

#[tokio::test]
async fn a_bucket_that_leaves_the_spec_stays_in_the_store() {
    let mut world = settled(Behaviour::aws()).await;
    let before = world.inventory();
    world.server.apply(&hub_with("earth", "earth", json!({"buckets": [{"name": "scratch", "bucketName": "earth-scratch", "lifecycle": {"expireAfterDays": 7}}]})));
    world.settle().await;
    assert_eq!(world.inventory(), before);
    assert!(world.is_ready(&hub()));
}

#[tokio::test]
async fn another_change_of_the_same_bucket_is_an_event_of_its_own_and_the_same_one_counts_on() {
    let mut world = settled(Behaviour::aws()).await;
    for missing in [0, 1, 0] {
        world
            .cloud
            .edit_by_hand(&scratch(), |bucket| drop(bucket.rules.remove(missing)));
        world.settle().await;
    }
    let told = corrections(&world);
    let times: Vec<i64> = told.iter().map(|event| event.times).collect();
    assert_eq!(times, [1, 1, 2], "{told:?}");
    assert_ne!(told[0].note, told[1].note);
    assert_eq!(told[0].note, told[2].note);
}
