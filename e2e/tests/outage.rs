//! The operator's processes end, and come back. Alone in its binary: cargo runs test binaries one
//! after the other, so nothing else needs what is down here. What status and events say of it is
//! read on the way.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

#[path = "control_plane/clients.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod clients;
#[path = "control_plane/hub.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod hub;

use std::time::Duration;

use clients::{AT_ONCE, Client, Revocable, all_write_and_read};
use futures::future::join_all;
use hub::{Hub, failed, said};
use hubstorage_e2e::{HostPod, Platform, giving_back};
use k8s_openapi::jiff::SignedDuration;
use serde_json::json;
use tokio::sync::Mutex;

/// Bounds a hang; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Clients of botocore want new credentials so long before their end, and can do without; the others want
/// none yet.
const IN_A_WHILE: SignedDuration = SignedDuration::from_mins(12);

/// The clients of botocore.
const OF_BOTOCORE: [&str; 5] = ["boto3", "boto3-old", "s3fs", "s3fs-old", "aiobotocore"];

/// The tests here stop what the others need: one at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

const ASK: &str =
    "import boto3; print(boto3.Session().get_credentials().get_frozen_credentials().access_key)";

#[tokio::test]
async fn without_a_broker_users_are_told_so_pods_are_still_made_and_all_comes_back_by_itself() {
    let _alone = ALONE.lock().await;
    let hub = Hub::ready("outage").await;
    let alice = hub.pod("alice", "alice").await;
    said(&alice, ASK).await;
    let replicas = ["serve-1", "serve-2"];
    let outage = async {
        for replica in replicas {
            hub.platform.stop(replica).await.unwrap();
        }
        users_are_told_of_an_outage(&hub, &alice).await;
    };

    giving_back(outage, bring_back(&hub.platform, &replicas)).await;

    hub.until("credentials to be back", async || {
        alice.python(ASK).await.is_ok()
    })
    .await;
    hub.kubectl(&[
        "delete",
        "pod",
        "jupyter-bob",
        "-n",
        &hub.namespace,
        "--now",
    ])
    .await;
    hub.until_condition("hs/hub", "InjectionReady", "True", "Applied")
        .await;
    hub.remove().await;
}

async fn users_are_told_of_an_outage(hub: &Hub, alice: &HostPod) {
    let error = failed(alice, ASK).await;
    assert!(error.contains("BrokerUnreachable"), "{error}");
    assert!(
        error.contains("by themselves"),
        "the way out is not told: {error}"
    );
    // The webhook is down with it: a pod is made all the same, with less and never with more.
    let bob = hub.pod("bob", "bob").await;
    assert!(!bob.environment().unwrap().contains_key("SCRATCH_BUCKET"));
    let told = hub
        .until_condition("hs/hub", "InjectionReady", "False", "NotInjected")
        .await;
    assert!(told.contains("1: jupyter-bob."), "{told}");
    let told = hub
        .until_condition("hs/hub", "IsolationReady", "Unknown", "PodsUnverified")
        .await;
    assert!(told.contains("1: jupyter-bob."), "{told}");
    let events = [
        "events",
        "--field-selector=reason=NotInjected,involvedObject.kind=Pod",
        "-o=jsonpath={.items[*].involvedObject.name}",
    ];
    assert_eq!(hub.get(&events).await, "jupyter-bob");
    hub.until_ready().await;
}

#[tokio::test]
async fn an_outage_of_the_broker_is_not_noticed_by_clients_whose_sessions_last() {
    let _alone = ALONE.lock().await;
    let hub = Hub::ready("short").await;
    let alice = hub.pod("alice", "alice").await;
    let mut clients = Client::all(&hub, &alice, IN_A_WHILE).await;
    all_write_and_read(&mut clients, "before").await;
    let replicas = ["serve-1", "serve-2"];
    let outage = async {
        for replica in replicas {
            hub.platform.stop(replica).await.unwrap();
        }
        all_write_and_read(&mut clients, "during").await;
        all_write_and_read(&mut clients, "still").await;
        // Those that want new credentials have asked for some, in vain.
        let in_vain = clients.iter().filter(|client| client.refused() > 0);
        let in_vain: Vec<_> = in_vain.map(|client| client.name).collect();
        assert_eq!(in_vain, OF_BOTOCORE);
    };

    giving_back(outage, bring_back(&hub.platform, &replicas)).await;

    all_write_and_read(&mut clients, "afterwards").await;
    drop(clients);
    hub.remove().await;
}

#[tokio::test]
async fn after_an_outage_of_the_broker_that_outlasts_sessions_the_same_clients_go_on_by_themselves()
{
    let _alone = ALONE.lock().await;
    let long = Revocable::ready("long").await;
    let alice = long.hub.pod("alice", "alice").await;
    let mut clients = Client::all(&long.hub, &alice, AT_ONCE).await;
    all_write_and_read(&mut clients, "before").await;
    let replicas = ["serve-1", "serve-2"];
    // object_store asks again and again, for longer than this outage lasts: it waits for its end.
    let (mut waits, mut give_up): (Vec<_>, Vec<_>) = clients
        .into_iter()
        .partition(|client| client.name == "obstore");
    let outage = async {
        for replica in replicas {
            long.hub.platform.stop(replica).await.unwrap();
        }
        long.revoke_sessions().await;
        // And so they end for the clients, too.
        tokio::time::sleep(AT_ONCE.try_into().unwrap()).await;
        let during = give_up
            .iter_mut()
            .map(|client| client.write_and_read("during"));
        for said in join_all(during).await {
            assert!(said.starts_with("failed"), "{said}");
        }
    };
    let waiting = async { waits[0].write_and_read("all along").await };

    let outage = giving_back(outage, bring_back(&long.hub.platform, &replicas));
    let ((), waited) = tokio::join!(outage, waiting);

    assert_eq!(waited, "done");
    for client in waits.iter_mut().chain(&mut give_up) {
        recovered(client).await;
    }
    drop((waits, give_up));
    long.remove().await;
}

/// Waits until a client works again, which nobody helps it to.
async fn recovered(client: &mut Client) {
    let recovers = async { while client.write_and_read("afterwards").await != "done" {} };
    let recovered = tokio::time::timeout(PATIENCE, recovers).await;
    assert!(recovered.is_ok(), "{} has not recovered", client.name);
}

#[tokio::test]
async fn a_node_without_its_agent_is_told_of_until_nothing_is_missing() {
    let _alone = ALONE.lock().await;
    let hub = Hub::ready("agents").await;
    // No kubelet runs it: it stays unavailable on every node.
    let labels = json!({"app.kubernetes.io/name": "hubstorage-agent"});
    let agents = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "hubstorage-agent", "namespace": "hubstorage-agents"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "agent", "image": "agent"}]},
            },
        },
    });
    let unavailable = async {
        hub.apply(&agents).await;
        let told = hub
            .until_condition("hs/hub", "InjectionReady", "False", "AgentsUnavailable")
            .await;
        assert!(told.contains("runs on 0 of"), "{told}");
        hub.until_ready().await;
    };

    giving_back(unavailable, async {
        let agents = ["ds/hubstorage-agent", "-n", "hubstorage-agents"];
        hub.kubectl(&[&["delete", "--ignore-not-found"], &agents[..]].concat())
            .await;
    })
    .await;

    hub.until_condition("hs/hub", "InjectionReady", "True", "Applied")
        .await;
    hub.remove().await;
}

#[tokio::test]
async fn one_replica_is_enough() {
    let _alone = ALONE.lock().await;
    let hub = Hub::ready("replica").await;
    let alice = hub.pod("alice", "alice").await;
    let with_one = async {
        hub.platform.stop("serve-2").await.unwrap();
        said(&alice, ASK).await;
        let bob = hub.pod("bob", "bob").await;
        said(&bob, ASK).await;
    };

    giving_back(with_one, bring_back(&hub.platform, &["serve-2"])).await;

    hub.remove().await;
}

/// Starts what was stopped, in the platform that runs. `up` could be of another extent.
async fn bring_back(platform: &Platform, replicas: &[&str]) {
    let e2e = env!("CARGO_BIN_EXE_e2e");
    for replica in replicas {
        platform.start(e2e, replica).await.unwrap();
    }
}
