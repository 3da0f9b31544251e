//! The operator, and definitions of its kinds that are of another version. Alone in its binary: cargo
//! runs test binaries one after the other, and every hub of the cluster has the same definitions.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests"
)]

#[path = "control_plane/hub.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod hub;

use std::process::Output;
use std::time::Duration;

use hub::{Hub, said};
use hubstorage_e2e::{Platform, giving_back};
use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::Mutex;

const ASK: &str =
    "import boto3; print(boto3.Session().get_credentials().get_frozen_credentials().access_key)";

/// Bounds a hang; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(60);

/// What this version installs.
const CURRENT: &str = include_str!("../../crds/hubstorage.io.yaml");

/// Both tests replace what the whole cluster has.
static DEFINITIONS: Mutex<()> = Mutex::const_new(());

/// Replaces what was applied before, as `helm upgrade` does.
async fn define(platform: &Platform, definitions: &str) {
    let apply = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    let output = platform
        .kubectl_with_input(apply, definitions)
        .await
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
}

/// Another controller beside the one that leads, to its own end.
async fn another_controller(platform: &Platform) -> Output {
    let checkout = &platform.checkout;
    let process = Command::new(checkout.run("bin/hubstorage"))
        .args(["controller", "--health-listen=127.0.0.1:0"])
        .env_clear()
        .env("KUBECONFIG", checkout.run("operator/controller.kubeconfig"))
        .kill_on_drop(true)
        .output();
    let ended = tokio::time::timeout(PATIENCE, process).await;
    ended
        .expect("it goes on, though it could not write status")
        .unwrap()
}

/// When the bucket was made, and what was done to it since.
async fn history(hub: &Hub) -> [String; 2] {
    let bucket = hub.bucket().await;
    let created = format!(
        "print([b['CreationDate'] for b in s3.list_buckets()['Buckets'] if b['Name'] == '{bucket}'])"
    );
    let events = [
        "events",
        "--field-selector=involvedObject.kind=HubStorage",
        "-o=jsonpath={.items[*].reason}",
    ];
    [hub.as_owner(&created).await, hub.get(&events).await]
}

#[tokio::test]
async fn under_earlier_definitions_no_controller_starts_and_the_one_that_leads_goes_on() {
    let _alone = DEFINITIONS.lock().await;
    let hub = Hub::ready("older").await;
    let platform = &hub.platform;
    let alice = hub.pod("alice", "alice").await;
    let before = history(&hub).await;
    assert!(before[1].contains("BucketCreated"), "{before:?}");

    let older = async {
        define(platform, &earlier()).await;
        let ended = another_controller(platform).await;
        assert_eq!(ended.status.code(), Some(1));
        let told = [ended.stdout, ended.stderr].concat();
        let told = String::from_utf8(told).unwrap();
        for words in [
            "hubstorages.hubstorage.io: no .status.buckets[*].grants",
            "helm upgrade",
        ] {
            assert!(told.contains(words), "no {words} in {told}");
        }
        said(&alice, ASK).await;
        // The one that leads still answers, and users still get in.
        let now = "hubstorage.io/check-requested-at=now";
        hub.kubectl(&["annotate", "-n", &hub.namespace, "hs/hub", now])
            .await;
        hub.until("the check that was asked for", async || {
            hub.get(&["hs", "hub", "-o=jsonpath={.status.lastHandledCheckRequest}"])
                .await
                == "now"
        })
        .await;
        let bob = hub.pod("bob", "bob").await;
        said(&bob, ASK).await;
    };
    giving_back(older, define(platform, CURRENT)).await;

    platform.stop("controller").await.unwrap();
    platform
        .start(env!("CARGO_BIN_EXE_e2e"), "controller")
        .await
        .unwrap();
    hub.kubectl(&[
        "annotate",
        "-n",
        &hub.namespace,
        "hs/hub",
        "--overwrite",
        "hubstorage.io/check-requested-at=then",
    ])
    .await;
    hub.until("a check after the upgrade", async || {
        hub.get(&["hs", "hub", "-o=jsonpath={.status.lastHandledCheckRequest}"])
            .await
            == "then"
    })
    .await;
    hub.until_ready().await;
    assert_eq!(history(&hub).await, before, "nothing is done twice");
    said(&alice, ASK).await;
    hub.remove().await;
}

/// Our definitions without something that an earlier version did not have.
fn earlier() -> String {
    changed(|is_hub, fields| {
        if is_hub {
            let buckets = &mut fields["status"]["properties"]["buckets"];
            let bucket = buckets["items"]["properties"].as_object_mut();
            bucket.unwrap().remove("grants").unwrap();
        }
    })
}

/// Our definitions with what a later version could add: fields, and a value of one that is there.
fn later() -> String {
    changed(|is_hub, fields| {
        fields["status"]["properties"]["later"] = json!({"type": "string"});
        if is_hub {
            let spec = &mut fields["spec"]["properties"];
            spec["later"] = json!({"type": "string"});
            let bucket = &mut spec["buckets"]["items"]["properties"];
            bucket["later"] = json!({"type": "string"});
            let policies = bucket["deletionPolicy"]["enum"].as_array_mut().unwrap();
            policies.push(json!("Archive"));
        }
    })
}

/// Our definitions, with changes to the fields of each: whether it is the HubStorage's, and which.
fn changed(change: impl Fn(bool, &mut Value)) -> String {
    let mut documents = Vec::new();
    for document in serde_yaml::Deserializer::from_str(CURRENT) {
        let mut definition = Value::deserialize(document).unwrap();
        let is_hub = definition["metadata"]["name"] == "hubstorages.hubstorage.io";
        let schema = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        change(is_hub, &mut schema["properties"]);
        documents.push(definition.to_string());
    }
    documents.join("\n---\n")
}

#[tokio::test]
async fn under_later_definitions_their_fields_stay_and_what_cannot_be_read_holds_up_nobody() {
    let _alone = DEFINITIONS.lock().await;
    let hub = Hub::ready("later").await;
    let beside = Hub::namespace("unreadable").await;
    let platform = &hub.platform;

    let newer = async {
        define(platform, &later()).await;
        let mut storage = hub.storage();
        storage["spec"]["later"] = json!("spec");
        storage["spec"]["buckets"][0]["later"] = json!("bucket");
        hub.apply(&storage).await;
        let status = r#"{"status": {"later": "status"}}"#;
        hub.kubectl(&[
            "patch",
            "-n",
            &hub.namespace,
            "hs/hub",
            "--subresource=status",
            "--type=merge",
            "-p",
            status,
        ])
        .await;
        beside.apply(&beside.provider()).await;
        let mut unreadable = beside.storage();
        unreadable["spec"]["buckets"][0]["deletionPolicy"] = json!("Archive");
        beside.apply(&unreadable).await;

        let declared = async || beside.get(&["hs", "hub", "-o=jsonpath={.spec}"]).await;
        let before = declared().await;
        let log = platform.checkout.log("controller");
        let told = std::fs::read_to_string(&log).unwrap().len();

        // It has to list what it cannot read, too.
        platform.stop("controller").await.unwrap();
        platform
            .start(env!("CARGO_BIN_EXE_e2e"), "controller")
            .await
            .unwrap();
        let third = Hub::ready("beside").await;
        let alice = third.pod("alice", "alice").await;
        said(&alice, ASK).await;
        third.remove().await;

        hub.until_ready().await;
        let kept = "-o=jsonpath={.spec.later} {.spec.buckets[0].later} {.status.later}";
        assert_eq!(hub.get(&["hs", "hub", kept]).await, "spec bucket status");
        assert_eq!(declared().await, before);
        let log = std::fs::read_to_string(&log).unwrap();
        let told = log[told..].lines().any(|line| {
            line.contains("cannot be read")
                && line.contains(&beside.namespace)
                && line.contains("Archive")
        });
        assert!(told, "the log does not say which object cannot be read");
        beside
            .kubectl(&["delete", "-n", &beside.namespace, "hs/hub", "--timeout=30s"])
            .await;
    };
    giving_back(newer, define(platform, CURRENT)).await;

    beside.remove().await;
    hub.remove().await;
}
