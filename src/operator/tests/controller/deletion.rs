//! Deletion with Retain, and the finalizer: the store keeps everything, and people are told what.

use hubstorage_cloud::CloudError;
use hubstorage_cloud::faults::FaultPlan;
use hubstorage_cloud::memory::Behaviour;
use hubstorage_core::api::{FINALIZER, HubUser};
use kube::ResourceExt as _;

use crate::fixtures::{HUB_ACCOUNT, hub, notebook, persistent, provider, scratch};
use crate::world::World;

async fn settled() -> World {
    let mut world = World::new(Behaviour::minio()).with(&hub()).with(&notebook(
        "jupyter-bob",
        "bob",
        HUB_ACCOUNT,
    ));
    world.settle().await;
    world.cloud.edit_by_hand(&scratch(), |bucket| {
        drop(bucket.objects.insert("bob/a".to_owned(), Vec::new()))
    });
    world
}

#[tokio::test]
async fn nothing_in_the_store_changes_and_no_store_is_called() {
    let mut world = settled().await;
    let before = world.inventory();
    world.cloud.forget_calls();
    world.server.delete(&hub());
    world.reconcile_hub(&hub()).await.unwrap();
    assert_eq!(world.inventory(), before);
    assert_eq!(world.cloud.calls(), []);
    assert!(
        world.server.get(&hub()).is_none(),
        "the finalizer is gone, and the hub with it"
    );
}

#[tokio::test]
async fn events_name_every_bucket_that_stays() {
    let mut world = settled().await;
    world.server.delete(&hub());
    world.reconcile_hub(&hub()).await.unwrap();
    let told = world.server.events_of("BucketRetained");
    for bucket in [scratch(), persistent()] {
        assert!(
            told.iter()
                .any(|event| event.note.contains(bucket.as_str())),
            "{bucket}: {told:?}"
        );
    }
    assert!(
        told.iter().all(|event| event.note.contains("Retain")),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_provider_is_not_needed() {
    let mut world = settled().await;
    let before = world.inventory();
    world.server.delete(&provider());
    world.server.delete(&hub());
    world.settle().await;
    assert!(world.server.get(&hub()).is_none());
    assert_eq!(world.inventory(), before);
}

#[tokio::test]
async fn a_store_that_fails_does_not_hold_it_up() {
    let mut world = settled().await;
    let error = CloudError::Unreachable {
        endpoint: "store".to_owned(),
        cause: "refused".to_owned(),
    };
    world.cloud.fail_with(Some(error));
    world.server.delete(&hub());
    world.reconcile_hub(&hub()).await.unwrap();
    assert!(world.server.get(&hub()).is_none());
}

#[tokio::test]
async fn a_hub_that_never_got_as_far_as_a_store_goes_at_once() {
    let mut world = World::empty(Behaviour::aws()).with(&hub());
    world.settle().await;
    assert!(
        world.hub(&hub()).finalizers().is_empty(),
        "nothing was called, so nothing is held"
    );
    world.server.delete(&hub());
    assert!(world.server.get(&hub()).is_none());
}

#[tokio::test]
async fn finalizers_of_others_stay() {
    let mut world = settled().await;
    world.server.edit(&hub(), |hub| {
        hub["metadata"]["finalizers"]
            .as_array_mut()
            .unwrap()
            .push("example.org/backup".into());
    });
    world.server.delete(&hub());
    world.reconcile_hub(&hub()).await.unwrap();
    let left = world.hub(&hub()).finalizers().to_vec();
    assert_eq!(left, ["example.org/backup"]);
    let plan = world.inject(FaultPlan::none());
    world.reconcile_hub(&hub()).await.unwrap();
    assert_eq!(plan.calls(), Vec::<String>::new(), "our part is done");
}

#[tokio::test]
async fn a_finalizer_list_that_changed_meanwhile_is_not_overwritten() {
    let mut world = settled().await;
    world.server.delete(&hub());
    world.controller.see(&world.server);
    world.server.edit(&hub(), |hub| {
        hub["metadata"]["finalizers"]
            .as_array_mut()
            .unwrap()
            .push("example.org/backup".into());
    });
    world.controller.reconcile(&hub()).await.unwrap();
    assert_eq!(
        world.hub(&hub()).finalizers(),
        [FINALIZER, "example.org/backup"]
    );
    world.reconcile_hub(&hub()).await.unwrap();
    assert_eq!(world.hub(&hub()).finalizers(), ["example.org/backup"]);
}

#[tokio::test]
async fn users_of_the_hub_go_with_it() {
    let mut world = settled().await;
    assert_eq!(world.server.list::<HubUser>().len(), 1);
    world.server.delete(&hub());
    world.settle().await;
    assert_eq!(world.server.list::<HubUser>().len(), 0);
}

#[tokio::test]
async fn a_hub_that_is_made_again_finds_its_buckets() {
    let mut world = settled().await;
    let before = world.inventory();
    world.server.delete(&hub());
    world.settle().await;
    world.server.apply(&hub());
    world.witness.forget();
    world.settle().await;
    assert!(world.is_ready(&hub()));
    assert_eq!(world.inventory(), before);
    assert!(world.witness.created().is_empty());
}
