//! What was seen is believed while the watches live, and not much longer.

use std::time::Duration;

use hubstorage::controller::Watches;
use hubstorage::guard::{self, GuardKind, GuardState};
use hubstorage::pulse::{Cadence, Pulses};
use hubstorage_cloud::memory::Behaviour;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api_server::ApiServer;
use crate::hub::{BOBS_ADDRESS, Hub};
use crate::log_everything;

/// Bounds a hang; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(60);

/// As in the cluster, in seconds for minutes.
const CADENCE: Cadence = Cadence {
    renew: 1,
    patience: Duration::from_secs(4),
};

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_watches_fail_answers_that_it_is_not_ready_until_they_are_back() {
    log_everything();
    let hub = Hub::start_at(Behaviour::minio(), false, CADENCE).await;
    hub.vended().await;

    hub.api.cut_watches(true);

    let answer = hub.refused("NotReady").await;
    let message = answer.body["message"].as_str().unwrap();
    assert!(
        answer.status == 503 && message.contains("the watch of"),
        "{answer:?}"
    );
    assert!(hub.readiness.check().is_err());
    hub.api.cut_watches(false);
    hub.vended().await;
    assert_eq!(hub.readiness.check(), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_that_have_nothing_to_tell_are_believed() {
    log_everything();
    let hub = Hub::start_at(Behaviour::minio(), false, CADENCE).await;
    hub.vended().await;
    let renewals = |resource: &str| {
        let calls = hub.api.calls();
        let of_resource =
            |call: &&String| call.contains(&format!("/{resource}?")) && call.contains("watch=true");
        calls.iter().filter(of_resource).count()
    };

    // A second each: longer than anything is believed without a sign of life.
    let quiet = async {
        for resource in ["hubstorages", "storageproviders", "hubusers", "pods"] {
            while renewals(resource) < 7 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, quiet).await.unwrap();

    assert_eq!(hub.readiness.check(), Ok(()));
    let answer = hub.ask(&hub.bobs_token(), BOBS_ADDRESS).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_is_no_longer_seen_is_missing_until_it_is_seen_again() {
    log_everything();
    let api = ApiServer::start(json!({"keys": []})).await;
    for document in guard::documents() {
        let mut object = document.object();
        object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        object["metadata"]["generation"] = json!(1);
        api.put(
            &format!("{}/{}", document.kind.plural(), document.name),
            object,
        );
    }
    let stop = CancellationToken::new();
    let _ended = stop.clone().drop_guard();
    let mut state = guard::watch_at(api.client(), CADENCE, stop);
    let in_force = |state: &GuardState| matches!(state, GuardState::InForce { .. });
    until(&mut state, in_force).await;

    api.cut_watches(true);

    let missing = until(&mut state, |state| !in_force(state)).await;
    let GuardState::Missing { why } = missing else {
        panic!("{missing:?}");
    };
    let policies = GuardKind::Policy.plural();
    let bindings = GuardKind::Binding.plural();
    assert!(
        why.contains("the watch of") && (why.contains(policies) || why.contains(bindings)),
        "{why}"
    );
    api.cut_watches(false);
    until(&mut state, in_force).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_was_changed_long_ago_does_not_count_from_a_restart_of_its_reader() {
    log_everything();
    let api = ApiServer::start(json!({"keys": []})).await;
    for document in guard::documents() {
        let mut object = document.object();
        object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        object["metadata"]["generation"] = json!(3);
        object["metadata"]["managedFields"] =
            json!([{"manager": "kubectl", "operation": "Apply", "time": "2026-03-03T00:00:00Z"}]);
        let key = format!("{}/{}", document.kind.plural(), document.name);
        api.put(&key, object);
    }
    let stop = CancellationToken::new();
    let _ended = stop.clone().drop_guard();

    let mut state = guard::watch_at(api.client(), CADENCE, stop);

    let in_force = |state: &GuardState| matches!(state, GuardState::InForce { .. });
    let GuardState::InForce { since } = until(&mut state, in_force).await else {
        unreachable!("it is in force");
    };
    assert!(since.to_string().starts_with("2026-03-03T00:"), "{since}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_whose_watches_fail_says_so_until_they_are_back() {
    log_everything();
    let api = ApiServer::start(json!({"keys": []})).await;
    let pulses = Pulses::default();
    let watches = Watches::start(&api.client(), &CADENCE, &pulses);
    let listed = tokio::time::timeout(PATIENCE, watches.listed.wait());
    listed.await.unwrap();
    assert_eq!(pulses.check(), Ok(()));
    let until = async |silent: bool| {
        let told = async {
            while pulses.check().is_err() != silent {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, told).await.unwrap();
    };

    api.cut_watches(true);

    until(true).await;
    let why = pulses.check().unwrap_err();
    assert!(why.contains("the watch of"), "{why}");
    api.cut_watches(false);
    until(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reconcile_that_waits_for_the_lists_goes_on_when_they_are_there() {
    log_everything();
    let api = ApiServer::start(json!({"keys": []})).await;
    api.hold_lists(true);
    let watches = Watches::start(&api.client(), &CADENCE, &Pulses::default());
    // More than reconciles run at once, each a task of its own.
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let listed = watches.listed.clone();
            tokio::spawn(async move { listed.wait().await })
        })
        .collect();
    tokio::task::yield_now().await;

    api.hold_lists(false);

    let all = futures::future::join_all(waiting);
    tokio::time::timeout(PATIENCE, all).await.unwrap();
}

async fn until(
    state: &mut watch::Receiver<GuardState>,
    is: impl FnMut(&GuardState) -> bool,
) -> GuardState {
    let waiting = tokio::time::timeout(PATIENCE, state.wait_for(is));
    waiting.await.unwrap().unwrap().clone()
}
