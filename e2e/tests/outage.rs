//! The operator's processes end, and come back. Alone in its binary: cargo runs test binaries one
//! after the other, so nothing else needs what is down here.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

#[path = "control_plane/hub.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod hub;

use hub::{Hub, failed, said};
use tokio::sync::Mutex;
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
    for replica in ["serve-1", "serve-2"] {
        hub.platform.stop(replica).await.unwrap();
    }

    let error = failed(&alice, ASK).await;
    assert!(error.contains("BrokerUnreachable"), "{error}");
    assert!(
        error.contains("by themselves"),
        "the way out is not told: {error}"
    );
    // The webhook is down with it: a pod is made all the same, with less and never with more.
    let bob = hub.pod("bob", "bob").await;
    assert!(!bob.environment().unwrap().contains_key("SCRATCH_BUCKET"));

    bring_back().await;
    hub.until("credentials to be back", async || {
        alice.python(ASK).await.is_ok()
    })
    .await;
    hub.remove().await;
}

#[tokio::test]
async fn one_replica_is_enough() {
    let _alone = ALONE.lock().await;
    let hub = Hub::ready("replica").await;
    let alice = hub.pod("alice", "alice").await;
    hub.platform.stop("serve-2").await.unwrap();

    said(&alice, ASK).await;
    let bob = hub.pod("bob", "bob").await;
    said(&bob, ASK).await;

    bring_back().await;
    hub.remove().await;
}

/// `make up` starts what does not run.
async fn bring_back() {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_e2e"))
        .arg("up")
        .output()
        .await
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
