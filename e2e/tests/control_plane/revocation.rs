//! Access that is taken away: at once, on every replica, and it stays away.

use std::time::Duration;

use hubstorage_core::names::{Username, hub_user_name};
use hubstorage_e2e::wait;
use serde_json::{Value, json};

use crate::hub::{CREATOR, Hub, failed, said, token_of};
use crate::replicas::{POD, replicas};

const ASK: &str =
    "import boto3; print(boto3.Session().get_credentials().get_frozen_credentials().access_key)";

/// Within this it is promised that a suspended user gets nothing any more.
const WITHIN: Duration = Duration::from_secs(5);

/// Name of the user's HubUser.
fn name_of(user: &str) -> String {
    hub_user_name("hub", &Username::parse(user).unwrap())
}

impl Hub {
    async fn set_access(&self, user: &str, access: &str) {
        let patch = format!(r#"{{"spec":{{"access":"{access}"}}}}"#);
        let name = name_of(user);
        let patching = ["patch", "hu", &name, "--type=merge", "-p", &patch];
        self.kubectl(&[&["-n", &self.namespace], &patching[..]].concat())
            .await;
    }

    async fn delete(&self, kind: &str, name: &str) {
        self.kubectl(&["delete", kind, name, "-n", &self.namespace])
            .await;
    }

    async fn until_user(&self, user: &str) {
        let name = name_of(user);
        self.until("the HubUser", async || {
            let prefix = "-o=jsonpath={.status.prefix}";
            !self
                .get(&["hu", &name, "--ignore-not-found", prefix])
                .await
                .is_empty()
        })
        .await;
    }

    async fn user(&self, user: &str) -> Value {
        serde_json::from_str(&self.get(&["hu", &name_of(user), "-o=json"]).await).unwrap()
    }

    /// Waits until every replica answers to a pod's token so.
    pub async fn until_everywhere(&self, token: &str, outcome: &str) {
        for replica in replicas(&self.platform) {
            let what = format!("{} to say {outcome}", replica.name);
            self.until(&what, async || {
                replica.ask(token, POD).await.outcome() == outcome
            })
            .await;
        }
    }

    /// The same for the refusal of a suspended user, for which there is a promise.
    async fn until_suspended(&self, token: &str) {
        for replica in replicas(&self.platform) {
            let what = format!("{} to refuse a suspended user", replica.name);
            let refuses = async || Ok(replica.ask(token, POD).await.code() == "UserSuspended");
            wait::until(&what, WITHIN, refuses).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_suspended_user_gets_nothing_from_any_replica_within_five_seconds() {
    let hub = Hub::ready("suspended").await;
    let (alice, bob) = (hub.pod("alice", "alice").await, hub.pod("bob", "bob").await);
    said(&alice, ASK).await;
    hub.until_everywhere(&token_of(&alice), "Vended").await;
    hub.until_user("alice").await;

    hub.set_access("alice", "Suspended").await;

    hub.until_suspended(&token_of(&alice)).await;
    let error = failed(&alice, ASK).await;
    assert!(error.contains("UserSuspended"), "{error}");
    said(&bob, ASK).await;
    // Another server of hers changes nothing.
    let another = hub.pod("alice--two", "alice").await;
    hub.until_suspended(&token_of(&another)).await;

    hub.set_access("alice", "Active").await;
    hub.until_everywhere(&token_of(&alice), "Vended").await;
    said(&alice, ASK).await;
    hub.remove().await;
}

#[tokio::test]
async fn a_user_who_is_suspended_before_their_first_server_stays_so() {
    let hub = Hub::ready("beforehand").await;
    let suspended = |name: &str| {
        json!({
            "apiVersion": "hubstorage.io/v1alpha1", "kind": "HubUser",
            "metadata": {"name": name, "namespace": hub.namespace},
            "spec": {"hubRef": {"name": "hub"}, "username": "alice", "access": "Suspended"},
        })
    };
    // Nobody knows the name that the operator is going to give its own.
    hub.apply(&suspended("locked-out")).await;

    let alice = hub.pod("alice", "alice").await;
    hub.until_user("alice").await;
    hub.until_suspended(&token_of(&alice)).await;

    // The hub is made anew, and with it the operator's own.
    hub.delete("hs", "hub").await;
    hub.apply(&hub.storage()).await;
    hub.until_ready().await;
    hub.until_user("alice").await;
    hub.until_suspended(&token_of(&alice)).await;

    hub.kubectl(&[
        "patch",
        "hu",
        "locked-out",
        "-n",
        &hub.namespace,
        "--type=merge",
        "-p",
        r#"{"spec":{"access":"Active"}}"#,
    ])
    .await;
    hub.until_everywhere(&token_of(&alice), "Vended").await;

    // The operator's own is made active, deleted and made anew, with and without a server of hers.
    let own = name_of("alice");
    for has_server in [true, false] {
        if !has_server {
            alice.delete().await.unwrap();
        }
        hub.set_access("alice", "Active").await;
        hub.delete("hu", &own).await;
        hub.apply(&suspended(&own)).await;
    }
    let again = hub.pod("alice", "alice").await;
    hub.until_user("alice").await;
    assert_eq!(hub.user("alice").await["spec"]["access"], "Suspended");
    hub.until_suspended(&token_of(&again)).await;
    hub.set_access("alice", "Active").await;
    hub.until_everywhere(&token_of(&again), "Vended").await;
    hub.remove().await;
}

#[tokio::test]
async fn a_deleted_pods_token_opens_nothing_on_any_replica() {
    let hub = Hub::ready("deleted").await;
    let mut pod = hub.notebook("alice", "alice");
    // Without it the node lets the pod go before both replicas have been asked.
    pod["metadata"]["finalizers"] = json!(["hubstorage.io/e2e"]);
    let alice = hub.pod_by(CREATOR, pod).await.unwrap();
    said(&alice, ASK).await;
    let token = token_of(&alice);
    hub.until_everywhere(&token, "Vended").await;
    let on_pod = async |verb: &[&str]| {
        let object = ["-n", &hub.namespace, verb[0], "pod", "jupyter-alice"];
        hub.kubectl(&[&object[..], &verb[1..]].concat()).await;
    };
    on_pod(&["delete", "--wait=false"]).await;
    hub.until_everywhere(&token, "PodTerminating").await;

    let ended = r#"{"metadata":{"finalizers":null}}"#;
    on_pod(&["patch", "--type=merge", "-p", ended]).await;
    alice.delete().await.unwrap();
    for replica in replicas(&hub.platform) {
        hub.until("the token to be refused", async || {
            let answer = replica.ask(&token, POD).await;
            matches!(answer.code(), "PodGone" | "TokenRevoked")
        })
        .await;
    }
    hub.remove().await;
}
