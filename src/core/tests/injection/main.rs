//! What user pods are given when they are admitted.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod cases;
mod containers;
mod declared;
mod properties;
mod recognition;
mod shared;

use hubstorage_core::api::{Bucket, HubStorage, S3Provider};
use hubstorage_core::injection::{self, AGENT_URL, Admission, HubInjection, SentPod};
use hubstorage_core::names::BucketName;
use serde::Deserialize as _;
use serde_json::{Value, json};

/// The account of the hub in the namespace earth, which the default source trusts.
const HUB: &str = "system:serviceaccount:earth:hub";

/// A pod as KubeSpawner sends it, with fields that no build of ours knows.
fn notebook_pod() -> Value {
    serde_json::from_str(include_str!("../fixtures/notebook-pod.json")).unwrap()
}

/// What the HubStorage `earth`, with `users` and `buckets` in its spec, gives pods.
fn hub(users: Value, buckets: Value, provider: Value) -> HubInjection {
    hub_with_agent_at(AGENT_URL, users, buckets, provider)
}

/// The same, where agents listen elsewhere.
fn hub_with_agent_at(agent: &str, users: Value, buckets: Value, provider: Value) -> HubInjection {
    hub_of(agent, json!({"users": users, "buckets": buckets}), provider)
}

/// The same, with these fields in its spec.
fn hub_of(agent: &str, fields: Value, provider: Value) -> HubInjection {
    hub_told(agent, fields, json!({}), provider)
}

/// The same, of which `status` is told.
fn hub_told(agent: &str, fields: Value, status: Value, provider: Value) -> HubInjection {
    let mut hub = json!({
        "apiVersion": "hubstorage.io/v1alpha1",
        "kind": "HubStorage",
        "metadata": {"name": "earth", "namespace": "earth", "generation": 3},
        "spec": {"providerRef": {"name": "minio"}},
        "status": status,
    });
    json_patch::merge(&mut hub["spec"], &fields);
    let hub: HubStorage = serde_json::from_value(hub).unwrap();
    let provider: S3Provider = serde_json::from_value(provider).unwrap();
    let in_store = |bucket: &Bucket| {
        let name = bucket
            .bucket_name
            .clone()
            .unwrap_or_else(|| format!("earth-{}", bucket.name));
        (bucket.clone(), BucketName::parse(&name).unwrap())
    };
    let buckets: Vec<_> = hub.spec.buckets.iter().map(in_store).collect();
    HubInjection::new(&hub, &buckets, &provider, agent).unwrap()
}

/// A store of one's own, with credentials for users.
fn minio() -> Value {
    let keys = |name: &str| json!({"type": "Secret", "secretRef": {"name": name}});
    json!({
        "region": "us-east-1",
        "endpoint": "https://minio.example.org:9000",
        "addressing": "Path",
        "credentials": keys("minio-manage"),
        "vending": {"credentials": keys("minio-vend")},
    })
}

/// Amazon, where nothing is vended.
fn amazon_without_vending() -> Value {
    json!({"region": "us-west-2", "credentials": {"type": "Ambient"}})
}

/// What is decided about a pod.
fn admit(pod: &Value, creator: &str, hub: Option<&HubInjection>) -> Admission {
    injection::admit(SentPod::deserialize(pod).unwrap(), creator, hub)
}

/// The pod as it is after admission.
fn patched(pod: &Value, admission: &Admission) -> Value {
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &admission.patch).expect("a patch that applies");
    pod
}

/// The container that the notebook server runs in.
fn notebook(pod: &Value) -> &Value {
    let containers = pod["spec"]["containers"].as_array().unwrap();
    containers
        .iter()
        .find(|container| container["name"] == "notebook")
        .unwrap_or(&containers[0])
}

/// The value of a variable as the kubelet resolves it: of several with one name the last.
fn variable<'p>(container: &'p Value, name: &str) -> Option<&'p Value> {
    let env = container["env"].as_array()?;
    env.iter()
        .rfind(|entry| entry["name"] == name)
        .map(|entry| &entry["value"])
}
