//! One HubUser for each user who has a pod.

use std::collections::BTreeMap;

use hubstorage_cloud::faults::{Fault, FaultPlan};
use hubstorage_cloud::memory::Behaviour;
use hubstorage_core::api::{AccessMode, ConditionType, HubUser, STAMP_ANNOTATION, condition};
use hubstorage_core::names::{Prefix, PrefixScheme, Username};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use serde_json::json;

use crate::fixtures::{HUB_ACCOUNT, hub, hub_with, notebook};
use crate::world::World;

async fn settled_with(pods: &[Pod]) -> World {
    let world = World::new(Behaviour::aws()).with(&hub());
    let mut world = pods.iter().fold(world, |world, pod| world.with(pod));
    world.settle().await;
    world
}

fn users(world: &World) -> Vec<HubUser> {
    world.server.list()
}

fn names(world: &World) -> Vec<String> {
    let mut names: Vec<_> = users(world)
        .into_iter()
        .map(|user| user.spec.username)
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_user_with_a_pod_gets_one_object_that_the_hub_owns() {
    let world = settled_with(&[
        notebook("jupyter-bob", "bob", HUB_ACCOUNT),
        notebook("jupyter-bob--two", "bob", HUB_ACCOUNT),
    ])
    .await;
    let all = users(&world);
    assert_eq!(all.len(), 1);
    assert_eq!(
        all[0].owner_references()[0].uid,
        world.hub(&hub()).uid().unwrap()
    );
    assert_eq!(
        all[0].status.clone().unwrap().prefix.as_deref(),
        Some("bob")
    );
    assert_eq!(all[0].status.clone().unwrap().observed_generation, 1);
}

#[tokio::test]
async fn pods_that_nobody_of_the_hub_made_tell_nothing() {
    let mut unstamped = notebook("unstamped", "eve", HUB_ACCOUNT);
    unstamped.annotations_mut().remove(STAMP_ANNOTATION);
    let mut other = notebook("other", "eve", HUB_ACCOUNT);
    other
        .labels_mut()
        .insert("component".to_owned(), "image-puller".to_owned());
    let mut nameless = notebook("nameless", "", HUB_ACCOUNT);
    nameless
        .annotations_mut()
        .remove("hub.jupyter.org/username");
    let world = settled_with(&[
        unstamped,
        other,
        nameless,
        notebook("empty", "", HUB_ACCOUNT),
        notebook("forged", "eve", "system:serviceaccount:mars:hub"),
        notebook("by-hand", "eve", "kubernetes-admin"),
    ])
    .await;
    assert_eq!(names(&world), Vec::<String>::new());
    assert_eq!(world.hub(&hub()).status.unwrap().users, Some(0));
}

#[tokio::test]
async fn the_count_follows_the_objects_and_a_steady_state_writes_nothing() {
    let mut world = settled_with(&[notebook("jupyter-bob", "bob", HUB_ACCOUNT)]).await;
    assert_eq!(world.hub(&hub()).status.unwrap().users, Some(1));
    world
        .server
        .apply(&notebook("jupyter-ann", "ann", HUB_ACCOUNT));
    world.settle().await;
    assert_eq!(world.hub(&hub()).status.unwrap().users, Some(2));
    world.stays_as_it_is().await;
}

#[tokio::test]
async fn what_an_admin_set_survives_pods_edits_and_restarts() {
    let mut world = settled_with(&[notebook("jupyter-bob", "bob", HUB_ACCOUNT)]).await;
    let bob = users(&world).remove(0);
    world
        .server
        .edit(&bob, |bob| bob["spec"]["access"] = json!("Suspended"));
    world
        .server
        .apply(&notebook("jupyter-bob--two", "bob", HUB_ACCOUNT));
    world.restart();
    world.settle().await;
    let bob = world.server.get(&bob).unwrap();
    assert_eq!(bob.spec.access, AccessMode::Suspended);
    assert_eq!(bob.status.unwrap().observed_generation, 2);
    world.stays_as_it_is().await;
}

#[tokio::test]
async fn a_user_stays_when_the_pod_goes() {
    let mut world = settled_with(&[notebook("jupyter-bob", "bob", HUB_ACCOUNT)]).await;
    world
        .server
        .delete(&notebook("jupyter-bob", "bob", HUB_ACCOUNT));
    world.settle().await;
    assert_eq!(names(&world), ["bob"]);
}

#[tokio::test]
async fn an_object_that_was_deleted_while_its_user_has_a_pod_is_made_again() {
    let mut world = settled_with(&[notebook("jupyter-bob", "bob", HUB_ACCOUNT)]).await;
    world.server.delete(&users(&world)[0]);
    world.settle().await;
    assert_eq!(names(&world), ["bob"]);
    assert_eq!(world.hub(&hub()).status.unwrap().users, Some(1));
}

#[tokio::test]
async fn hostile_names_each_get_an_object_and_a_prefix_of_their_own() {
    let hostile = [
        "*",
        "?",
        "${aws:username}",
        "bob/../ann",
        "Bob",
        "bob",
        "b ob",
        "bób",
        "../ann",
        "x--bob",
        "-",
    ];
    let pods: Vec<Pod> = hostile
        .iter()
        .enumerate()
        .map(|(at, name)| notebook(&format!("pod-{at}"), name, HUB_ACCOUNT))
        .collect();
    let world = settled_with(&pods).await;
    let all: BTreeMap<String, String> = users(&world)
        .into_iter()
        .map(|user| (user.spec.username, user.status.unwrap().prefix.unwrap()))
        .collect();
    for name in hostile {
        let wanted = Prefix::of(&Username::parse(name).unwrap(), PrefixScheme::Escaped).unwrap();
        assert_eq!(all[name], wanted.to_string());
    }
    let prefixes: std::collections::BTreeSet<_> = all.values().collect();
    assert_eq!(prefixes.len(), hostile.len(), "{all:?}");
}

#[tokio::test]
async fn a_name_that_is_not_safe_under_raw_gets_an_object_without_a_prefix() {
    let raw = hub_with("earth", "earth", json!({"users": {"prefixScheme": "Raw"}}));
    let mut world = World::new(Behaviour::aws())
        .with(&raw)
        .with(&notebook("star", "*", HUB_ACCOUNT))
        .with(&notebook("bob", "bob", HUB_ACCOUNT));
    world.settle().await;
    let all: BTreeMap<String, Option<String>> = users(&world)
        .into_iter()
        .map(|user| (user.spec.username, user.status.unwrap().prefix))
        .collect();
    assert_eq!(all["*"], None);
    assert_eq!(all["bob"].as_deref(), Some("bob"));
    let mut star = users(&world);
    star.retain(|user| user.spec.username == "*");
    let (_, reason, message) = says(&world, &star[0], ConditionType::Stalled);
    assert_eq!(reason, "UsernameUnsafe");
    assert!(message.contains("prefixScheme Raw"), "{message}");
    world.stays_as_it_is().await;
}

#[tokio::test]
async fn a_name_longer_than_jupyterhub_allows_is_nobody() {
    let (longest, longer) = ("ä".repeat(255), "a".repeat(256));
    let world = settled_with(&[
        notebook("longer", &longer, HUB_ACCOUNT),
        notebook("longest", &longest, HUB_ACCOUNT),
    ])
    .await;
    assert_eq!(names(&world), [longest]);
}

#[tokio::test]
async fn a_user_whose_object_cannot_be_written_stands_in_nobody_elses_way() {
    let mut world = World::new(Behaviour::aws())
        .with(&hub())
        .with(&notebook("jupyter-ann", "ann", HUB_ACCOUNT))
        .with(&notebook("jupyter-zoe", "zoe", HUB_ACCOUNT));
    world.inject(FaultPlan::at(0, Fault::Error));
    let failed = world.reconcile_users(&hub()).await.unwrap_err();
    assert!(failed.contains("HubUser earth/ann-"), "{failed}");
    assert_eq!(names(&world), ["zoe"]);
    world.settle().await;
    assert_eq!(names(&world), ["ann", "zoe"]);
}

#[tokio::test]
async fn pods_of_another_namespace_and_a_second_hub_make_no_users() {
    let mut stray = notebook("stray", "eve", HUB_ACCOUNT);
    stray.metadata.namespace = Some("mars".to_owned());
    let mut world = settled_with(&[stray, notebook("jupyter-bob", "bob", HUB_ACCOUNT)]).await;
    world.server.apply(&hub_with("earth", "second", json!({})));
    world.settle().await;
    assert_eq!(names(&world), ["bob"]);
    assert_eq!(users(&world)[0].spec.hub_ref.name, "earth");
}

/// A HubUser as somebody writes it by hand.
fn by_hand(name: &str, hub: &str, fields: serde_json::Value) -> HubUser {
    let mut spec = json!({"hubRef": {"name": hub}, "username": "eve"});
    json_patch::merge(&mut spec, &fields);
    let mut user = HubUser::new(name, serde_json::from_value(spec).unwrap());
    user.metadata.namespace = Some("earth".to_owned());
    user
}

fn says(world: &World, user: &HubUser, type_: ConditionType) -> (String, String, String) {
    let status = world.server.get(user).unwrap().status.unwrap();
    let found = condition(&status.conditions, type_).expect("the condition is there");
    let Condition {
        status,
        reason,
        message,
        ..
    } = found.clone();
    (status, reason, message)
}

#[tokio::test]
async fn one_that_an_admin_made_has_a_prefix_and_says_that_it_suspends() {
    let eve = by_hand("locked-out", "earth", json!({"access": "Suspended"}));
    let world = World::new(Behaviour::aws()).with(&hub()).with(&eve);
    let mut world = world.with(&notebook("jupyter-eve", "eve", HUB_ACCOUNT));
    world.settle().await;
    assert_eq!(users(&world).len(), 2, "the operator's, and the admin's");
    assert_eq!(world.hub(&hub()).status.unwrap().users, Some(1), "one user");
    for user in users(&world) {
        assert_eq!(user.status.clone().unwrap().prefix.as_deref(), Some("eve"));
        let (ready, _, message) = says(&world, &user, ConditionType::Ready);
        assert_eq!(ready, "True");
        assert!(
            message.contains("suspended by HubUser locked-out"),
            "{message}"
        );
    }
    world.stays_as_it_is().await;
}

#[tokio::test]
async fn one_that_names_no_hub_of_the_namespace_says_so_and_counts_nobody() {
    let stray = by_hand("stray", "erath", json!({}));
    let mut world = World::new(Behaviour::aws()).with(&hub()).with(&stray);
    world.settle().await;
    let (status, reason, message) = says(&world, &stray, ConditionType::Stalled);
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("True", "HubStorageNotFound")
    );
    assert!(
        message.contains("erath") && message.contains("which is earth"),
        "{message}"
    );
    assert_eq!(says(&world, &stray, ConditionType::Ready).0, "False");
    let status = world.server.get(&stray).unwrap().status.unwrap();
    assert_eq!((status.observed_generation, status.prefix), (1, None));
    assert_eq!(world.hub(&hub()).status.unwrap().users, Some(0));
    world.stays_as_it_is().await;
}
