//! The guard is weakened in every way that there is, and put back. Alone in its binary: cargo runs test
//! binaries one after the other, and nothing is vended to anybody while the guard is not ours.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests"
)]

#[path = "control_plane/hub.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod hub;
#[path = "control_plane/replicas.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod replicas;

use std::cell::Cell;

use hub::{Hub, said, token_of};
use hubstorage_e2e::{HostPod, giving_back};
use replicas::{POD, replicas};
use serde_json::{Value, json};

const ASK: &str =
    "import boto3; print(boto3.Session().get_credentials().get_frozen_credentials().access_key)";

/// One of the policies is as good as any: that each counts, and each field, is shown in tier 1.
const NAME: &str = "hubstorage-pod-changes";

const POLICY: &str = "validatingadmissionpolicy";
const BINDING: &str = "validatingadmissionpolicybinding";

/// How the guard is weakened, and the field that is named for it.
struct Way {
    kind: &'static str,
    name: &'static str,
    /// Merged into the object's spec; none deletes it.
    change: Option<Value>,
    named: &'static str,
}

/// Two that are told in the same words do not follow each other.
fn ways() -> Vec<Way> {
    let way = |kind, change, named| Way {
        kind,
        name: NAME,
        change: Some(change),
        named,
    };
    let gone = |kind| gone(kind, NAME);
    let nowhere = json!({"namespaceSelector": {"matchLabels": {"guard": "nowhere"}}});
    let param = json!({"name": "none", "namespace": "default", "parameterNotFoundAction": "Allow"});
    vec![
        way(
            BINDING,
            json!({"validationActions": ["Audit"]}),
            "spec.validationActions",
        ),
        way(
            BINDING,
            json!({"matchResources": nowhere}),
            "spec.matchResources",
        ),
        way(
            BINDING,
            json!({"validationActions": ["Warn"]}),
            "spec.validationActions",
        ),
        way(BINDING, json!({"paramRef": param}), "spec.paramRef"),
        gone(BINDING),
        way(
            POLICY,
            json!({"validations": [{"expression": "true"}]}),
            "spec.validations",
        ),
        way(
            POLICY,
            json!({"failurePolicy": "Ignore"}),
            "spec.failurePolicy",
        ),
        gone(POLICY),
        way(
            POLICY,
            json!({"matchConditions": [{"name": "never", "expression": "false"}]}),
            "spec.matchConditions",
        ),
        way(
            POLICY,
            json!({"matchConstraints": nowhere}),
            "spec.matchConstraints",
        ),
    ]
}

fn gone(kind: &'static str, name: &'static str) -> Way {
    Way {
        kind,
        name,
        change: None,
        named: "it does not exist",
    }
}

/// The object as it is to be applied again.
async fn saved(hub: &Hub, way: &Way) -> Value {
    let object = hub.kubectl(&["get", way.kind, way.name, "-o=json"]).await;
    let object: Value = serde_json::from_str(&object).unwrap();
    json!({
        "apiVersion": object["apiVersion"], "kind": object["kind"],
        "metadata": {"name": way.name, "labels": object["metadata"]["labels"]},
        "spec": object["spec"],
    })
}

async fn weaken(hub: &Hub, way: &Way) {
    match &way.change {
        Some(change) => {
            let patch = json!({"spec": change}).to_string();
            hub.kubectl(&["patch", way.kind, way.name, "--type=merge", "-p", &patch])
                .await
        }
        None => hub.kubectl(&["delete", way.kind, way.name]).await,
    };
}

/// Puts back what was saved, whatever is there now.
async fn put_back(hub: &Hub, way: &Way, saved: &Value) {
    let verb = match way.change {
        Some(_) => "replace",
        None => "create",
    };
    let put = hub
        .platform
        .kubectl_with_input([verb, "-f", "-"], &saved.to_string())
        .await
        .unwrap();
    let told = String::from_utf8_lossy(&put.stderr);
    assert!(put.status.success(), "{verb}: {told}");
}

/// Waits until every replica refuses this pod, with these words in what it says.
async fn until_refused(hub: &Hub, pod: &HostPod, code: &str, words: &str) {
    let token = token_of(pod);
    for replica in replicas(&hub.platform) {
        let what = format!("{} to say {code} and {words:?}", replica.name);
        hub.until(&what, async || {
            let answer = replica.ask(&token, POD).await;
            let said = answer.body["message"].as_str().unwrap_or_default();
            answer.code() == code && said.contains(words)
        })
        .await;
    }
}

#[tokio::test]
async fn however_the_guard_is_weakened_nothing_is_vended_until_it_is_put_back() {
    let hub = Hub::ready("weakened").await;
    let alice = hub.pod("alice", "alice").await;
    said(&alice, ASK).await;

    for way in ways() {
        let saved = saved(&hub, &way).await;
        let words = format!("{NAME}: {}", way.named);
        let weakened = async {
            weaken(&hub, &way).await;
            until_refused(&hub, &alice, "GuardMissing", &words).await;
            hub.until(&words, async || {
                let told = hub
                    .until_condition("hs/hub", "IsolationReady", "False", "GuardMissing")
                    .await;
                told.contains(&words)
            })
            .await;
        };
        giving_back(weakened, put_back(&hub, &way, &saved)).await;
    }

    // The policies may have looked away meanwhile: pods from before have to be made anew.
    let told = hub
        .until_condition("hs/hub", "IsolationReady", "Unknown", "PodsUnverified")
        .await;
    assert!(told.contains("1: jupyter-alice."), "{told}");
    until_refused(&hub, &alice, "PodOlderThanGuard", "restart the server").await;
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

#[tokio::test]
async fn a_policy_of_homes_or_shared_folders_that_is_gone_is_told_until_it_is_put_back() {
    let hub = Hub::namespace("limits").await;
    hub.apply(&hub.provider()).await;
    let mut storage = hub.storage();
    storage["spec"]["home"] = json!({"type": "Claim", "size": "1Gi", "onOversize": "Deny"});
    storage["spec"]["shared"] =
        json!([{"name": "shared", "claimName": "none", "mountPath": "/shared"}]);
    hub.apply(&storage).await;
    let homes = async |status, reason| {
        hub.until_condition("hs/hub", "HomesWithinLimit", status, reason)
            .await
    };
    let shared = async || {
        hub.until_condition("hs/hub", "MountsReady", "False", "ClaimMissing")
            .await
    };
    homes("True", "Applied").await;
    hub.until(
        "nothing to be told of the policy of shared folders",
        async || !shared().await.contains("are let in"),
    )
    .await;

    let way = gone(BINDING, "hubstorage-homes");
    let saved_one = saved(&hub, &way).await;
    let missed = async {
        weaken(&hub, &way).await;
        let told = homes("False", "PolicyMissing").await;
        assert!(
            told.contains("hubstorage-homes: it does not exist"),
            "{told}"
        );
    };
    giving_back(missed, put_back(&hub, &way, &saved_one)).await;
    homes("True", "Applied").await;

    let way = gone(POLICY, "hubstorage-shared");
    let saved_one = saved(&hub, &way).await;
    let missed = async {
        weaken(&hub, &way).await;
        hub.until("the missing policy to be told", async || {
            shared()
                .await
                .contains("hubstorage-shared: it does not exist")
        })
        .await;
    };
    giving_back(missed, put_back(&hub, &way, &saved_one)).await;
    hub.until("the policy to be back", async || {
        !shared().await.contains("are let in")
    })
    .await;
    hub.remove().await;
}
