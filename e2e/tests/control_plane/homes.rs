//! Homes on a real API server: how large a claim may be when it is made, and that it grows.

use serde_json::{Value, json};

use crate::bad_input::refused;
use crate::hub::Hub;

/// A hub that is ready, with homes of 10Gi to 50Gi, and a StorageClass of its own whose claims may grow.
async fn with_homes(purpose: &str, on_oversize: &str) -> Hub {
    let hub = Hub::namespace(purpose).await;
    hub.apply(&json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": hub.namespace},
        "provisioner": "kubernetes.io/no-provisioner", "allowVolumeExpansion": true,
    }))
    .await;
    hub.apply(&hub.provider()).await;
    let home =
        json!({"type": "Claim", "size": "10Gi", "maxSize": "50Gi", "onOversize": on_oversize});
    hub.apply(&storage(&hub, &home)).await;
    hub.until_condition("hs/hub", "HomesWithinLimit", "True", "Applied")
        .await;
    hub
}

fn storage(hub: &Hub, home: &Value) -> Value {
    let mut storage = hub.storage();
    storage["spec"]["home"] = home.clone();
    storage
}

async fn remove(hub: Hub) {
    hub.delete_of_cluster("storageclass", &hub.namespace).await;
    let volume = format!("{}-home", hub.namespace);
    hub.delete_of_cluster("pv", &volume).await;
    hub.remove().await;
}

/// A claim as KubeSpawner makes it (`get_pvc_manifest`, 7.1).
fn claim(hub: &Hub, name: &str, username: &str, size: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name, "namespace": hub.namespace,
            "labels": {
                "app": "jupyterhub", "component": "singleuser-storage",
                "hub.jupyter.org/username": name,
            },
            "annotations": {"hub.jupyter.org/username": username},
        },
        "spec": {
            "storageClassName": hub.namespace, "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": size}},
        },
    })
}

async fn size_of(hub: &Hub, name: &str) -> String {
    let path = "-o=jsonpath={.spec.resources.requests.storage}";
    hub.get(&["pvc", name, path]).await
}

/// Asks for claims until one is given `size`: a replica of serve sees an edit a moment after it was made.
async fn until_given(hub: &Hub, claim: &Value, size: &str) {
    let name = claim["metadata"]["name"].as_str().unwrap();
    hub.until(&format!("claim {name} to be given {size}"), async || {
        hub.kubectl(&[
            "delete",
            "pvc",
            "-n",
            &hub.namespace,
            name,
            "--ignore-not-found",
        ])
        .await;
        hub.apply(claim).await;
        size_of(hub, name).await == size
    })
    .await;
}

fn user_with_home(hub: &Hub, username: &str, size: &str) -> Value {
    json!({
        "apiVersion": "hubstorage.io/v1alpha1", "kind": "HubUser",
        "metadata": {"name": format!("{username}-has-more"), "namespace": hub.namespace},
        "spec": {"hubRef": {"name": "hub"}, "username": username, "home": {"size": size}},
    })
}

async fn until_overrides(hub: &Hub, told: &str) {
    hub.until("the user's own size in status", async || {
        let path = "-o=jsonpath={.status.homes.overrides[*].size}";
        hub.get(&["hs", "hub", path]).await == told
    })
    .await;
}

#[tokio::test]
async fn a_new_home_is_given_the_size_that_it_may_have() {
    let hub = with_homes("clamp", "Clamp").await;
    until_given(&hub, &claim(&hub, "claim-large", "large", "500Gi"), "50Gi").await;
    until_given(&hub, &claim(&hub, "claim-small", "small", "1Gi"), "10Gi").await;
    until_given(&hub, &claim(&hub, "claim-right", "right", "20Gi"), "20Gi").await;

    hub.apply(&user_with_home(&hub, "bob", "80Gi")).await;
    until_overrides(&hub, "80Gi").await;
    until_given(&hub, &claim(&hub, "claim-bob", "bob", "10Gi"), "80Gi").await;

    // A second HubStorage of the namespace changes nothing, not even before anybody has looked at it.
    let mut second = storage(
        &hub,
        &json!({"type": "Claim", "size": "1Gi", "onOversize": "Deny"}),
    );
    second["metadata"]["name"] = json!("second");
    second["spec"]["mode"] = json!("Paused");
    hub.apply(&second).await;
    until_given(&hub, &claim(&hub, "claim-eve", "eve", "500Gi"), "50Gi").await;

    // Restored to a volume that is there: with another size it would find none.
    let mut restored = claim(&hub, "claim-restored", "jane", "5Gi");
    restored["spec"]["volumeName"] = json!("pv-of-jane");
    until_given(&hub, &restored, "5Gi").await;

    let mut others = claim(&hub, "data", "bob", "500Gi");
    others["metadata"]["labels"]["component"] = json!("data");
    until_given(&hub, &others, "500Gi").await;
    remove(hub).await;
}

#[tokio::test]
async fn a_home_that_asks_for_too_much_is_refused_with_what_to_do_and_one_that_is_there_is_not() {
    let hub = with_homes("deny", "Deny").await;
    let large = claim(&hub, "claim-eve", "eve", "500Gi");
    let says = |told: &str| {
        [
            "may have 50Gi",
            "has 500Gi",
            "spec.home.maxSize of HubStorage hub",
        ]
        .iter()
        .all(|words| told.contains(words))
    };
    hub.until("the policy to refuse it", async || {
        let told = hub.try_apply(&large).await;
        let is_refused = told.as_ref().is_err_and(|told| says(told));
        if !is_refused {
            assert_eq!(told, Ok(()));
            hub.kubectl(&["delete", "pvc", "-n", &hub.namespace, "claim-eve"])
                .await;
        }
        is_refused
    })
    .await;
    // As much as is allowed, and what is too little is made right.
    hub.apply(&claim(&hub, "claim-max", "max", "50Gi")).await;
    until_given(&hub, &claim(&hub, "claim-small", "small", "1Gi"), "10Gi").await;

    // KubeSpawner makes every claim anew at each start: after 403 it looks whether there is one.
    let again = claim(&hub, "claim-max", "max", "500Gi").to_string();
    let create = ["create", "-f", "-"];
    let told = hub.platform.kubectl_with_input(create, &again).await;
    let told = String::from_utf8_lossy(&told.unwrap().stderr).into_owned();
    assert!(told.contains("(Forbidden)"), "{told}");
    assert_eq!(size_of(&hub, "claim-max").await, "50Gi");

    // Less than everybody has is no reason to refuse what everybody has.
    let mut little = user_with_home(&hub, "ann", "5Gi");
    little["spec"]["home"] = json!({"maxSize": "5Gi"});
    hub.apply(&little).await;
    hub.apply(&user_with_home(&hub, "eve", "600Gi")).await;
    until_overrides(&hub, "600Gi").await;
    hub.apply(&claim(&hub, "claim-ann", "ann", "5Gi")).await;
    assert_eq!(size_of(&hub, "claim-ann").await, "10Gi");
    hub.until("the user's own size to count", async || {
        hub.try_apply(&large).await.is_ok()
    })
    .await;
    remove(hub).await;
}

#[tokio::test]
async fn homes_that_are_there_grow_where_their_class_lets_them_and_what_does_not_is_told() {
    let hub = with_homes("grow", "Clamp").await;
    let name = format!("{}-home", hub.namespace);
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain", "storageClassName": hub.namespace,
            "claimRef": {"namespace": hub.namespace, "name": "claim-bob"},
            "hostPath": {"path": "/nowhere"},
        },
    });
    hub.apply(&volume).await;
    hub.apply(&claim(&hub, "claim-bob", "bob", "10Gi")).await;
    hub.until("the claim to be bound", async || {
        hub.get(&["pvc", "claim-bob", "-o=jsonpath={.status.phase}"])
            .await
            == "Bound"
    })
    .await;

    let larger = json!({"type": "Claim", "size": "20Gi", "maxSize": "50Gi"});
    hub.apply(&storage(&hub, &larger)).await;
    hub.until("the claim to ask for more", async || {
        size_of(&hub, "claim-bob").await == "20Gi"
    })
    .await;
    // Nobody makes this volume larger.
    let told = hub
        .until_condition("hs/hub", "HomesWithinLimit", "False", "ClaimGrowing")
        .await;
    assert!(told.contains("1 are growing"), "{told}");
    hub.until_ready().await;

    let fixed = json!({"allowVolumeExpansion": false}).to_string();
    let class = &hub.namespace;
    hub.kubectl(&["patch", "storageclass", class, "--type=merge", "-p", &fixed])
        .await;
    let larger = json!({"type": "Claim", "size": "30Gi", "maxSize": "50Gi"});
    hub.apply(&storage(&hub, &larger)).await;
    let told = hub
        .until_condition("hs/hub", "HomesWithinLimit", "False", "ClaimNotExpandable")
        .await;
    assert!(
        told.contains("claim-bob has 20Gi instead of 30Gi"),
        "{told}"
    );
    assert_eq!(size_of(&hub, "claim-bob").await, "20Gi");
    remove(hub).await;
}

#[tokio::test]
async fn sizes_of_homes_are_amounts_of_storage_and_in_order() {
    let hub = Hub::namespace("homes").await;
    let home = |fields: Value| {
        let mut home = json!({"type": "Claim", "size": "10Gi"});
        home.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        home
    };
    let amount = "amount of storage greater than 0, such as";
    let cases = [
        (home(json!({"size": "ten"})), "spec.home.size", amount),
        (home(json!({"size": "10 Gi"})), "spec.home.size", amount),
        (home(json!({"size": "10GB"})), "spec.home.size", amount),
        (home(json!({"size": "0"})), "spec.home.size", amount),
        (home(json!({"size": "-1Gi"})), "spec.home.size", amount),
        (home(json!({"maxSize": "x"})), "spec.home.maxSize", amount),
        (
            home(json!({"maxSize": "9Gi"})),
            "spec.home",
            "maxSize is less than size",
        ),
        (
            home(json!({"type": "Floppy"})),
            "spec.home.type",
            "supported values: \"Claim\"",
        ),
        (
            home(json!({"onOversize": "Shrug"})),
            "spec.home.onOversize",
            "\"Clamp\", \"Deny\"",
        ),
        (
            home(json!({"growth": {"step": "1Gi"}})),
            "spec.home",
            "growth needs maxSize",
        ),
        (
            home(json!({"growth": {"step": "1"}})),
            "spec.home.growth.step",
            "at least 10Mi, such as 1Gi",
        ),
        (
            home(json!({"growth": {"step": "much"}})),
            "spec.home.growth.step",
            "at least 10Mi, such as 1Gi",
        ),
        (
            home(json!({"growth": {"step": "1Gi", "thresholdPercent": 96}})),
            "spec.home.growth.thresholdPercent",
            "less than or equal to 95",
        ),
        (
            home(json!({"growth": {"step": "1Gi", "thresholdPercent": 49}})),
            "spec.home.growth.thresholdPercent",
            "greater than or equal to 50",
        ),
    ];
    for (home, field, message) in cases {
        let mut storage = hub.storage();
        storage["spec"]["home"] = home;
        refused(&hub, storage, field, message).await;
    }
    let user = json!({
        "apiVersion": "hubstorage.io/v1alpha1", "kind": "HubUser",
        "metadata": {"name": "bob", "namespace": hub.namespace},
        "spec": {"hubRef": {"name": "hub"}, "username": "bob", "home": {"size": "much"}},
    });
    refused(&hub, user, "spec.home.size", amount).await;
    let mut storage = hub.storage();
    let growth = json!({"step": "1Gi"});
    storage["spec"]["home"] = home(json!({"size": "0.5Ti", "maxSize": "1e12", "growth": growth}));
    hub.apply(&storage).await;
    let path = "-o=jsonpath={.spec.home.growth.thresholdPercent}";
    assert_eq!(hub.get(&["hs", "hub", path]).await, "90");
    hub.remove().await;
}
