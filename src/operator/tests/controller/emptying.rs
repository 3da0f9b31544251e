//! Deletion with DeleteIfEmpty and DeleteContents: what goes, what holds it up, and the ways out.

use hubstorage_cloud::memory::{Behaviour, Bucket};
use hubstorage_cloud::{CloudError, Operation};
use hubstorage_core::api::{ConditionType, OWNER_TAG, Reason};
use serde_json::json;

use crate::fixtures::{hub, hub_with, persistent, provider, provider_with, scratch};
use crate::world::World;

use ConditionType::{Ready, Reconciling, Stalled};

/// A hub that has come to rest, whose scratch bucket has this policy and these contents.
pub async fn world_with(policy: &str, fill: impl FnOnce(&mut Bucket)) -> World {
    let mut world = World::new(Behaviour::minio()).with(&hub());
    set_policy(&world, policy);
    world.cloud.behave(|behaviour| behaviour.batch = 3);
    world.settle().await;
    world.cloud.edit_by_hand(&scratch(), fill);
    world.cloud.forget_calls();
    world
}

pub fn set_policy(world: &World, policy: &str) {
    world.server.edit(&hub(), |hub| {
        hub["spec"]["buckets"][0]["deletionPolicy"] = json!(policy);
    });
}

/// More than a round of batches of three.
pub fn fill(bucket: &mut Bucket) {
    let objects = (0..14).map(|number| (format!("bob/{number}"), Vec::new()));
    bucket.objects.extend(objects);
    bucket
        .noncurrent
        .extend(["bob/old".into(), "bob/older".into()]);
    bucket.delete_markers.push("bob/gone".into());
    bucket
        .uploads
        .extend((0..4).map(|number| format!("bob/upload-{number}")));
}

fn is_gone(world: &World) -> bool {
    world.server.get(&hub()).is_none()
}

async fn delete(world: &mut World) {
    world.server.delete(&hub());
    world.reconcile_hub(&hub()).await.unwrap();
}

/// Deletes the hub and comes to rest, in a store that stays as it is.
async fn delete_and_change_nothing(world: &mut World) {
    let before = world.inventory();
    delete(world).await;
    world.settle().await;
    assert_eq!(world.inventory(), before);
}

fn told(world: &World, reason: &str, words: &[&str]) -> bool {
    let events = world.server.events_of(reason);
    events
        .iter()
        .any(|event| words.iter().all(|word| event.note.contains(word)))
}

#[tokio::test]
async fn an_empty_bucket_goes_and_the_one_to_retain_stays() {
    let mut world = world_with("DeleteIfEmpty", |_| {}).await;
    delete(&mut world).await;
    world.settle().await;
    assert!(is_gone(&world));
    assert!(world.cloud.bucket(&scratch()).is_none());
    assert!(world.cloud.bucket(&persistent()).is_some());
    assert!(told(&world, "BucketDeleted", &["earth-scratch"]));
    assert!(told(
        &world,
        "BucketRetained",
        &["earth-persistent", "Retain"]
    ));
}

#[tokio::test]
async fn a_bucket_that_holds_something_holds_its_hub_and_says_what_and_the_ways_out() {
    let mut world = world_with("DeleteIfEmpty", fill).await;
    delete_and_change_nothing(&mut world).await;
    let words = [
        "earth-scratch",
        "more than",
        "\"bob/0\"",
        "DeleteContents",
        "Retain",
    ];
    world.says(&hub(), Ready, "False", Reason::BucketNotEmpty, &words);
    world.says(&hub(), Stalled, "True", Reason::BucketNotEmpty, &words);
    assert_eq!(world.cloud.count(Operation::EmptySome), 0);
    world.stays_as_it_is().await;

    world.cloud.edit_by_hand(&scratch(), |bucket| {
        *bucket = Bucket {
            tags: bucket.tags.clone(),
            ..Bucket::new(&bucket.owner, bucket.created)
        };
    });
    world.settle().await;
    assert!(is_gone(&world) && world.cloud.bucket(&scratch()).is_none());
}

#[tokio::test]
async fn a_hub_that_is_held_goes_once_its_policy_is_edited() {
    for (policy, stays) in [("DeleteContents", false), ("Retain", true)] {
        let mut world = world_with("DeleteIfEmpty", fill).await;
        delete(&mut world).await;
        set_policy(&world, policy);
        world.settle().await;
        assert!(is_gone(&world), "{policy}");
        assert_eq!(world.cloud.bucket(&scratch()).is_some(), stays, "{policy}");
    }
}

#[tokio::test]
async fn contents_go_in_rounds_of_batches_with_progress_in_status() {
    let mut world = world_with("DeleteContents", fill).await;
    delete(&mut world).await;
    world.says(
        &hub(),
        Reconciling,
        "True",
        Reason::Deleting,
        &["earth-scratch", "Retain"],
    );
    let status = world.hub(&hub()).status.unwrap();
    let known = status
        .buckets
        .iter()
        .find(|bucket| bucket.name == "scratch");
    let emptying = known.unwrap().emptying.unwrap();
    assert_eq!(
        (emptying.deleted_versions, emptying.aborted_uploads),
        (15, 4)
    );

    world.settle().await;
    assert!(is_gone(&world) && world.cloud.bucket(&scratch()).is_none());
    assert!(told(
        &world,
        "BucketDeleted",
        &["17 versions", "4 unfinished uploads"]
    ));
    assert!(world.cloud.bucket(&persistent()).is_some());
}

#[tokio::test]
async fn whose_the_bucket_is_is_asked_before_every_batch() {
    let mut world = world_with("DeleteContents", fill).await;
    delete(&mut world).await;
    world.settle().await;
    let calls = world.cloud.calls();
    let of_scratch = calls.iter().filter(|call| call.bucket == Some(scratch()));
    let operations: Vec<Operation> = of_scratch.map(|call| call.operation).collect();
    for (at, operation) in operations.iter().enumerate() {
        if *operation == Operation::EmptySome {
            assert_eq!(operations[at - 1], Operation::BucketTags);
        }
    }
    assert!(operations.contains(&Operation::EmptySome));
}

#[tokio::test]
async fn it_is_called_off_by_an_edit_while_it_runs() {
    let mut world = world_with("DeleteContents", fill).await;
    delete(&mut world).await;
    let left = world.inventory();
    set_policy(&world, "Retain");
    world.settle().await;
    assert!(is_gone(&world));
    assert_eq!(world.inventory(), left, "nothing more is deleted");
    assert!(told(&world, "BucketRetained", &["earth-scratch"]));
}

#[tokio::test]
async fn an_edit_that_comes_after_a_round_began_is_heard_before_anything_is_deleted() {
    let mut world = world_with("DeleteContents", fill).await;
    world.server.delete(&hub());
    world.controller.see(&world.server);
    let name = hub();
    let seen = world.hub(&name);
    set_policy(&world, "Retain");
    // The reconcile was begun with what was seen before; the watch's memory is newer by now.
    world.controller.see(&world.server);
    let context = world.controller.context.clone();
    let ended = hubstorage::controller::hub::reconcile(seen.into(), context).await;
    assert!(ended.is_ok());
    assert_eq!(world.cloud.count(Operation::EmptySome), 0);
    world.settle().await;
    assert_eq!(world.cloud.bucket(&scratch()).unwrap().objects.len(), 14);
}

#[tokio::test]
async fn what_the_store_does_not_let_go_is_told_in_its_own_words() {
    let lock = |bucket: &mut Bucket| {
        bucket.objects.insert("bob/a".into(), Vec::new());
        bucket.objects.insert("bob/kept".into(), Vec::new());
        bucket.locked.insert("bob/kept".into());
    };
    let mut world = world_with("DeleteContents", lock).await;
    delete(&mut world).await;
    world.settle().await;
    let words = ["\"bob/kept\"", "object lock", "Retain"];
    world.says(&hub(), Stalled, "True", Reason::BucketNotEmpty, &words);
    let left = world.cloud.bucket(&scratch()).unwrap().objects;
    assert_eq!(left.into_keys().collect::<Vec<_>>(), ["bob/kept"]);

    world
        .cloud
        .edit_by_hand(&scratch(), |bucket| bucket.locked.clear());
    world.settle().await;
    assert!(is_gone(&world) && world.cloud.bucket(&scratch()).is_none());
}

#[tokio::test]
async fn a_bucket_whose_tag_names_somebody_else_by_now_is_left_alone_and_said() {
    let mut world = world_with("DeleteContents", fill).await;
    world.cloud.edit_by_hand(&scratch(), |bucket| {
        drop(
            bucket
                .tags
                .0
                .insert(OWNER_TAG.into(), "there/mars/mars".into()),
        );
    });
    delete_and_change_nothing(&mut world).await;
    assert!(is_gone(&world));
    assert!(told(
        &world,
        "BucketRetained",
        &["earth-scratch", "there/mars/mars"]
    ));
}

#[tokio::test]
async fn a_bucket_whose_tag_was_removed_is_not_touched_until_somebody_decides() {
    let mut world = world_with("DeleteContents", fill).await;
    world.cloud.edit_by_hand(&scratch(), |bucket| {
        drop(bucket.tags.0.remove(OWNER_TAG));
    });
    delete_and_change_nothing(&mut world).await;
    let words = ["bears no owner tag", "here/earth/earth", "Retain"];
    world.says(&hub(), Stalled, "True", Reason::BucketOwnedByOthers, &words);
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_waited_for_and_the_way_out_is_told() {
    let mut world = world_with("DeleteContents", fill).await;
    world.cloud.fail_with(Some(CloudError::Unreachable {
        endpoint: "store".to_owned(),
        cause: "refused".to_owned(),
    }));
    delete(&mut world).await;
    let words = ["unreachable", "Retain"];
    world.says(
        &hub(),
        Reconciling,
        "True",
        Reason::EndpointUnreachable,
        &words,
    );
    world.settle().await;
    assert!(!is_gone(&world));

    world.cloud.fail_with(None);
    world.settle().await;
    assert!(is_gone(&world) && world.cloud.bucket(&scratch()).is_none());
}

#[tokio::test]
async fn without_a_provider_everything_stays_and_is_said() {
    let mut world = world_with("DeleteContents", fill).await;
    world.server.delete(&provider());
    delete_and_change_nothing(&mut world).await;
    assert!(is_gone(&world));
    assert!(told(
        &world,
        "BucketRetained",
        &["earth-scratch", "does not exist any more"]
    ));
}

#[tokio::test]
async fn at_another_store_nothing_is_deleted() {
    let mut world = world_with("DeleteContents", fill).await;
    let elsewhere = json!({"s3": {"endpoint": "https://other.example.org"}});
    world.server.apply(&provider_with(elsewhere));
    let (before, calls) = (world.inventory(), world.cloud.calls().len());
    delete(&mut world).await;
    world.settle().await;
    world.says(&hub(), Stalled, "True", Reason::ProviderMoved, &["Retain"]);
    assert_eq!(
        (world.inventory(), world.cloud.calls().len()),
        (before, calls)
    );

    world.server.apply(&provider());
    world.settle().await;
    assert!(is_gone(&world) && world.cloud.bucket(&scratch()).is_none());
}

#[tokio::test]
async fn observing_deletes_nothing_and_paused_deletes_as_the_policy_says() {
    for (mode, stays) in [("Observe", true), ("Paused", false)] {
        let mut world = world_with("DeleteContents", fill).await;
        world
            .server
            .edit(&hub(), |hub| hub["spec"]["mode"] = json!(mode));
        delete(&mut world).await;
        world.settle().await;
        assert!(is_gone(&world), "{mode}");
        assert_eq!(world.cloud.bucket(&scratch()).is_some(), stays, "{mode}");
        assert_eq!(
            told(&world, "BucketRetained", &["earth-scratch", mode]),
            stays
        );
    }
}

#[tokio::test]
async fn a_spec_that_is_not_valid_any_more_deletes_all_the_same() {
    let mut world = world_with("DeleteContents", fill).await;
    // The provider lets hubs claim no such names, and is not for this namespace, any more.
    let narrowed =
        json!({"bucketNames": ["mars-*"], "namespaces": {"matchLabels": {"tier": "none"}}});
    world.server.apply(&provider_with(narrowed));
    delete(&mut world).await;
    world.settle().await;
    assert!(is_gone(&world) && world.cloud.bucket(&scratch()).is_none());
}

#[tokio::test]
async fn a_bucket_that_leaves_the_spec_of_a_living_hub_stays_and_is_told_of_once() {
    let mut world = world_with("DeleteContents", fill).await;
    let before = world.inventory();
    let alone = json!({"buckets": [{"name": "persistent", "bucketName": "earth-persistent"}]});
    world.server.apply(&hub_with("earth", "earth", alone));
    world.settle().await;
    world.stays_as_it_is().await;
    assert_eq!(world.inventory(), before);
    let events = world.server.events_of("BucketRetained");
    let of_hub = events
        .iter()
        .filter(|event| event.about == "HubStorage earth");
    let notes: Vec<_> = of_hub.map(|event| event.note.as_str()).collect();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("earth-scratch") && notes[0].contains("delete it in the store"));
}

#[tokio::test]
async fn a_bucket_that_another_entry_names_now_is_not_told_to_be_left_behind() {
    let mut world = world_with("Retain", fill).await;
    let renamed = json!({"buckets": [
        {"name": "temporary", "bucketName": "earth-scratch"},
        {"name": "more", "bucketName": "earth-more"},
        {"name": "persistent", "bucketName": "earth-persistent"},
    ]});
    world.server.apply(&hub_with("earth", "earth", renamed));
    world.settle().await;
    assert!(world.is_ready(&hub()));
    assert_eq!(world.server.events_of("BucketRetained"), []);
}

#[tokio::test]
async fn what_is_left_behind_is_told_on_the_provider_too() {
    let mut world = world_with("Retain", fill).await;
    delete(&mut world).await;
    let events = world.server.events_of("BucketRetained");
    let of_provider = events
        .iter()
        .filter(|event| event.about == "StorageProvider store");
    let notes: Vec<_> = of_provider.map(|event| event.note.as_str()).collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(
        notes
            .iter()
            .all(|note| note.contains("HubStorage earth/earth"))
    );
}
