//! Modes: Observe says what Enforce would do and does nothing, Paused does not even look.

use hubstorage_cloud::CloudError;
use hubstorage_cloud::memory::{Behaviour, Bucket};
use hubstorage_core::api::{ConditionType, FINALIZER, HubStorage, Reason, Versioning};
use kube::ResourceExt as _;
use serde_json::json;

use crate::fixtures::{ACCOUNT, hub, hub_with, persistent, scratch};
use crate::world::World;

use ConditionType::{BucketsReady, LifecycleApplied, Ready, Stalled};

fn in_mode(mode: &str) -> HubStorage {
    hub_with("earth", "earth", json!({"mode": mode}))
}

/// The hub that takes over whatever is there, and says something about every setting.
fn adopting(mode: &str) -> HubStorage {
    let scratch = json!({
        "name": "scratch", "bucketName": "earth-scratch", "adoption": "Always",
        "lifecycle": {"expireAfterDays": 7}, "versioning": "Suspended", "publicAccess": "Blocked",
        "insecureTransport": "Denied", "objectOwnership": "BucketOwnerEnforced",
        "encryption": {"type": "StoreManaged"},
    });
    hub_with(
        "earth",
        "earth",
        json!({"mode": mode, "buckets": [scratch]}),
    )
}

fn set_mode(world: &World, mode: &str) {
    world
        .server
        .edit(&hub(), |hub| hub["spec"]["mode"] = json!(mode));
}

fn plan(world: &World) -> Vec<String> {
    world.hub(&hub()).status.unwrap_or_default().plan
}

async fn settled(behaviour: Behaviour, hub: &HubStorage) -> World {
    let mut world = World::new(behaviour).with(hub);
    world.settle().await;
    world.witness.forget();
    world
}

/// Notes of the events that tell of what was done to a store, in order.
fn done(world: &World) -> Vec<String> {
    let reasons = [
        Reason::BucketCreated,
        Reason::BucketTagged,
        Reason::BucketAdopted,
        Reason::BucketConfigured,
        Reason::LifecycleRulesSet,
        Reason::DriftCorrected,
    ];
    let events = world.server.events().into_iter();
    events
        .filter(|event| {
            reasons
                .iter()
                .any(|reason| reason.to_string() == event.reason)
        })
        .map(|event| event.note)
        .collect()
}

/// Asserts that the plan is not empty, that nothing was done so far, and that mode Enforce then does
/// just that.
async fn does_what_the_plan_says(world: &mut World, before: usize) {
    let planned = plan(world);
    assert!(!planned.is_empty());
    assert_eq!(done(world)[before..], [] as [String; 0]);
    set_mode(world, "Enforce");
    world.settle().await;
    assert_eq!(done(world)[before..], planned);
    assert_eq!(plan(world), [] as [String; 0]);
}

#[tokio::test]
async fn a_fresh_hub_is_planned_and_nothing_is_written_but_its_status() {
    let mut world = settled(Behaviour::aws(), &in_mode("Observe")).await;
    assert_eq!(world.cloud.writes(), []);
    assert_eq!(world.cloud.bucket_names(), []);
    let seen = world.hub(&hub());
    assert_eq!(seen.finalizers(), [] as [String; 0]);
    assert_eq!(seen.status.unwrap().buckets, []);
    assert_eq!(plan(&world)[0], "create bucket earth-scratch");
    let changes = format!("{} in all", plan(&world).len());
    let says = |type_, status| {
        let words = [changes.as_str(), "Mode Enforce makes them"];
        world.says(&hub(), type_, status, Reason::Observing, &words);
    };
    says(Ready, "False");
    says(Stalled, "True");
    world.says(
        &hub(),
        BucketsReady,
        "False",
        Reason::Observing,
        &["scratch", "persistent"],
    );
    world.stays_as_it_is().await;
}

#[tokio::test]
async fn an_edit_of_the_spec_changes_the_plan_and_nothing_else() {
    let mut world = settled(Behaviour::aws(), &in_mode("Observe")).await;
    world.server.edit(&hub(), |hub| {
        hub["spec"]["buckets"][0]["lifecycle"]["expireAfterDays"] = json!(3)
    });
    world.settle().await;
    assert!(
        plan(&world)
            .iter()
            .any(|line| line.contains("expire objects after 3 days"))
    );
    assert_eq!(world.cloud.writes(), []);
}

#[tokio::test]
async fn a_hub_that_is_as_declared_is_ready_and_stays_so_for_its_users() {
    let mut world = settled(Behaviour::aws(), &hub()).await;
    let before = world.hub(&hub()).status.unwrap().buckets;
    let inventory = world.inventory();
    set_mode(&world, "Observe");
    world.settle().await;
    assert!(world.is_ready(&hub()));
    let seen = world.hub(&hub());
    assert_eq!(seen.finalizers(), [FINALIZER]);
    assert_eq!(seen.status.unwrap().buckets, before);
    assert_eq!(plan(&world), [] as [String; 0]);

    // Drift is told, and users' pods go on as before.
    world
        .cloud
        .edit_by_hand(&scratch(), |bucket| bucket.rules.clear());
    world.settle().await;
    world.says(
        &hub(),
        LifecycleApplied,
        "False",
        Reason::Observing,
        &["scratch"],
    );
    assert_eq!(world.hub(&hub()).status.unwrap().buckets, before);
    assert_ne!(world.inventory(), inventory);
    world.stays_as_it_is().await;
}

#[tokio::test]
async fn enforce_does_to_a_fresh_hub_what_the_plan_said() {
    let mut world = settled(Behaviour::aws(), &in_mode("Observe")).await;
    does_what_the_plan_says(&mut world, 0).await;
    assert!(world.is_ready(&hub()));
}

#[tokio::test]
async fn enforce_does_to_an_adopted_bucket_what_the_plan_said() {
    let mut world = World::new(Behaviour::aws());
    let mut theirs = Bucket::new(ACCOUNT, world.cloud.now());
    theirs.objects.insert("bob/a".to_owned(), Vec::new());
    theirs.versioning = Some(Versioning::Enabled);
    world.cloud.insert_by_hand(&scratch(), theirs);
    world.server.apply(&adopting("Observe"));
    world.settle().await;
    assert!(plan(&world)[0].starts_with("take bucket earth-scratch over"));
    assert!(plan(&world).len() >= 6, "{:?}", plan(&world));
    does_what_the_plan_says(&mut world, 0).await;
    assert!(world.is_ready(&hub()));
}

#[tokio::test]
async fn enforce_puts_drift_right_as_the_plan_said_and_calls_it_drift() {
    for behaviour in [Behaviour::aws(), Behaviour::minio()] {
        let mut world = settled(behaviour, &hub()).await;
        set_mode(&world, "Observe");
        world.settle().await;
        world
            .cloud
            .edit_by_hand(&scratch(), |bucket| drop(bucket.rules.remove(0)));
        world
            .cloud
            .edit_by_hand(&persistent(), |bucket| bucket.tags.0.clear());
        world.settle().await;
        assert_eq!(plan(&world).len(), 2, "{:?}", plan(&world));
        let before = done(&world).len();
        does_what_the_plan_says(&mut world, before).await;
        assert_eq!(world.server.events_of("DriftCorrected").len(), 2);
    }
}

#[tokio::test]
async fn a_bucket_that_is_refused_keeps_its_own_reason_and_stands_in_the_plan() {
    let mut world = World::new(Behaviour::minio());
    world
        .cloud
        .insert_by_hand(&scratch(), Bucket::new(ACCOUNT, world.cloud.now()));
    world.server.apply(&in_mode("Observe"));
    world.settle().await;
    world.says(
        &hub(),
        Stalled,
        "True",
        Reason::BucketOwnedByOthers,
        &["earth-scratch"],
    );
    let lines = plan(&world);
    assert!(lines[0].starts_with("leave bucket earth-scratch as it is"));
    assert_eq!(lines[1], "create bucket earth-persistent");
}

#[tokio::test]
async fn the_plan_says_which_bucket_nobody_could_look_at() {
    let mut world = settled(Behaviour::aws(), &hub()).await;
    set_mode(&world, "Observe");
    world.settle().await;
    world.cloud.behave(|behaviour| {
        behaviour.missing_permissions.insert("s3:GetBucketTagging");
    });
    world.settle().await;
    world.says(&hub(), Stalled, "True", Reason::AccessDenied, &[]);
    assert!(plan(&world)[0].starts_with("bucket earth-scratch could not be looked at"));
}

#[tokio::test]
async fn while_paused_nothing_is_looked_at_and_what_was_known_stays() {
    let mut world = settled(Behaviour::aws(), &hub()).await;
    let known = world.hub(&hub()).status.unwrap();
    set_mode(&world, "Paused");
    world.settle().await;
    world.cloud.forget_calls();
    world.cloud.remove_by_hand(&scratch());
    let of_hub = |world: &World| {
        let calls = world.cloud.calls().into_iter();
        calls.filter(|call| call.bucket.is_some()).count()
    };
    world.server.edit(&hub(), |hub| {
        hub["spec"]["buckets"][0]["lifecycle"]["expireAfterDays"] = json!(3)
    });
    world.settle().await;
    world.stays_as_it_is().await;
    assert_eq!(of_hub(&world), 0);
    let status = world.hub(&hub()).status.unwrap();
    assert_eq!(status.buckets, known.buckets);
    assert_eq!(
        Some(status.observed_generation),
        world.hub(&hub()).metadata.generation
    );
    let words = [
        "mode Paused",
        "at generation 1",
        "said Ready",
        "earth-scratch",
    ];
    world.says(&hub(), Ready, "True", Reason::Paused, &words);
    world.says(&hub(), BucketsReady, "True", Reason::Applied, &[]);

    set_mode(&world, "Enforce");
    world.settle().await;
    assert!(world.cloud.bucket(&scratch()).is_some());
    assert!(world.is_ready(&hub()));
}

#[tokio::test]
async fn a_hub_that_was_never_looked_at_and_is_paused_is_stalled() {
    let mut world = settled(Behaviour::aws(), &in_mode("Paused")).await;
    world.says(
        &hub(),
        Stalled,
        "True",
        Reason::Paused,
        &["nothing ever was"],
    );
    world.says(&hub(), Ready, "False", Reason::Paused, &[]);
    assert_eq!(world.hub(&hub()).finalizers(), [] as [String; 0]);
    world.stays_as_it_is().await;
}

#[tokio::test]
async fn what_was_being_tried_again_is_not_any_more_while_paused() {
    let mut world = settled(Behaviour::aws(), &hub()).await;
    let outage = CloudError::Unreachable {
        endpoint: "store".to_owned(),
        cause: "no route".to_owned(),
    };
    world.cloud.fail_with(Some(outage));
    world.round().await;
    world.round().await;
    set_mode(&world, "Paused");
    world.round().await;
    world.says(&hub(), Stalled, "True", Reason::Paused, &["The last look"]);
    world.cloud.fail_with(None);
    set_mode(&world, "Enforce");
    world.settle().await;
    assert!(world.is_ready(&hub()));
}

#[tokio::test]
async fn a_long_plan_is_cut_and_counted() {
    let buckets: Vec<_> = (0..8)
        .map(|number| {
            json!({"name": format!("b{number}"), "bucketName": format!("earth-b{number}"),
                "lifecycle": {"expireAfterDays": 7}, "versioning": "Enabled"})
        })
        .collect();
    let many = hub_with(
        "earth",
        "earth",
        json!({"mode": "Observe", "buckets": buckets}),
    );
    let world = settled(Behaviour::aws(), &many).await;
    let lines = plan(&world);
    assert_eq!(lines.len(), 32);
    assert!(lines[31].starts_with("and ") && lines[31].ends_with(" more"));
}
