//! `spec.shared`: folders whose claims are there, and those for which pods would wait.

use hubstorage::guard::GuardState;
use hubstorage_cloud::memory::Behaviour;
use hubstorage_core::api::{ConditionType, HubStorage, Reason};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::{Value, json};

use crate::fixtures::{home, hub_with};
use crate::world::World;

use ConditionType::{MountsReady, Ready, Stalled};

/// A hub with ~/shared on the claim `nfs`.
fn hub(fields: Value) -> HubStorage {
    let folder = json!({
        "name": "shared", "claimName": "nfs", "subPath": "_shared", "mountPath": "/home/jovyan/shared",
        "writers": {"subjects": [{"kind": "Group", "name": "admins"}], "mountPath": "/home/jovyan/shared-readwrite"},
    });
    let mut spec = json!({"shared": [folder]});
    json_patch::merge(&mut spec, &fields);
    hub_with("earth", "earth", spec)
}

/// A claim that all pods of the namespace can mount, once it is bound.
fn claim(name: &str) -> PersistentVolumeClaim {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "earth"},
        "spec": {
            "accessModes": ["ReadWriteMany"], "storageClassName": "nfs",
            "resources": {"requests": {"storage": "10Gi"}},
        },
    }))
    .unwrap()
}

fn bound(world: &World, claim: &PersistentVolumeClaim) {
    world.server.apply(claim);
    world.server.edit(claim, |claim| {
        claim["status"] = json!({"phase": "Bound", "accessModes": ["ReadWriteMany"]})
    });
}

fn known(world: &World, hub: &HubStorage) -> Value {
    json!(world.hub(hub).status.unwrap().shared)
}

#[tokio::test]
async fn a_claim_that_everybody_can_mount_is_told_for_admission_and_then_nothing_is_written() {
    let hub = hub(json!({}));
    let mut world = World::new(Behaviour::aws()).with(&hub);
    bound(&world, &claim("nfs"));
    world.settle().await;
    let words = [
        "shared: _shared of claim nfs at /home/jovyan/shared, to write at /home/jovyan/shared-readwrite",
    ];
    world.says(&hub, MountsReady, "True", Reason::Applied, &words);
    assert_eq!(
        known(&world, &hub),
        json!([{"name": "shared", "claimName": "nfs"}])
    );
    assert!(world.is_ready(&hub));
    world.stays_as_it_is().await;
}

#[tokio::test]
async fn a_claim_that_comes_and_goes_is_told_without_a_call_to_the_store() {
    let hub = hub(json!({}));
    let claim = claim("nfs");
    let mut world = World::new(Behaviour::aws()).with(&hub);
    world.settle().await;
    let missing = ["spec.shared[shared].claimName", "claim nfs is not"];
    let reason = Reason::ClaimMissing;
    world.says(&hub, MountsReady, "False", reason, &missing);
    world.says(&hub, Ready, "False", reason, &missing);
    world.stays_as_it_is().await;

    world.server.apply(&claim);
    let calls = world.cloud.calls();
    world.retell(&hub).await.unwrap();
    let reason = Reason::ClaimNotBound;
    world.says(
        &hub,
        MountsReady,
        "False",
        reason,
        &["kubectl describe pvc"],
    );
    bound(&world, &claim);
    world.retell(&hub).await.unwrap();
    world.says(&hub, MountsReady, "True", Reason::Applied, &[]);
    assert!(world.is_ready(&hub));
    world.server.delete(&claim);
    world.retell(&hub).await.unwrap();
    world.says(&hub, MountsReady, "False", Reason::ClaimMissing, &missing);
    assert_eq!(world.cloud.calls(), calls);
}

#[tokio::test]
async fn a_claim_of_another_namespace_is_not_there() {
    let hub = hub(json!({}));
    let mut elsewhere = claim("nfs");
    elsewhere.metadata.namespace = Some("mars".to_owned());
    let mut world = World::new(Behaviour::aws()).with(&hub);
    bound(&world, &elsewhere);
    world.settle().await;
    world.says(&hub, MountsReady, "False", Reason::ClaimMissing, &[]);
}

#[tokio::test]
async fn where_no_folder_is_declared_any_more_nothing_is_told_of_any() {
    let with = hub(json!({}));
    let mut world = World::new(Behaviour::aws()).with(&with);
    world.settle().await;
    world.says(&with, MountsReady, "False", Reason::ClaimMissing, &[]);
    world.server.apply(&hub_with("earth", "earth", json!({})));
    world.settle().await;
    assert_eq!(known(&world, &with), json!([]));
    let conditions = world.hub(&with).status.unwrap().conditions;
    let mut types = conditions.iter().map(|condition| &*condition.type_);
    assert!(!types.any(|type_| type_ == "MountsReady"));
    assert!(world.is_ready(&with));
}

#[tokio::test]
async fn a_hub_whose_provider_is_missing_tells_of_its_folders_all_the_same() {
    let hub = hub(json!({"providerRef": {"name": "none"}}));
    let mut world = World::new(Behaviour::aws()).with(&hub);
    bound(&world, &claim("nfs"));
    world.settle().await;
    world.says(&hub, Stalled, "True", Reason::ProviderNotFound, &[]);
    world.says(&hub, MountsReady, "True", Reason::Applied, &[]);
    world.server.delete(&claim("nfs"));
    world.retell(&hub).await.unwrap();
    world.says(&hub, MountsReady, "False", Reason::ClaimMissing, &[]);
}

#[tokio::test]
async fn while_nobody_looks_what_was_known_stands() {
    let hub = hub(json!({}));
    let mut world = World::new(Behaviour::aws()).with(&hub);
    bound(&world, &claim("nfs"));
    world.settle().await;
    let before = known(&world, &hub);
    let paused = self::hub(json!({"mode": "Paused"}));
    world.server.apply(&paused);
    world.server.delete(&claim("nfs"));
    world.settle().await;
    world.retell(&paused).await.unwrap();
    assert_eq!(known(&world, &paused), before);
}

/// Without, nothing would hold anybody to what is declared until somebody looks.
#[tokio::test]
async fn a_hub_that_is_paused_from_the_start_counts_for_the_policies() {
    let hub = hub(json!({"mode": "Paused"}));
    let mut world = World::new(Behaviour::aws()).with(&hub);
    bound(&world, &claim("nfs"));
    world.settle().await;
    let shared = world.hub(&hub).status.unwrap().shared;
    assert_eq!(shared.len(), 1);
    assert_eq!(shared[0].reason.as_deref(), Some("Progressing"));
    world.stays_as_it_is().await;
}

#[tokio::test]
async fn a_claim_that_is_a_home_is_there_all_the_same() {
    let hub = hub(json!({}));
    let claim = home("nfs", "bob", "10Gi");
    let mut world = World::new(Behaviour::aws()).with(&hub);
    bound(&world, &claim);
    world.settle().await;
    world.says(&hub, MountsReady, "True", Reason::Applied, &[]);
}

#[tokio::test]
async fn a_policy_that_is_missing_is_told_where_it_should_refuse_until_it_is_there() {
    let missing = || GuardState::Missing {
        why: "ValidatingAdmissionPolicy hubstorage-shared: it does not exist".to_owned(),
    };
    let policies = |world: &World| {
        let installed = &world.installed;
        [
            installed.policy_of_shared.clone(),
            installed.audit_of_shared.clone(),
        ]
    };
    for (fields, needed, words) in [
        (json!({}), 0, "may be let in"),
        (
            json!({"policy": {"enforcement": "Audit"}}),
            1,
            "may be told of nowhere",
        ),
        (json!({"mode": "Observe"}), 1, "may be told of nowhere"),
    ] {
        let hub = hub(fields);
        let mut world = World::new(Behaviour::aws()).with(&hub);
        bound(&world, &claim("nfs"));
        for (which, policy) in policies(&world).iter().enumerate() {
            let in_force = policy.send_replace(missing());
            world.settle().await;
            match which == needed {
                true => {
                    let words = ["hubstorage-shared: it does not exist", words];
                    let reason = Reason::PolicyMissing;
                    world.says(&hub, MountsReady, "False", reason, &words);
                }
                false => world.says(&hub, MountsReady, "True", Reason::Applied, &[]),
            }
            policy.send_replace(in_force);
            world.settle().await;
            world.says(&hub, MountsReady, "True", Reason::Applied, &[]);
        }
    }
}

/// By that status the admission policies know which HubStorage counts.
#[tokio::test]
async fn the_second_hub_of_a_namespace_tells_of_no_folder() {
    let first = hub_with("earth", "earth", json!({}));
    let mut second = hub(json!({}));
    second.metadata.name = Some("second".to_owned());
    let mut world = World::new(Behaviour::aws()).with(&first);
    bound(&world, &claim("nfs"));
    world.cloud.advance(std::time::Duration::from_secs(60));
    world.server.apply(&second);
    world.settle().await;
    assert_eq!(known(&world, &second), json!([]));
    let reason = Reason::SecondHubStorage;
    world.says(&second, MountsReady, "Unknown", reason, &[]);

    world.server.delete(&first);
    world.settle().await;
    world.says(&second, MountsReady, "True", Reason::Applied, &[]);
}
