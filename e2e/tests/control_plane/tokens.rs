//! Who gets no credentials, and what they are told.

use hubstorage_e2e::Python;
use serde_json::{Value, json};

use crate::hub::{CREATOR, Hub, failed, said, token_of};

/// Asks for credentials and prints where they end; the traceback shows the agent's answer.
const ASK: &str =
    "import boto3; print(boto3.Session().get_credentials().get_frozen_credentials().access_key)";

#[tokio::test]
async fn a_pod_without_username_or_with_an_empty_one_is_given_nothing_and_told_why() {
    let hub = Hub::ready("nameless").await;
    let mut without = hub.notebook("without", "x");
    without["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("annotations");
    let mut empty = hub.notebook("empty", "");
    empty["metadata"]["annotations"] = json!({"hub.jupyter.org/username": ""});

    for manifest in [without, empty] {
        let name = manifest["metadata"]["name"].as_str().unwrap().to_owned();
        let output = create_as_hub(&hub, &manifest).await;
        assert!(
            output.contains("Warning") && output.contains("hub.jupyter.org/username"),
            "{output}"
        );
        let env = hub
            .get(&[
                "pod",
                &name,
                "-o=jsonpath={.spec.containers[0].env[*].name}",
            ])
            .await;
        assert_eq!(env, "HOME");
    }
    hub.remove().await;
}

#[tokio::test]
async fn a_pod_that_somebody_else_made_is_stamped_with_his_name_and_given_nothing() {
    let hub = Hub::ready("stranger").await;
    let pod = hub
        .pod_by("stranger", hub.notebook("alice", "alice"))
        .await
        .unwrap();

    let stamp =
        pod.pod().metadata.annotations.as_ref().unwrap()["hubstorage.io/created-by"].clone();
    assert_eq!(
        stamp,
        format!("system:serviceaccount:{}:stranger", hub.namespace)
    );
    assert!(!pod.environment().unwrap().contains_key("SCRATCH_BUCKET"));
    hub.remove().await;
}

#[tokio::test]
async fn a_stranger_who_asks_for_the_token_volume_himself_gets_no_credentials() {
    let hub = Hub::ready("volume").await;
    let alice = hub.pod("alice", "alice").await;
    said(&alice, ASK).await;
    let mut forged = hub.notebook("forged", "alice");
    forged["spec"]["volumes"] = json!([{"name": "t", "projected": {"sources": [
        {"serviceAccountToken": {"audience": "hubstorage.io", "path": "token", "expirationSeconds": 3600}}]}}]);
    forged["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "t", "mountPath": "/t"}]);
    forged["spec"]["containers"][0]["env"] = json!([
        {"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": "http://169.254.170.23:8180/v1/credentials"},
        {"name": "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "value": "/t/token"}]);

    let pod = hub.pod_by("stranger", forged).await.unwrap();
    let error = failed(&pod, ASK).await;

    assert!(error.contains("created"), "{error}");
    hub.remove().await;
}

#[tokio::test]
async fn a_forged_stamp_is_replaced_by_the_webhook() {
    let hub = Hub::ready("forged").await;
    let mut forged = hub.notebook("alice", "alice");
    forged["metadata"]["annotations"]["hubstorage.io/created-by"] =
        json!(format!("system:serviceaccount:{}:hub", hub.namespace));

    let pod = hub.pod_by("stranger", forged).await.unwrap();

    let stamp =
        pod.pod().metadata.annotations.as_ref().unwrap()["hubstorage.io/created-by"].clone();
    assert_eq!(
        stamp,
        format!("system:serviceaccount:{}:stranger", hub.namespace)
    );
    hub.remove().await;
}

#[tokio::test]
async fn a_token_from_a_namespace_without_a_hub_opens_nothing() {
    let hub = Hub::ready("here").await;
    let other = Hub::namespace("elsewhere").await;
    let mut manifest = other.notebook("alice", "alice");
    manifest["spec"]["volumes"] = json!([{"name": "t", "projected": {"sources": [
        {"serviceAccountToken": {"audience": "hubstorage.io", "path": "token", "expirationSeconds": 3600}}]}}]);
    let pod = other.pod_by("hub", manifest).await.unwrap();
    let token = token_of(&pod);

    let (status, answer) = ask_agent(&hub, &token).await;

    assert_ne!(status, 200);
    assert!(
        answer["message"].as_str().unwrap().contains("HubStorage"),
        "{answer}"
    );
    other.remove().await;
    hub.remove().await;
}

#[tokio::test]
async fn a_token_of_another_audience_opens_nothing() {
    let hub = Hub::ready("audience").await;
    let mut manifest = hub.notebook("alice", "alice");
    manifest["spec"]["volumes"] = json!([{"name": "t", "projected": {"sources": [
        {"serviceAccountToken": {"audience": "vault", "path": "token", "expirationSeconds": 3600}}]}}]);
    let pod = hub.pod_by("hub", manifest).await.unwrap();
    let token = |audience| std::fs::read_to_string(pod.token_path(audience).unwrap()).unwrap();

    assert_eq!(ask_agent(&hub, &token("hubstorage.io")).await.0, 200);
    let (status, answer) = ask_agent(&hub, &token("vault")).await;

    assert_eq!(status, 401, "{answer}");
    assert!(
        answer["message"].as_str().unwrap().contains("audience"),
        "{answer}"
    );
    hub.remove().await;
}

/// Creates a pod with kubectl as the hub's service account; gives what the API server warned of.
async fn create_as_hub(hub: &Hub, manifest: &Value) -> String {
    hub.allow_pods(CREATOR).await;
    let account = format!("system:serviceaccount:{}:{CREATOR}", hub.namespace);
    let output = hub
        .platform
        .kubectl_with_input(
            ["create", "-f", "-", "--as", &account],
            &manifest.to_string(),
        )
        .await
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What the agent answers to a token: status, and the JSON of the body.
async fn ask_agent(hub: &Hub, token: &str) -> (u16, Value) {
    let code = "
import sys, urllib.error, urllib.request
request = urllib.request.Request(sys.argv[1], headers={'Authorization': sys.argv[2]})
try:
    answer = urllib.request.urlopen(request)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status, answer.read().decode())";
    let url = format!("{}/v1/credentials", hub.platform.agent_endpoint().unwrap());
    let python = Python::at(&hub.platform.python(), &hub.platform.checkout.run("pods"));
    let said = python.run(code, &[&url, token.trim()]).await.unwrap();
    let (status, body) = said.split_once(' ').unwrap();
    (status.parse().unwrap(), serde_json::from_str(body).unwrap())
}
