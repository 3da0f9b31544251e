//! The objects that tests begin with.

use hubstorage::certificates::{Address, WebhookState};
use hubstorage_core::api::{
    HubStorage, STAMP_ANNOTATION, StorageProvider, USERNAME_ANNOTATION, USERNAME_LABEL,
};
use hubstorage_core::names::BucketName;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::{Value, json};

/// The installation whose controller runs.
pub const INSTALLATION: &str = "here";

/// The account in the store that the controller's keys belong to.
pub const ACCOUNT: &str = "manager";

/// The name of the provider, unless a test says otherwise.
pub const PROVIDER: &str = "store";

/// A provider that every namespace with the label `tier: production` may use, for all names.
pub fn provider() -> StorageProvider {
    provider_with(json!({}))
}

/// The same with these fields of the spec.
pub fn provider_with(fields: Value) -> StorageProvider {
    let mut spec = json!({
        "namespaces": {"matchLabels": {"tier": "production"}},
        "bucketNames": ["*"],
        "s3": {
            "region": "us-east-1",
            "credentials": {"type": "Ambient"},
            "vending": {"credentials": {"type": "Ambient"}},
        },
    });
    json_patch::merge(&mut spec, &fields);
    StorageProvider::new(PROVIDER, serde_json::from_value(spec).unwrap())
}

/// A namespace that the provider is for.
pub fn namespace(name: &str) -> Namespace {
    parse(json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {"tier": "production"}},
    }))
}

/// A hub in the namespace `earth` with two buckets, `scratch` that expires and `persistent`.
pub fn hub() -> HubStorage {
    hub_with("earth", "earth", json!({}))
}

/// A hub with these fields of the spec.
pub fn hub_with(namespace: &str, name: &str, fields: Value) -> HubStorage {
    let mut spec = json!({
        "providerRef": {"name": PROVIDER},
        "buckets": [
            {"name": "scratch", "bucketName": "earth-scratch", "lifecycle": {"expireAfterDays": 7}},
            {"name": "persistent", "bucketName": "earth-persistent"},
        ],
    });
    json_patch::merge(&mut spec, &fields);
    let mut hub = HubStorage::new(name, serde_json::from_value(spec).unwrap());
    hub.metadata.namespace = Some(namespace.to_owned());
    hub
}

/// The same hub with the scratch bucket alone.
pub fn hub_with_scratch_alone() -> HubStorage {
    let scratch = json!({"name": "scratch", "bucketName": "earth-scratch", "lifecycle": {"expireAfterDays": 7}});
    hub_with("earth", "earth", json!({"buckets": [scratch]}))
}

/// The bucket of the hub that expires.
pub fn scratch() -> BucketName {
    BucketName::parse("earth-scratch").unwrap()
}

/// The other bucket of the hub.
pub fn persistent() -> BucketName {
    BucketName::parse("earth-persistent").unwrap()
}

/// A notebook pod in the namespace `earth`: whose it says it is, and who made it.
pub fn notebook(name: &str, username: &str, creator: &str) -> Pod {
    parse(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "earth",
            "labels": {"component": "singleuser-server", (USERNAME_LABEL): "slug"},
            "annotations": {(USERNAME_ANNOTATION): username, (STAMP_ANNOTATION): creator},
        },
    }))
}

/// A StorageClass.
pub fn storage_class(name: &str) -> StorageClass {
    parse(json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
        "provisioner": "volumes.example.org",
    }))
}

/// A home in the namespace `earth`, of that size and of the StorageClass `growing`.
pub fn home(name: &str, username: &str, size: &str) -> PersistentVolumeClaim {
    parse(json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name, "namespace": "earth", "labels": {"component": "singleuser-storage"},
            "annotations": {(USERNAME_ANNOTATION): username},
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "growing",
            "resources": {"requests": {"storage": size}},
        },
    }))
}

/// The hub's own service account: whose word is taken.
pub const HUB_ACCOUNT: &str = "system:serviceaccount:earth:hub";

fn parse<K: serde::de::DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).unwrap()
}

/// A webhook as this version registers it.
pub const REGISTERED: WebhookState = WebhookState::Registered {
    address: Address::Service,
    for_claims: true,
};
