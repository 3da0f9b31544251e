//! `spec.home`: volumes of users that grow, and those that do not.

use hubstorage::certificates::{Address, WebhookState};
use hubstorage::guard::GuardState;
use hubstorage_cloud::memory::Behaviour;
use hubstorage_core::api::{ConditionType, HubStorage, HubUser, Reason};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::{Value, json};

use crate::fixtures::{REGISTERED, home, hub_with, storage_class};
use crate::world::World;

use ConditionType::{HomesWithinLimit, Ready};

fn hub(fields: Value) -> HubStorage {
    let mut home = json!({"type": "Claim", "size": "10Gi", "maxSize": "50Gi"});
    json_patch::merge(&mut home, &fields);
    hub_with("earth", "earth", json!({"home": home}))
}

/// A world with this hub, these claims, and a StorageClass that lets them grow.
fn world(hub: &HubStorage, claims: &[&PersistentVolumeClaim]) -> World {
    let world = World::new(Behaviour::aws()).with(hub);
    class(&world, true);
    for claim in claims {
        world.server.apply(*claim);
        grown(&world, claim);
    }
    world
}

/// Makes the StorageClass of all claims.
fn class(world: &World, grows: bool) {
    let class = storage_class("growing");
    world.server.apply(&class);
    world
        .server
        .edit(&class, |class| class["allowVolumeExpansion"] = json!(grows));
}

fn asks_for(world: &World, claim: &PersistentVolumeClaim) -> String {
    let claim = world.server.get(claim).unwrap();
    let resources = claim.spec.unwrap().resources.unwrap();
    resources.requests.unwrap()["storage"].0.clone()
}

/// What the driver does: the volume has what was asked for.
fn grown(world: &World, claim: &PersistentVolumeClaim) {
    let asked = asks_for(world, claim);
    world.server.edit(claim, |claim| {
        claim["status"] = json!({"phase": "Bound", "capacity": {"storage": asked}})
    });
}

#[tokio::test]
async fn homes_grow_to_the_size_that_is_declared_and_then_nothing_is_written() {
    let hub = hub(json!({}));
    let (small, right) = (home("small", "bob", "5Gi"), home("right", "eve", "20Gi"));
    let mut world = world(&hub, &[&small, &right]);
    world.settle().await;
    assert_eq!(asks_for(&world, &small), "10Gi");
    assert_eq!(asks_for(&world, &right), "20Gi");
    let reason = Reason::ClaimGrowing;
    world.says(&hub, HomesWithinLimit, "False", reason, &["1 are growing"]);
    assert!(
        world.is_ready(&hub),
        "nobody's deployment waits for a volume"
    );
    world.stays_as_it_is().await;

    grown(&world, &small);
    world.settle().await;
    let words = ["homes of 10Gi, 50Gi at most: 2"];
    world.says(&hub, HomesWithinLimit, "True", Reason::Applied, &words);
    world.stays_as_it_is().await;
    let told = world.server.events_of("ClaimGrowing");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].type_, "Normal");
}

#[tokio::test]
async fn a_larger_size_reaches_the_homes_that_are_there_and_a_smaller_one_does_not() {
    let claim = home("claim-bob", "bob", "10Gi");
    let mut world = world(&hub(json!({})), &[&claim]);
    world.settle().await;
    world.server.apply(&hub(json!({"size": "15Gi"})));
    world.settle().await;
    assert_eq!(asks_for(&world, &claim), "15Gi");
    world.server.apply(&hub(json!({"size": "1Gi"})));
    world.settle().await;
    assert_eq!(asks_for(&world, &claim), "15Gi");
}

#[tokio::test]
async fn a_users_own_size_is_in_status_for_admission_and_reaches_that_users_homes_alone() {
    let hub = hub(json!({}));
    let (bobs, eves) = (home("a", "bob", "10Gi"), home("b", "eve", "10Gi"));
    let user: HubUser = serde_json::from_value(json!({
        "apiVersion": "hubstorage.io/v1alpha1", "kind": "HubUser",
        "metadata": {"name": "bob-has-more", "namespace": "earth"},
        "spec": {"hubRef": {"name": "earth"}, "username": "bob", "home": {"size": "80Gi"}},
    }))
    .unwrap();
    let mut world = world(&hub, &[&bobs, &eves]).with(&user);
    world.settle().await;
    assert_eq!(asks_for(&world, &bobs), "80Gi");
    assert_eq!(asks_for(&world, &eves), "10Gi");
    grown(&world, &bobs);
    world.settle().await;
    world.says(&hub, HomesWithinLimit, "True", Reason::Applied, &[]);
    let homes = world.hub(&hub).status.unwrap().homes.unwrap();
    assert_eq!(
        json!(homes.overrides),
        json!([{"username": "bob", "size": "80Gi"}])
    );

    world.server.delete(&user);
    world.settle().await;
    let words = ["a asks for 80Gi, and may have 50Gi"];
    let reason = Reason::ClaimTooLarge;
    world.says(&hub, HomesWithinLimit, "False", reason, &words);
    world.says(&hub, Ready, "True", Reason::Ready, &[]);
}

#[tokio::test]
async fn a_home_that_cannot_grow_is_told_until_it_can() {
    let hub = hub(json!({}));
    let claim = home("claim-bob", "bob", "5Gi");
    let mut world = world(&hub, &[&claim]);
    world.server.delete(&storage_class("growing"));
    world.settle().await;
    let reason = Reason::ClaimNotExpandable;
    let words = ["claim-bob", "StorageClass growing does not exist"];
    world.says(&hub, HomesWithinLimit, "False", reason, &words);

    class(&world, false);
    world.settle().await;
    let words = ["claim-bob", "allowVolumeExpansion"];
    world.says(&hub, HomesWithinLimit, "False", reason, &words);
    world.stays_as_it_is().await;

    class(&world, true);
    world.settle().await;
    assert_eq!(asks_for(&world, &claim), "10Gi");
}

#[tokio::test]
async fn what_a_quota_refuses_is_told_and_keeps_no_other_home_from_growing() {
    let hub = hub(json!({}));
    let (first, second) = (home("a", "bob", "5Gi"), home("b", "eve", "5Gi"));
    let mut world = world(&hub, &[&first, &second]);
    world.server.limit_claim("a");
    world.rounds(4).await;
    assert_eq!(asks_for(&world, &first), "5Gi");
    assert_eq!(asks_for(&world, &second), "10Gi");
    let words = [
        "a has 5Gi instead of 10Gi",
        "exceeded quota",
        "1 are growing",
    ];
    let reason = Reason::ClaimGrowthFailed;
    world.says(&hub, HomesWithinLimit, "False", reason, &words);
    let asked = |world: &World| {
        let writes = world.server.write_requests();
        let of_claims = |write: &&String| write.contains("persistentvolumeclaims");
        writes.iter().filter(of_claims).count()
    };
    assert_eq!(asked(&world), 2, "one of each: not again at every wake");
    world.cloud.advance(std::time::Duration::from_secs(300));
    world.rounds(2).await;
    assert_eq!(asked(&world), 3, "but now and then");
}

#[tokio::test]
async fn what_somebody_else_asks_for_meanwhile_is_not_taken_back() {
    let hub = hub(json!({}));
    let claim = home("claim-bob", "bob", "5Gi");
    let mut world = world(&hub, &[&claim]);
    world.reconcile_hub(&hub).await.unwrap();
    world.controller.see(&world.server);
    world.server.edit(&claim, |claim| {
        claim["spec"]["resources"]["requests"]["storage"] = json!("30Gi")
    });
    world.reconcile_homes_as_seen(&hub).await.unwrap();
    assert_eq!(asks_for(&world, &claim), "30Gi");
    world.settle().await;
    assert_eq!(asks_for(&world, &claim), "30Gi");
    let homes = world.hub(&hub).status.unwrap().homes.unwrap();
    assert_eq!(homes.findings, []);
}

#[tokio::test]
async fn an_edit_of_the_spec_that_nobody_has_looked_at_is_not_taken_for_done() {
    let claim = home("claim-bob", "bob", "10Gi");
    let mut world = world(&hub(json!({})), &[&claim]);
    world.settle().await;
    let larger = hub(json!({"size": "20Gi"}));
    world.says(&larger, HomesWithinLimit, "True", Reason::Applied, &[]);
    world.server.apply(&larger);
    world.reconcile_hub(&larger).await.unwrap();
    let reason = Reason::Progressing;
    world.says(&larger, HomesWithinLimit, "Unknown", reason, &[]);
    world.reconcile_homes(&larger).await.unwrap();
    let reason = Reason::ClaimGrowing;
    world.says(
        &larger,
        HomesWithinLimit,
        "False",
        reason,
        &["1 are growing"],
    );
}

#[tokio::test]
async fn mode_observe_tells_what_would_grow_and_mode_paused_leaves_everything_as_it_was() {
    for (mode, told) in [("Observe", Some("mode Enforce would")), ("Paused", None)] {
        let mut hub = hub(json!({}));
        hub.spec.mode = serde_json::from_value(json!(mode)).unwrap();
        let claim = home("claim-bob", "bob", "5Gi");
        let mut world = world(&hub, &[&claim]);
        world.settle().await;
        assert_eq!(asks_for(&world, &claim), "5Gi", "{mode}");
        match told {
            Some(words) => {
                let reason = Reason::Observing;
                world.says(&hub, HomesWithinLimit, "False", reason, &[words]);
            }
            None => assert_eq!(world.hub(&hub).status.unwrap().homes, None),
        }
        world.stays_as_it_is().await;
    }
}

#[tokio::test]
async fn where_no_homes_are_declared_any_more_nothing_is_told_of_them() {
    let with = hub(json!({}));
    let mut world = world(&with, &[&home("claim-bob", "bob", "60Gi")]);
    world.settle().await;
    world.says(&with, HomesWithinLimit, "False", Reason::ClaimTooLarge, &[]);
    world.server.apply(&hub_with("earth", "earth", json!({})));
    world.settle().await;
    let status = world.hub(&with).status.unwrap();
    assert_eq!(status.homes, None);
    let told = status.conditions.iter();
    let told: Vec<&str> = told.map(|told| told.type_.as_str()).collect();
    assert!(!told.contains(&"HomesWithinLimit"), "{told:?}");
}

#[tokio::test]
async fn two_homes_of_one_user_are_an_event_once_and_no_matter_of_size() {
    let hub = hub(json!({}));
    let old = home("claim-has-2dhyphen", "has-hyphen", "10Gi");
    let new = home("claim-has-hyphen", "has-hyphen", "10Gi");
    let mut world = world(&hub, &[&old, &new]);
    world.settle().await;
    let words = ["claim-has-2dhyphen user has-hyphen has another home"];
    world.says(&hub, HomesWithinLimit, "True", Reason::Applied, &words);
    world.stays_as_it_is().await;
    let told = world.server.events_of("ClaimDuplicate");
    let told: Vec<_> = told
        .iter()
        .map(|event| (event.type_.as_str(), event.times))
        .collect();
    assert_eq!(told, [("Warning", 1)]);
    world.server.delete(&old);
    world.settle().await;
    let words = ["homes of 10Gi, 50Gi at most: 1"];
    world.says(&hub, HomesWithinLimit, "True", Reason::Applied, &words);
}

#[tokio::test]
async fn the_second_hub_of_a_namespace_lets_nothing_grow() {
    let first = hub_with("earth", "earth", json!({}));
    let mut second = hub(json!({}));
    second.metadata.name = Some("second".to_owned());
    let claim = home("claim-bob", "bob", "5Gi");
    let mut world = world(&first, &[&claim]);
    world.cloud.advance(std::time::Duration::from_secs(60));
    world.server.apply(&second);
    world.settle().await;
    assert_eq!(asks_for(&world, &claim), "5Gi");
    let reason = Reason::SecondHubStorage;
    world.says(&second, HomesWithinLimit, "Unknown", reason, &[]);
    let homes = |world: &World| world.hub(&second).status.unwrap().homes;
    assert_eq!(homes(&world), None);

    // It counts while the other is away, and no longer than that.
    world.server.delete(&first);
    world.settle().await;
    assert_eq!(asks_for(&world, &claim), "10Gi");
    assert!(homes(&world).is_some());
}

#[tokio::test]
async fn a_policy_that_is_missing_is_told_where_it_should_refuse_until_it_is_there() {
    for (on_oversize, reason) in [("Deny", Reason::PolicyMissing), ("Clamp", Reason::Applied)] {
        let hub = hub(json!({"onOversize": on_oversize}));
        let mut world = world(&hub, &[&home("claim-bob", "bob", "10Gi")]);
        let missing = GuardState::Missing {
            why: "ValidatingAdmissionPolicy hubstorage-homes: it does not exist".to_owned(),
        };
        let in_force = world.installed.policy_of_homes.send_replace(missing);
        world.settle().await;
        let is_told = reason == Reason::PolicyMissing;
        let (status, words) = match is_told {
            true => ("False", "hubstorage-homes: it does not exist"),
            false => ("True", "homes of 10Gi"),
        };
        world.says(&hub, HomesWithinLimit, status, reason, &[words]);
        assert!(world.is_ready(&hub), "pods are given their storage");
        world.installed.policy_of_homes.send_replace(in_force);
        world.retell(&hub).await.unwrap();
        world.says(&hub, HomesWithinLimit, "True", Reason::Applied, &[]);
    }
}

#[tokio::test]
async fn a_registration_without_the_webhook_for_claims_is_told_until_it_has_one() {
    let hub = hub(json!({}));
    let mut world = world(&hub, &[&home("claim-bob", "bob", "10Gi")]);
    world.webhook_is(WebhookState::Registered {
        address: Address::Service,
        for_claims: false,
    });
    world.settle().await;
    let words = [
        "homes of 10Gi",
        "no webhook claims.hubstorage.io; install again",
    ];
    let reason = Reason::WebhookMissing;
    world.says(&hub, HomesWithinLimit, "False", reason, &words);
    assert!(world.is_ready(&hub), "pods are given their storage");
    world.webhook_is(REGISTERED);
    world.settle().await;
    world.says(&hub, HomesWithinLimit, "True", Reason::Applied, &[]);
}
