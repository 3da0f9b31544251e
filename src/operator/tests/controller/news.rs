//! What changes while the store stays as it is: status follows it, and the store is not asked.

use hubstorage::certificates::WebhookState;
use hubstorage::controller::{AgentsGap, Parts};
use hubstorage::guard::GuardState;
use hubstorage_cloud::CloudError;
use hubstorage_cloud::memory::Behaviour;
use hubstorage_core::api::{HubStorage, STAMP_ANNOTATION, StorageProvider};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use serde_json::json;

use crate::fixtures::{HUB_ACCOUNT, REGISTERED, hub, notebook, provider};
use crate::world::World;

type News = (&'static str, fn(&World));

const NEWS: [News; 6] = [
    ("the guard is gone", |world| {
        world.guard_is(GuardState::Missing {
            why: "gone".to_owned(),
        });
    }),
    ("the webhook is gone", |world| {
        world.webhook_is(WebhookState::Missing);
    }),
    ("serve is gone", |world| {
        world.parts_are(Parts {
            serve_is_gone: true,
            agents: None,
        });
    }),
    ("an agent is missing", |world| {
        world.parts_are(Parts {
            serve_is_gone: false,
            agents: Some(AgentsGap::Missing { on: 1, of: 2 }),
        });
    }),
    ("a pod was missed", |world| {
        let mut pod = notebook("jupyter-bob", "bob", HUB_ACCOUNT);
        pod.annotations_mut().remove(STAMP_ANNOTATION);
        world.server.apply(&pod);
    }),
    ("the probe found a leak", |world| {
        let provider = world.server.get::<StorageProvider>(&provider()).unwrap();
        let leak = json!({
            "name": "scratch", "bucketName": "earth-scratch", "verdict": "Leaks", "message": "GetObject",
            "providerUid": provider.uid(), "providerGeneration": provider.metadata.generation,
        });
        world.server.edit(&hub(), |hub| {
            hub["status"]["vending"] = json!({"buckets": [leak]});
        });
    }),
];

async fn settled() -> World {
    let mut world = World::new(Behaviour::aws()).with(&hub());
    world.settle().await;
    world
}

/// Tells a hub anew from memory, and gives it as it is then.
async fn retold(world: &mut World) -> HubStorage {
    world.retell(&hub()).await.unwrap();
    world.hub(&hub())
}

#[tokio::test]
async fn news_are_told_without_a_call_to_the_store_and_as_a_check_tells_them() {
    for (what, happens) in NEWS {
        let mut world = settled().await;
        let before = world.hub(&hub());
        happens(&world);
        world.cloud.forget_calls();

        let told = retold(&mut world).await;

        assert_eq!(world.cloud.calls(), [], "{what}");
        let conditions = |hub: &HubStorage| hub.status.clone().unwrap().conditions;
        assert_ne!(conditions(&told), conditions(&before), "{what}");
        world.reconcile_hub(&hub()).await.unwrap();
        assert_eq!(world.hub(&hub()), told, "{what}");
        // The provider is told of some of them, too.
        world.settle().await;
        world.stays_as_it_is().await;
    }
}

#[tokio::test]
async fn when_all_is_well_again_that_is_told_too() {
    for (what, happens) in NEWS {
        let mut world = settled().await;
        let before = world.hub(&hub());
        happens(&world);
        retold(&mut world).await;
        world.guard_is(GuardState::InForce {
            since: world.cloud.now(),
        });
        world.webhook_is(REGISTERED);
        world.parts_are(Parts::default());
        let pod = notebook("jupyter-bob", "bob", HUB_ACCOUNT);
        if world.server.get(&pod).is_some() {
            world.server.delete(&pod);
        }
        world.server.edit(&hub(), |hub| {
            hub["status"].as_object_mut().unwrap().remove("vending");
        });

        let told = retold(&mut world).await;

        let lines = |hub: &HubStorage| -> Vec<(String, String, String)> {
            let conditions = hub.status.clone().unwrap().conditions;
            let line =
                |one: &Condition| (one.type_.clone(), one.status.clone(), one.message.clone());
            conditions.iter().map(line).collect()
        };
        assert_eq!(lines(&told), lines(&before), "{what}");
    }
}

#[tokio::test]
async fn nothing_new_is_nothing_written() {
    let mut world = settled().await;
    let writes = world.writes();
    retold(&mut world).await;
    assert_eq!(world.writes(), writes);
}

#[tokio::test]
async fn a_hub_that_is_not_in_order_waits_for_its_next_check() {
    let mut world = settled().await;
    world.cloud.fail_with(Some(CloudError::Unreachable {
        endpoint: "https://store.example.org".to_owned(),
        cause: "connection refused".to_owned(),
    }));
    world.reconcile_hub(&hub()).await.unwrap();
    let before = world.hub(&hub());
    world.guard_is(GuardState::Missing {
        why: "gone".to_owned(),
    });
    assert_eq!(retold(&mut world).await, before);
}
