//! Other ways to the store than ours, told on a real API server.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::hub::{CREATOR, Hub};

const TRIAL: &str = "hubstorage-metadata-trial";

/// Runs as this service account, with its token for the API server.
fn as_account(hub: &Hub, account: &str) -> Value {
    let mut pod = hub.notebook("alice", "alice");
    pod["spec"]["serviceAccountName"] = json!(account);
    pod["spec"]["automountServiceAccountToken"] = json!(true);
    pod
}

async fn make_account(hub: &Hub, annotations: Value) {
    hub.apply(&json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "users", "namespace": hub.namespace, "annotations": annotations},
    }))
    .await;
}

#[tokio::test]
async fn an_identity_of_a_cloud_on_users_pods_is_told_with_its_place_until_it_is_gone() {
    let hub = Hub::ready("irsa").await;
    for annotation in [
        "eks.amazonaws.com/role-arn",
        "iam.gke.io/gcp-service-account",
        "azure.workload.identity/client-id",
    ] {
        make_account(&hub, json!({annotation: "everybody"})).await;
        let mut pod = hub.notebook("alice", "alice");
        pod["spec"]["serviceAccountName"] = json!("users");
        let alice = hub.pod_by(CREATOR, pod).await.unwrap();

        let told = hub
            .until_condition("hs/hub", "IsolationReady", "False", "CloudIdentityOnPods")
            .await;

        assert!(
            told.contains("service account users") && told.contains(annotation),
            "{told}"
        );
        hub.until_condition("hs/hub", "Ready", "False", "CloudIdentityOnPods")
            .await;
        // The account is the next server's, too: that this one stops changes nothing.
        alice.delete().await.unwrap();
        make_account(&hub, json!({})).await;
        hub.until_ready().await;
    }
    // What the webhook of EKS Pod Identity adds to a pod.
    let mut pod = hub.notebook("bob", "bob");
    pod["spec"]["volumes"] = json!([{"name": "eks-pod-identity-token", "projected": {"sources": [
        {"serviceAccountToken": {"audience": "pods.eks.amazonaws.com", "path": "token"}}]}}]);
    hub.pod_by(CREATOR, pod).await.unwrap();
    let told = hub
        .until_condition("hs/hub", "IsolationReady", "False", "CloudIdentityOnPods")
        .await;
    assert!(told.contains("EKS Pod Identity"), "{told}");
    hub.remove().await;
}

#[tokio::test]
async fn a_pod_that_reaches_its_node_is_told_by_what_until_it_is_gone() {
    let hub = Hub::ready("node").await;
    let mut pod = hub.notebook("alice", "alice");
    pod["spec"]["volumes"] =
        json!([{"name": "docker", "hostPath": {"path": "/var/run/docker.sock"}}]);
    pod["spec"]["hostPID"] = json!(true);
    let alice = hub.pod_by(CREATOR, pod).await.unwrap();
    let told = hub
        .until_condition("hs/hub", "IsolationReady", "False", "NodeReachable")
        .await;
    for by in ["hostPID", "/var/run/docker.sock"] {
        assert!(told.contains(by), "{told}");
    }
    alice.delete().await.unwrap();
    // Without its privileges the same server is as any other.
    hub.pod("alice", "alice").await;
    hub.until_ready().await;
    hub.remove().await;
}

#[tokio::test]
async fn a_service_account_that_may_get_at_others_data_is_told_with_its_rights() {
    let hub = Hub::ready("rights").await;
    make_account(&hub, json!({})).await;
    // It may create pods, as dask-kubernetes asks for.
    hub.allow_pods("users").await;
    let mut without = as_account(&hub, "users");
    without["spec"]["automountServiceAccountToken"] = json!(false);
    let first = hub.pod_by(CREATOR, without).await.unwrap();
    let reason = "MetadataServiceUntried";
    hub.until_condition("hs/hub", "IsolationReady", "Unknown", reason)
        .await;
    first.delete().await.unwrap();

    hub.pod_by(CREATOR, as_account(&hub, "users"))
        .await
        .unwrap();

    let reason = "ServiceAccountPrivileged";
    let told = hub
        .until_condition("hs/hub", "IsolationReady", "False", reason)
        .await;
    assert!(
        told.contains("service account users, which may create pods"),
        "{told}"
    );
    hub.remove().await;
}

#[tokio::test]
async fn the_metadata_service_is_tried_where_that_is_allowed_and_then_users_are_isolated() {
    let hub = Hub::ready("trial").await;
    hub.pod("alice", "alice").await;
    let untried = ("Unknown", "MetadataServiceUntried");
    hub.until("the way out to be told", async || {
        let told = hub
            .until_condition("hs/hub", "IsolationReady", untried.0, untried.1)
            .await;
        told.contains("docs/examples/metadata-trial.yaml allows it")
    })
    .await;

    let example = include_str!("../../../docs/examples/metadata-trial.yaml");
    let binding = example.replace(
        "namespace: earth ",
        &format!("namespace: {} ", hub.namespace),
    );
    assert_ne!(
        binding, example,
        "the example names its namespace otherwise"
    );
    hub.platform.apply(&binding).await.unwrap();

    hub.until("the trial pod", async || {
        !hub.get(&["pod", TRIAL, "--ignore-not-found", "-o=name"])
            .await
            .is_empty()
    })
    .await;
    ended(
        &hub,
        json!({"outcome": "GivesNothing", "how": "nothing answers"}),
    )
    .await;

    let told = hub
        .until_condition("hs/hub", "IsolationReady", "True", "Isolated")
        .await;
    assert!(told.contains("nothing answers"), "{told}");
    hub.until_ready().await;
    hub.remove().await;
}

/// What a kubelet says of the trial pod when its container has ended with this.
async fn ended(hub: &Hub, outcome: Value) {
    let node = hub.platform.client_as_node().await.unwrap();
    let pods: Api<Pod> = Api::namespaced(node, &hub.namespace);
    let status = json!({"status": {"phase": "Succeeded", "containerStatuses": [{
        "name": "trial", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 0, "message": outcome.to_string()}},
    }]}});
    hub.until("the trial pod to be on the node", async || {
        let node = ["pod", TRIAL, "-o=jsonpath={.spec.nodeName}"];
        hub.get(&node).await == "paper"
    })
    .await;
    let patched = pods
        .patch_status(TRIAL, &PatchParams::default(), &Patch::Strategic(status))
        .await;
    patched.unwrap();
}
