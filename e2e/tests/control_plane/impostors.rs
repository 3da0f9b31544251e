//! Whoever wants to be taken for a user without being one: pods that others make in a hub's namespace,
//! tokens that others mint, and tokens that were carried elsewhere.

use std::net::Ipv4Addr;

use hubstorage_e2e::{HostPod, Python};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};

use crate::hub::{CREATOR, Hub, failed, said, token_of};
use crate::replicas::{POD, replicas};

/// Asks for credentials and prints where they end; the traceback shows the agent's answer.
const ASK: &str =
    "import boto3; print(boto3.Session().get_credentials().get_frozen_credentials().access_key)";

const STAMP: &str = "hubstorage.io/created-by";

/// The pod with all that the webhook would give it: whoever makes pods can ask for it themselves.
fn with_everything(mut pod: Value) -> Value {
    pod["spec"]["volumes"] = json!([{"name": "hubstorage-token", "projected": {"sources": [
        {"serviceAccountToken": {"audience": "hubstorage.io", "path": "token", "expirationSeconds": 3600}}]}}]);
    let container = &mut pod["spec"]["containers"][0];
    container["volumeMounts"] = json!([{"name": "hubstorage-token", "mountPath": "/t"}]);
    container["env"] = json!([
        {"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": "http://169.254.170.23:8180/v1/credentials"},
        {"name": "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "value": "/t/token"}]);
    pod
}

fn stamp_of(pod: &HostPod) -> &str {
    &pod.pod().metadata.annotations.as_ref().unwrap()[STAMP]
}

fn stamp_of_the_hub(hub: &Hub) -> String {
    format!("system:serviceaccount:{}:{CREATOR}", hub.namespace)
}

#[tokio::test]
async fn pods_of_a_deployment_bear_the_name_of_their_controller_and_get_nothing() {
    let hub = Hub::ready("deployment").await;
    let alice = hub.pod("alice", "alice").await;
    said(&alice, ASK).await;
    // Whoever may make Deployments has their pods made by an account with every right on pods.
    let pod = with_everything(hub.notebook("forged", "alice"));
    let labels = &pod["metadata"]["labels"];
    let mut template = json!({
        "metadata": {"labels": labels, "annotations": pod["metadata"]["annotations"]},
        "spec": pod["spec"],
    });
    template["metadata"]["annotations"][STAMP] = json!(stamp_of_the_hub(&hub));
    template["spec"]["nodeName"] = json!("paper");
    hub.apply(&json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "forged", "namespace": hub.namespace},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
    }))
    .await;
    let client = hub.platform.client().await.unwrap();
    let pods: Api<Pod> = Api::namespaced(client, &hub.namespace);
    let of_deployment = ListParams::default().labels("hub.jupyter.org/username=forged");
    hub.until("the Deployment's pod", async || {
        !pods.list(&of_deployment).await.unwrap().items.is_empty()
    })
    .await;

    let forged = pods.list(&of_deployment).await.unwrap().items.remove(0);
    let forged = HostPod::adopt(&hub.platform, forged).await.unwrap();
    let error = failed(&forged, ASK).await;

    assert_eq!(
        stamp_of(&forged),
        "system:serviceaccount:kube-system:replicaset-controller"
    );
    assert!(error.contains("StampUntrusted"), "{error}");
    hub.remove().await;
}

#[tokio::test]
async fn somebody_with_all_rights_of_an_editor_mints_no_token_and_their_pod_gets_nothing() {
    let hub = Hub::ready("editor").await;
    let alice = hub.pod("alice", "alice").await;
    said(&alice, ASK).await;
    hub.apply(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "editors", "namespace": hub.namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"kind": "User", "name": "eve", "apiGroup": "rbac.authorization.k8s.io"}],
    }))
    .await;
    let eve = hub.platform.client_as("eve", &["system:authenticated"]);
    let eve = eve.await.unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(eve.clone(), &hub.namespace);
    let mint = async |audience: &str| {
        let request = serde_json::from_value::<TokenRequest>(json!({
            "spec": {"audiences": [audience], "boundObjectRef": {
                "apiVersion": "v1", "kind": "Pod",
                "name": alice.name(), "uid": alice.pod().metadata.uid,
            }},
        }));
        let request = request.unwrap();
        let params = PostParams::default();
        accounts
            .create_token_request("default", &params, &request)
            .await
    };
    hub.until("her rights to be known", async || {
        mint("vault").await.is_ok()
    })
    .await;
    let refused = mint("hubstorage.io").await.unwrap_err().to_string();
    assert!(refused.contains("issued to nodes only"), "{refused}");

    let mut forged = with_everything(hub.notebook("forged", "alice"));
    forged["metadata"]["annotations"][STAMP] = json!(stamp_of_the_hub(&hub));
    forged["spec"]["nodeName"] = json!("paper");
    let pods: Api<Pod> = Api::namespaced(eve, &hub.namespace);
    let forged: Pod = serde_json::from_value(forged).unwrap();
    let forged = pods.create(&PostParams::default(), &forged).await.unwrap();
    let forged = HostPod::adopt(&hub.platform, forged).await.unwrap();
    let error = failed(&forged, ASK).await;

    assert_eq!(stamp_of(&forged), "eve");
    assert!(error.contains("StampUntrusted"), "{error}");
    hub.remove().await;
}

#[tokio::test]
async fn a_pod_made_anew_under_the_same_name_has_nothing_of_the_one_before() {
    let hub = Hub::ready("anew").await;
    let first = hub.pod("server", "alice").await;
    let of_first = said(&first, ASK).await;
    let first_token = token_of(&first);
    first.delete().await.unwrap();

    // By somebody else, in the same user's name.
    let forged = with_everything(hub.notebook("server", "alice"));
    let forged = hub.pod_by("stranger", forged).await.unwrap();
    let both = replicas(&hub.platform);
    for replica in &both {
        hub.until("the first pod's token to be refused", async || {
            let answer = replica.ask(&first_token, POD).await;
            matches!(answer.code(), "TokenRevoked" | "PodReplaced")
        })
        .await;
        let answer = replica.ask(&token_of(&forged), POD).await;
        assert_eq!(answer.code(), "StampUntrusted", "{}", replica.name);
    }
    forged.delete().await.unwrap();

    // By the hub, for somebody else.
    let bobs = hub.pod("server", "bob").await;
    let of_bob = said(&bobs, ASK).await;
    assert_ne!(of_bob, of_first);
    for replica in &both {
        let answer = replica.ask(&first_token, POD).await;
        assert_ne!(answer.status, 200, "{}", replica.name);
        let answer = replica.ask(&token_of(&bobs), POD).await;
        assert_eq!(answer.status, 200, "{}: {answer:?}", replica.name);
    }
    hub.remove().await;
}

#[tokio::test]
async fn a_stolen_token_is_worth_nothing_in_another_pod_nor_on_another_node() {
    let hub = Hub::ready("stolen").await;
    let alice = hub.pod("alice", "alice").await;
    let token = token_of(&alice);
    let agent = hub.platform.agent_endpoint().unwrap();
    // The agent knows pods by the address that they connect from.
    let ask_from = "
import http.client, sys, urllib.parse
url = urllib.parse.urlsplit(sys.argv[1])
connection = http.client.HTTPConnection(url.hostname, url.port, source_address=(sys.argv[3], 0))
connection.request('GET', '/v1/credentials', headers={'Authorization': sys.argv[2]})
answer = connection.getresponse()
print(answer.status, answer.read().decode())";
    let from = async |pod: &str| {
        let python = Python::at(&hub.platform.python(), &hub.platform.checkout.run("pods"));
        python
            .run(ask_from, &[&agent, token.trim(), pod])
            .await
            .unwrap()
    };

    assert!(from("127.0.0.1").await.starts_with("200"));
    let stolen = from("127.0.0.2").await;
    assert!(
        stolen.starts_with("403") && stolen.contains("PodElsewhere"),
        "{stolen}"
    );
    // What the agent of another node would say, where the thief's pod runs.
    for replica in replicas(&hub.platform) {
        let answer = replica.ask(&token, Ipv4Addr::new(10, 9, 8, 7)).await;
        assert_eq!((answer.status, answer.code()), (403, "PodElsewhere"));
        let own = replica.ask(&token, POD).await;
        assert_eq!(own.status, 200, "{}: {own:?}", replica.name);
    }
    hub.remove().await;
}
