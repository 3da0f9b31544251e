//! `VendingReady`: whether users get credentials, told of the hub and of the provider.

use hubstorage_cloud::memory::Behaviour;
use hubstorage_core::api::{ConditionType, HubStorage, Reason, StorageProvider};
use kube::ResourceExt as _;
use serde_json::json;

use crate::fixtures::{hub, hub_with, namespace, provider};
use crate::isolation::{ISOLATED, forbid_namespace, probed, settled};
use crate::world::World;

use ConditionType::{Ready, VendingReady};

/// The verdicts as they are, with why the last try for this hub gave no session.
fn fails(world: &World, hub: &HubStorage, reason: &str, message: &str) {
    world.server.edit(hub, |hub| {
        for entry in hub["status"]["vending"]["buckets"].as_array_mut().unwrap() {
            entry["reason"] = json!(reason);
            entry["message"] = json!(message);
        }
    });
}

#[tokio::test]
async fn vending_keys_that_are_missing_or_refused_make_hub_and_provider_say_so_until_they_work() {
    for (verdict, words) in [
        ("Unknown", "nothing is vended"),
        ("Isolated", "good until their end"),
    ] {
        let mut world = settled().await;
        world.provider_says(VendingReady, "Unknown", Reason::ProbePending, &[]);
        probed(&world, [(verdict, ""), (verdict, "")]);
        let message = "Secret hubstorage-vending/keys does not exist";
        fails(&world, &hub(), "CredentialsMissing", message);
        world.settle().await;
        let reason = Reason::CredentialsMissing;
        let told = ["scratch, persistent: ", message, words];
        for type_ in [VendingReady, Ready] {
            world.says(&hub(), type_, "False", reason, &told);
        }
        let told = ["HubStorage earth/earth: ", message, words];
        world.provider_says(VendingReady, "False", reason, &told);
        world.provider_says(Ready, "True", Reason::Ready, &[]);
        world.stays_as_it_is().await;

        probed(&world, [ISOLATED, ISOLATED]);
        world.settle().await;
        assert!(world.is_ready(&hub()));
        let told = ["persistent, scratch"];
        world.says(&hub(), VendingReady, "True", Reason::Applied, &told);
        world.provider_says(VendingReady, "True", Reason::Applied, &[]);
        world.stays_as_it_is().await;
    }
}

#[tokio::test]
async fn what_was_found_for_a_hub_counts_for_nothing_while_the_hub_is_refused() {
    let mut world = settled().await;
    probed(&world, [ISOLATED, ISOLATED]);
    world.settle().await;
    forbid_namespace(&world);
    world.settle().await;
    let reason = Reason::NamespaceNotAllowed;
    world.says(
        &hub(),
        VendingReady,
        "Unknown",
        reason,
        &["spec.namespaces"],
    );
    let pending = Reason::ProbePending;
    world.provider_says(VendingReady, "Unknown", pending, &["no HubStorage"]);
    world.stays_as_it_is().await;
}

#[tokio::test]
async fn what_keeps_a_hub_from_having_a_bucket_keeps_it_from_being_tried() {
    let mut world = World::new(Behaviour::aws()).with(&hub());
    world.cloud.behave(|behaviour| {
        behaviour.missing_permissions.insert("s3:CreateBucket");
    });
    world.settle().await;
    let reason = Reason::AccessDenied;
    world.says(
        &hub(),
        VendingReady,
        "Unknown",
        reason,
        &["s3:CreateBucket"],
    );
}

fn mars() -> HubStorage {
    let bucket = json!({"name": "scratch", "bucketName": "mars-scratch"});
    hub_with("mars", "mars", json!({"buckets": [bucket]}))
}

/// Hubs `earth` and `mars` at one provider, and users of both get credentials.
async fn two_hubs() -> World {
    let mut world = World::new(Behaviour::aws())
        .with(&hub())
        .with(&namespace("mars"))
        .with(&mars());
    world.settle().await;
    probed(&world, [ISOLATED, ISOLATED]);
    let provider = world.server.get::<StorageProvider>(&provider()).unwrap();
    world.server.edit(&mars(), |hub| {
        hub["status"]["vending"] = json!({"buckets": [{
            "name": "scratch", "bucketName": "mars-scratch", "verdict": "Isolated", "message": "",
            "providerUid": provider.uid(), "providerGeneration": provider.metadata.generation,
        }]})
    });
    world.settle().await;
    world.provider_says(VendingReady, "True", Reason::Applied, &[]);
    world
}

#[tokio::test]
async fn of_several_hubs_in_the_same_trouble_the_one_that_is_told_stays_until_it_is_out_of_it() {
    let mut world = two_hubs().await;
    let calls = world.cloud.calls().len();
    let reason = Reason::CredentialsRejected;
    let fails = |world: &World, hub: &HubStorage| {
        fails(world, hub, "CredentialsRejected", "InvalidAccessKeyId")
    };
    fails(&world, &mars());
    world.retell_provider().await.unwrap();
    world.provider_says(VendingReady, "False", reason, &["HubStorage mars/mars"]);

    fails(&world, &hub());
    let before = world.server.write_requests();
    world.retell_provider().await.unwrap();
    world.provider_says(VendingReady, "False", reason, &["HubStorage mars/mars"]);
    assert_eq!(world.server.write_requests(), before);

    world.server.edit(&mars(), |hub| {
        let entries = hub["status"]["vending"]["buckets"].as_array_mut();
        entries.unwrap()[0]["reason"].take();
    });
    world.retell_provider().await.unwrap();
    world.provider_says(VendingReady, "False", reason, &["HubStorage earth/earth"]);
    assert_eq!(world.cloud.calls().len(), calls, "no store was asked");
}

#[tokio::test]
async fn trouble_of_a_provider_and_its_end_are_events_though_its_ready_does_not_move() {
    let mut world = two_hubs().await;
    let before = world.server.events().len();
    fails(&world, &mars(), "CredentialsRejected", "InvalidAccessKeyId");
    world.retell_provider().await.unwrap();
    world.server.edit(&mars(), |hub| {
        let entries = hub["status"]["vending"]["buckets"].as_array_mut();
        entries.unwrap()[0]["reason"].take();
    });
    world.retell_provider().await.unwrap();
    let told = world.server.events().split_off(before);
    let told: Vec<_> = told
        .iter()
        .map(|event| (event.type_.as_str(), event.reason.as_str()))
        .collect();
    assert_eq!(
        told,
        [("Warning", "CredentialsRejected"), ("Normal", "Applied")]
    );
}

#[tokio::test]
async fn what_a_store_was_found_unable_to_do_is_told_of_the_provider_without_another_look() {
    let mut world = two_hubs().await;
    let calls = world.cloud.calls().len();
    world.server.edit(&provider(), |provider| {
        let generation = provider["metadata"]["generation"].clone();
        provider["status"]["capabilities"] = json!([{
            "name": "PublicAccessBlock", "supported": false, "observedGeneration": generation,
        }]);
    });
    world.retell_provider().await.unwrap();
    world.provider_says(Ready, "True", Reason::Ready, &["it cannot"]);
    assert_eq!(world.cloud.calls().len(), calls, "no store was asked");
}
