//! The guard is weakened, and put back. Alone in its binary: cargo runs test binaries one after
//! the other, and nothing is vended to anybody while the guard is not ours.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests"
)]

#[path = "control_plane/hub.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod hub;

use std::cell::Cell;

use hub::{Hub, said};
use hubstorage_e2e::giving_back;

const ASK: &str =
    "import boto3; print(boto3.Session().get_credentials().get_frozen_credentials().access_key)";

/// One of them is as good as any: that each counts, and each field, is shown in tier 1.
const BINDING: &str = "hubstorage-pod-changes";

async fn set_actions(hub: &Hub, actions: &str) {
    let patch = format!(r#"{{"spec":{{"validationActions":["{actions}"]}}}}"#);
    let kind = "validatingadmissionpolicybinding";
    hub.kubectl(&["patch", kind, BINDING, "--type=merge", "-p", &patch])
        .await;
}

/// Waits until a pod is refused in these words.
async fn refused(hub: &Hub, pod: &hubstorage_e2e::HostPod, words: &str) {
    let what = format!("a refusal with the words {words:?}");
    hub.until(&what, async || {
        let asked = pod.python(ASK).await;
        asked.is_err_and(|error| error.to_string().contains(words))
    })
    .await;
}

#[tokio::test]
async fn while_the_guard_is_weakened_nothing_is_vended_and_pods_from_before_have_to_be_made_anew() {
    let hub = Hub::ready("weakened").await;
    let alice = hub.pod("alice", "alice").await;
    said(&alice, ASK).await;

    let weakened = async {
        set_actions(&hub, "Audit").await;
        refused(&hub, &alice, "GuardMissing").await;
        let message = hub
            .until_condition("hs/hub", "IsolationReady", "False", "GuardMissing")
            .await;
        assert!(
            message.contains(BINDING) && message.contains("spec.validationActions"),
            "{message}"
        );
    };
    giving_back(weakened, set_actions(&hub, "Deny")).await;

    refused(&hub, &alice, "PodOlderThanGuard").await;
    let number = Cell::new(0);
    hub.until("a new pod to be vended for", async || {
        // The first ones may still be made before the policy is in force for sure.
        number.set(number.get() + 1);
        let bob = hub.pod(&format!("bob-{}", number.get()), "bob").await;
        bob.python(ASK).await.is_ok()
    })
    .await;
    hub.remove().await;
}
