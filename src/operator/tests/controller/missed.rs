//! User pods that the webhook missed, and parts of the installation that do not run: what status
//! and events say of them, and how often.

use std::time::Duration;

use hubstorage::certificates::{Address, WebhookState};
use hubstorage::controller::{AgentsGap, Parts};
use hubstorage_cloud::faults::{Fault, FaultPlan};
use hubstorage_cloud::memory::Behaviour;
use hubstorage_core::api::{ConditionType, Reason, STAMP_ANNOTATION};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde_json::json;

use crate::api_server::Event;
use crate::fixtures::{HUB_ACCOUNT, hub, hub_with, notebook};
use crate::world::World;

use ConditionType::{InjectionReady, IsolationReady, Ready};

/// A user's pod as it is created while the webhook does not answer.
fn missed(name: &str) -> Pod {
    let mut pod = notebook(name, "bob", HUB_ACCOUNT);
    pod.annotations_mut().remove(STAMP_ANNOTATION);
    pod
}

async fn settled() -> World {
    let mut world = World::new(Behaviour::aws()).with(&hub());
    world.settle().await;
    world
}

async fn settled_after(missing: &[&str]) -> World {
    let mut world = settled().await;
    for name in missing {
        world.server.apply(&missed(name));
    }
    world.settle().await;
    world
}

/// The events on pods.
fn told(world: &World) -> Vec<String> {
    let events = world
        .server
        .events_of("NotInjected")
        .into_iter()
        .filter(|event| event.about.starts_with("Pod "));
    let mut about: Vec<_> = events.map(|event| event.about).collect();
    about.sort();
    about
}

#[tokio::test]
async fn a_pod_that_was_missed_is_told_of_on_itself_and_in_the_hubs_status() {
    let world = settled_after(&["jupyter-bob"]).await;

    let event = &world.server.events_of("NotInjected")[0];
    let about = "Pod jupyter-bob".to_owned();
    let type_ = "Warning".to_owned();
    assert_eq!((&event.about, &event.type_), (&about, &type_));
    assert!(event.note.contains("start it again"), "{}", event.note);
    world.says(
        &hub(),
        InjectionReady,
        "False",
        Reason::NotInjected,
        &["1: jupyter-bob", "start them again"],
    );
}

#[tokio::test]
async fn a_pod_that_was_missed_moves_neither_readiness_nor_isolation() {
    let world = settled_after(&["jupyter-bob"]).await;

    assert!(world.is_ready(&hub()));
    let reason = Reason::ProbePending;
    world.says(&hub(), IsolationReady, "Unknown", reason, &[]);
}

#[tokio::test]
async fn a_pod_is_told_of_once_and_a_steady_state_writes_nothing() {
    let mut world = settled_after(&["jupyter-bob", "jupyter-ann"]).await;

    world.stays_as_it_is().await;
    assert_eq!(told(&world), ["Pod jupyter-ann", "Pod jupyter-bob"]);
}

#[tokio::test]
async fn a_new_process_tells_of_no_pod_again() {
    let mut world = settled_after(&["jupyter-bob"]).await;
    world.restart();
    world.settle().await;
    assert_eq!(told(&world).len(), 1);

    // When the event has expired, status still tells of the pod: nothing is even asked.
    world.cloud.advance(Duration::from_secs(3600));
    world.settle().await;
    world.restart();
    world.stays_as_it_is().await;
    assert_eq!(told(&world).len(), 1);
}

#[tokio::test]
async fn old_pods_that_a_new_hub_finds_are_told_of_too() {
    let mut world = World::new(Behaviour::aws()).with(&missed("jupyter-bob"));
    world.cloud.advance(Duration::from_secs(86_400));
    world.server.apply(&hub());
    world.settle().await;

    assert_eq!(told(&world), ["Pod jupyter-bob"]);
    world.stays_as_it_is().await;
}

#[tokio::test]
async fn three_pods_are_named_and_all_are_counted() {
    let mut world = settled_after(&["e", "c", "a", "d", "b"]).await;

    let message = ["5: a, b, c and 2 more"];
    world.says(
        &hub(),
        InjectionReady,
        "False",
        Reason::NotInjected,
        &message,
    );
    world.stays_as_it_is().await;
}

#[tokio::test]
async fn when_they_are_gone_all_is_well_again() {
    let mut world = settled_after(&["jupyter-bob"]).await;
    world.server.edit(&missed("jupyter-bob"), |pod| {
        pod["metadata"]["finalizers"] = json!(["held"]);
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    world.settle().await;

    world.says(&hub(), InjectionReady, "True", Reason::Applied, &[]);
    world.stays_as_it_is().await;
}

#[tokio::test]
async fn a_pod_of_the_same_name_is_told_of_anew() {
    let mut world = settled_after(&["jupyter-bob"]).await;
    world.server.delete(&missed("jupyter-bob"));
    world.server.apply(&missed("jupyter-bob"));
    world.settle().await;

    assert_eq!(told(&world).len(), 2);
}

#[tokio::test]
async fn pods_of_others_and_stamped_ones_are_not_spoken_of() {
    let mut world = settled().await;
    let mut elsewhere = missed("elsewhere");
    elsewhere.metadata.namespace = Some("mars".to_owned());
    let mut puller = missed("puller");
    puller
        .labels_mut()
        .insert("component".to_owned(), "image-puller".to_owned());
    world.server.apply(&elsewhere);
    world.server.apply(&puller);
    world
        .server
        .apply(&notebook("by-hand", "eve", "kubernetes-admin"));
    world.settle().await;

    assert_eq!(told(&world), Vec::<String>::new());
    world.says(&hub(), InjectionReady, "True", Reason::Applied, &[]);
}

#[tokio::test]
async fn of_two_hubs_the_first_one_speaks() {
    let mut world = settled_after(&["jupyter-bob"]).await;
    let second = hub_with("earth", "second", json!({}));
    world.server.apply(&second);
    world.settle().await;

    world.says(&second, InjectionReady, "True", Reason::Applied, &[]);
    assert_eq!(told(&world).len(), 1);
}

#[tokio::test]
async fn an_event_that_was_refused_is_published_later() {
    let mut world = settled().await;
    world.server.apply(&missed("jupyter-bob"));
    let plan = world.inject(FaultPlan::none());
    world.settle().await;
    let calls = plan.calls();
    let publishing = calls
        .iter()
        .position(|call| call.contains("POST events"))
        .unwrap();

    for fault in Fault::ALL {
        let mut world = settled().await;
        world.trial = format!("{fault:?}");
        world.server.apply(&missed("jupyter-bob"));
        let plan = world.inject(FaultPlan::at(publishing, fault));
        while plan.calls().len() <= publishing {
            world.round().await;
        }
        if plan.has_crashed() {
            plan.restart();
            world.restart();
        }
        world.settle().await;
        assert_eq!(told(&world), ["Pod jupyter-bob"], "{fault:?}");
        world.stays_as_it_is().await;
    }
}

/// What `about` was told since `from`, by reason.
fn since(world: &World, from: usize) -> Vec<(String, String)> {
    let events = world.server.events().split_off(from);
    let short = |event: Event| (event.type_, event.reason);
    events.into_iter().map(short).collect()
}

#[tokio::test]
async fn without_serve_the_hub_is_not_ready_and_with_it_it_is_again() {
    let mut world = settled().await;
    let before = world.server.events().len();
    world.parts_are(Parts {
        serve_is_gone: true,
        agents: None,
    });
    world.settle().await;

    let reason = Reason::WebhookUnavailable;
    let told = ["hubstorage-system/hubstorage-serve"];
    world.says(&hub(), InjectionReady, "False", reason, &told);
    world.says(&hub(), Ready, "False", reason, &told);
    world.stays_as_it_is().await;
    world.parts_are(Parts::default());
    world.settle().await;
    assert!(world.is_ready(&hub()));
    let pair = |type_: &str, reason: &str| (type_.to_owned(), reason.to_owned());
    assert_eq!(
        since(&world, before),
        [
            pair("Warning", "WebhookUnavailable"),
            pair("Normal", "Ready")
        ]
    );
}

#[tokio::test]
async fn when_serve_is_back_the_pods_that_were_missed_meanwhile_are_still_told_of() {
    let mut world = settled().await;
    world.parts_are(Parts {
        serve_is_gone: true,
        agents: None,
    });
    world.settle().await;
    world.server.apply(&missed("jupyter-bob"));
    world.settle().await;
    let before = world.server.events().len();
    world.parts_are(Parts::default());
    world.settle().await;

    world.says(
        &hub(),
        InjectionReady,
        "False",
        Reason::NotInjected,
        &["jupyter-bob"],
    );
    let told: Vec<String> = since(&world, before)
        .into_iter()
        .map(|(_, reason)| reason)
        .collect();
    assert_eq!(told, ["Ready", "NotInjected"]);
}

#[tokio::test]
async fn a_webhook_that_is_called_elsewhere_does_not_need_the_service() {
    let mut world = settled().await;
    world.webhook_is(WebhookState::Registered {
        address: Address::Elsewhere,
        for_claims: true,
    });
    world.parts_are(Parts {
        serve_is_gone: true,
        agents: None,
    });
    world.settle().await;

    world.says(&hub(), InjectionReady, "True", Reason::Applied, &[]);
}

#[tokio::test]
async fn missing_agents_are_told_of_once_and_readiness_stays() {
    let mut world = settled().await;
    let before = world.server.events().len();
    let gap = AgentsGap::Missing { on: 0, of: 1 };
    world.parts_are(Parts {
        serve_is_gone: false,
        agents: Some(gap),
    });
    world.settle().await;

    let reason = Reason::AgentsUnavailable;
    let told = ["on 0 of 1 nodes", "by themselves"];
    world.says(&hub(), InjectionReady, "False", reason, &told);
    assert!(world.is_ready(&hub()));
    world.stays_as_it_is().await;
    world.parts_are(Parts::default());
    world.settle().await;
    world.says(&hub(), InjectionReady, "True", Reason::Applied, &[]);
    let pair = |type_: &str, reason: &str| (type_.to_owned(), reason.to_owned());
    assert_eq!(
        since(&world, before),
        [
            pair("Warning", "AgentsUnavailable"),
            pair("Normal", "Applied")
        ]
    );
}
