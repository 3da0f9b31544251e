//! A check on demand: somebody annotates the HubStorage, and status answers.

use hubstorage::controller::Awaited as _;
use hubstorage_cloud::memory::Behaviour;
use hubstorage_core::api::{CHECK_ANNOTATION, HubStorage, StorageProvider};
use serde_json::json;

use crate::fixtures::{hub, hub_with, provider, scratch};
use crate::world::World;

fn ask(world: &World, value: &str) {
    world.server.edit(&hub(), |hub| {
        hub["metadata"]["annotations"][CHECK_ANNOTATION] = json!(value);
    });
}

fn answer(world: &World) -> Option<String> {
    world.hub(&hub()).status.unwrap().last_handled_check_request
}

async fn settled(hub: &HubStorage) -> World {
    let mut world = World::new(Behaviour::aws()).with(hub);
    world.settle().await;
    world
}

#[tokio::test]
async fn a_new_value_is_awaited_until_the_store_was_compared_and_status_answers_with_it() {
    let mut world = settled(&hub()).await;
    assert!(!world.hub(&hub()).is_awaited());
    for value in ["2026-01-01T00:00:00Z", "again"] {
        world
            .cloud
            .edit_by_hand(&scratch(), |bucket| bucket.rules.clear());
        ask(&world, value);
        assert!(world.hub(&hub()).is_awaited());
        world.settle().await;
        assert_eq!(answer(&world).as_deref(), Some(value));
        assert!(!world.hub(&hub()).is_awaited());
        assert!(!world.cloud.bucket(&scratch()).unwrap().rules.is_empty());
    }
    world.stays_as_it_is().await;
}

#[tokio::test]
async fn mode_observe_answers_too_and_mode_paused_does_not() {
    let mut world = settled(&hub_with("earth", "earth", json!({"mode": "Observe"}))).await;
    ask(&world, "one");
    world.settle().await;
    assert_eq!(answer(&world).as_deref(), Some("one"));

    world
        .server
        .edit(&hub(), |hub| hub["spec"]["mode"] = json!("Paused"));
    ask(&world, "two");
    world.settle().await;
    assert_eq!(answer(&world).as_deref(), Some("one"));
    assert!(!world.hub(&hub()).is_awaited(), "nobody comes to it");
}

#[tokio::test]
async fn of_a_value_without_end_status_holds_the_beginning() {
    let mut world = settled(&hub()).await;
    ask(&world, &"x".repeat(10_000));
    world.settle().await;
    assert_eq!(answer(&world).map(|answer| answer.len()), Some(253));
    assert!(!world.hub(&hub()).is_awaited());
}

#[tokio::test]
async fn a_provider_answers_for_itself() {
    let mut world = settled(&hub()).await;
    world.server.edit(&provider(), |provider| {
        provider["metadata"]["annotations"][CHECK_ANNOTATION] = json!("now");
    });
    let current = |world: &World| world.server.get::<StorageProvider>(&provider()).unwrap();
    assert!(current(&world).is_awaited());
    world.settle().await;
    let answer = current(&world).status.unwrap().last_handled_check_request;
    assert_eq!(answer.as_deref(), Some("now"));
    assert!(!current(&world).is_awaited());
    world.stays_as_it_is().await;
}
