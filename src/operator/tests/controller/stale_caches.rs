//! What a watch has seen may be old: an object that was made anew since, a status that has
//! been written since.

use std::time::Duration;

use hubstorage::guard::GuardState;
use hubstorage_cloud::faults::{Fault, FaultPlan};
use hubstorage_cloud::memory::Behaviour;
use hubstorage_core::api::{FINALIZER, HubUser};
use kube::ResourceExt as _;
use serde_json::json;

use crate::fixtures::{HUB_ACCOUNT, hub, hub_with, notebook, provider};
use crate::world::World;

/// A hub that was deleted and made anew under the same name, with another bucket, while the
/// controller still sees the first one.
async fn replaced(behaviour: Behaviour, settled_before: bool) -> World {
    let mut world =
        World::new(behaviour)
            .with(&hub())
            .with(&notebook("jupyter-bob", "bob", HUB_ACCOUNT));
    if settled_before {
        world.settle().await;
    } else {
        world.controller.see(&world.server);
    }
    world
        .server
        .edit(&hub(), |hub| hub["metadata"]["finalizers"] = json!([]));
    world.server.delete(&hub());
    let anew = json!({"buckets": [{"name": "scratch", "bucketName": "earth-anew"}]});
    world.server.apply(&hub_with("earth", "earth", anew));
    world
}

#[tokio::test]
async fn a_newer_hub_of_the_same_name_is_not_written_to() {
    for settled_before in [false, true] {
        let world = replaced(Behaviour::minio(), settled_before).await;
        // So that there is something to write in any case.
        world.guard_is(GuardState::Missing {
            why: "gone".to_owned(),
        });
        let before = world.hub(&hub());
        let _ = world.controller.reconcile(&hub()).await;
        assert_eq!(
            world.hub(&hub()),
            before,
            "settled before: {settled_before}"
        );
    }
}

#[tokio::test]
async fn no_bucket_is_made_for_a_hub_that_is_gone() {
    let world = replaced(Behaviour::minio(), false).await;
    world.controller.reconcile(&hub()).await.unwrap();
    assert_eq!(world.inventory(), "");
}

#[tokio::test]
async fn a_newer_hub_keeps_its_finalizer_when_the_older_one_is_let_go() {
    let mut world = World::new(Behaviour::aws()).with(&hub());
    world.settle().await;
    world.server.delete(&hub());
    world.controller.see(&world.server);
    world
        .server
        .edit(&hub(), |hub| hub["metadata"]["finalizers"] = json!([]));
    world.server.apply(&hub());
    let mut other = world.another_controller();
    other.see(&world.server);
    other.reconcile(&hub()).await.unwrap();
    let before = world.hub(&hub());
    assert!(!before.finalizers().is_empty());
    let _ = world.controller.reconcile(&hub()).await;
    assert_eq!(world.hub(&hub()), before);
}

#[tokio::test]
async fn a_newer_provider_of_the_same_name_is_not_written_to() {
    let mut world = World::new(Behaviour::minio()).with(&hub());
    world.controller.see(&world.server);
    world.server.delete(&provider());
    world.server.apply(&provider());
    let before = world.server.get(&provider());
    let context = world.controller.context.clone();
    let old = context.provider("store").unwrap();
    let _ = hubstorage::controller::provider::reconcile(old, context).await;
    let _ = world.controller.reconcile(&hub()).await;
    assert_eq!(
        world
            .server
            .get::<hubstorage_core::api::StorageProvider>(&provider()),
        before
    );
    world.settle().await;
    assert!(world.is_ready(&hub()));
}

#[tokio::test]
async fn users_of_an_older_hub_are_not_made_for_the_newer_one() {
    let world = replaced(Behaviour::aws(), false).await;
    let context = world.controller.context.clone();
    let old = context.stores.hubs.state().remove(0);
    let _ = hubstorage::controller::users::reconcile(old.clone(), context).await;
    let owners: Vec<_> = world
        .server
        .list::<HubUser>()
        .iter()
        .flat_map(|user| user.owner_references().to_vec())
        .map(|owner| owner.uid)
        .collect();
    // One that names the older hub is collected with it; none may claim the newer one.
    assert!(
        owners.iter().all(|uid| Some(uid) == old.uid().as_ref()),
        "{owners:?}"
    );
    assert_eq!(world.hub(&hub()).status.unwrap().users, None);
}

/// A hub that already holds its finalizer: the first write of a reconcile is the intent.
fn held(behaviour: Behaviour) -> World {
    let mut world = World::new(behaviour).with(&hub());
    world.server.edit(&hub(), |hub| {
        hub["metadata"]["finalizers"] = json!([FINALIZER])
    });
    world.controller.see(&world.server);
    world
}

#[tokio::test]
async fn an_intent_that_the_watch_has_not_seen_yet_is_not_lost() {
    // A reconcile fails at any call, and the next one still sees the hub as it was before.
    let clean = held(Behaviour::minio());
    let plan = clean.inject(FaultPlan::none());
    clean.controller.reconcile(&hub()).await.unwrap();
    for k in 0..plan.calls().len() {
        for fault in [Fault::Error, Fault::TimeoutAfterEffect] {
            let mut world = held(Behaviour::minio());
            world.trial = format!("{fault:?} at call {k}, then a stale look");
            world.inject(FaultPlan::at(k, fault));
            for _ in 0..2 {
                let _ = world.controller.reconcile(&hub()).await;
                world.cloud.advance(Duration::from_secs(60));
            }
            world.settle().await;
            assert!(
                world.is_ready(&hub()),
                "{}: {:#?}",
                world.trial,
                world.hub(&hub()).status
            );
            assert!(world.orphans().is_empty(), "{}", world.trial);
            assert!(
                world.witness.created().values().all(|times| *times == 1),
                "{}",
                world.trial
            );
        }
    }
}
