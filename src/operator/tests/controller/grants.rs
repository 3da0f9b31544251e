//! Grants that do not fit into a session policy.

use hubstorage_cloud::memory::Behaviour;
use hubstorage_core::api::{ConditionType, HubStorage, Reason, StorageProvider};
use hubstorage_core::names::BucketName;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::bad_input::{assert_mended, assert_refused, settled};
use crate::fixtures::{hub, hub_with, provider};
use crate::world::World;

use ConditionType::Stalled;

#[tokio::test]
async fn grants_that_do_not_fit_for_who_is_in_fewer_groups() {
    let own = json!({"name": "own", "subjects": [{"kind": "Everyone"}], "scope": "UserPrefix", "permission": "ReadWrite"});
    let shared = |number: usize, subject: &Value| {
        let prefix = format!("_{number:0>54}");
        json!({"name": format!("s{number}"), "subjects": [subject], "scope": "Prefix", "prefix": prefix, "permission": "ReadOnly"})
    };
    let everyone = json!({"kind": "Everyone"});
    let bucket = |name: &str, of_last: &Value| {
        let mut grants = vec![own.clone()];
        grants.extend((0..4).map(|number| shared(number, &everyone)));
        grants.push(shared(4, of_last));
        json!({"name": name, "bucketName": format!("earth-{name}"), "grants": grants})
    };
    let group = json!({"kind": "Group", "name": "g"});
    let hub_of = |other| {
        let buckets = json!([bucket("scratch", &everyone), bucket("persistent", other)]);
        hub_with("earth", "earth", json!({"buckets": buckets}))
    };
    let world = World::new(Behaviour::aws()).with(&hub_of(&group));
    let world = settled(world).await;
    assert_refused(
        &world,
        &hub(),
        Stalled,
        Reason::InvalidConfiguration,
        &[
            "spec.buckets[].grants",
            "of some user could have",
            "the limit is 2048",
            "shorter ones",
            "without bucket persistent it is shorter by",
        ],
    );
    let mended = hub_of(&everyone).spec;
    world.server.edit(&hub(), |hub| hub["spec"] = json!(mended));
    assert_mended(world, &hub()).await;
}

/// What serve writes when the store was asked for a session with the hub's longest policy.
fn tried(world: &World, hub: &HubStorage, verdict: &str) {
    let provider = world.server.get::<StorageProvider>(&provider()).unwrap();
    let in_store = |bucket: &hubstorage_core::api::Bucket| {
        BucketName::parse(bucket.bucket_name.as_ref().unwrap()).ok()
    };
    let spec = world.hub(hub).spec;
    let policy = spec.policy_of_longest_user(in_store).unwrap().unwrap();
    world.server.edit(hub, |hub| {
        hub["status"]["vending"]["policy"] = json!({
            "fingerprint": policy.fingerprint(),
            "providerUid": provider.uid(), "providerGeneration": provider.metadata.generation,
            "verdict": verdict, "message": "PackedPolicyTooLarge, the store says",
        });
    });
}

#[tokio::test]
async fn a_policy_that_the_store_does_not_take_is_told_until_there_is_another_one_or_it_does() {
    let mut world = World::new(Behaviour::aws()).with(&hub());
    world.settle().await;
    tried(&world, &hub(), "Accepted");
    world.settle().await;
    assert!(world.is_ready(&hub()));

    tried(&world, &hub(), "Refused");
    world.settle().await;
    let words = ["spec.buckets[].grants", "PackedPolicyTooLarge"];
    world.says(
        &hub(),
        Stalled,
        "True",
        Reason::InvalidConfiguration,
        &words,
    );

    // Other grants are another policy, of which the store has said nothing yet.
    let grant = json!({
        "name": "read", "subjects": [{"kind": "Everyone"}], "scope": "UserPrefix", "permission": "ReadOnly",
    });
    world.server.edit(&hub(), |hub| {
        hub["spec"]["buckets"][0]["grants"] = json!([grant]);
    });
    assert_mended(world, &hub()).await;
}
