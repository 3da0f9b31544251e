//! Pods as they are in the wild: whatever else a hub sets on them stays as it was, and the user's
//! code has its credentials.

use hubstorage_e2e::{HostPod, ServiceAccount};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::hub::{CREATOR, Hub, said};

/// Asks for credentials; ends well if there are some.
const ASK: &str = "import boto3; boto3.Session().get_credentials().get_frozen_credentials()";

const TOKEN_VOLUME: &str = "hubstorage-token";

impl Hub {
    /// Asks the API server for a pod as the hub does.
    async fn ask_for(&self, manifest: &Value, dry_run: bool) -> Result<Value, kube::Error> {
        self.allow_pods(CREATOR).await;
        let account = ServiceAccount::new(&self.namespace, CREATOR);
        let client = self.platform.client_as_service_account(&account).await;
        let pods: Api<Pod> = Api::namespaced(client.unwrap(), &self.namespace);
        let pod: Pod = serde_json::from_value(manifest.clone()).unwrap();
        let params = PostParams {
            dry_run,
            ..PostParams::default()
        };
        let created = pods.create(&params, &pod).await?;
        Ok(serde_json::to_value(created).unwrap())
    }

    /// The pod as it would be without the webhook: nobody's pods pass it by.
    async fn untouched(&self, manifest: &Value) -> Value {
        let mut manifest = manifest.clone();
        for place in ["labels", "annotations"] {
            let keys = manifest["metadata"][place].as_object_mut().unwrap();
            keys.remove("hub.jupyter.org/username");
        }
        self.ask_for(&manifest, true).await.unwrap()
    }

    /// Waits until the webhook gives pods like `manifest` their bucket in this container alone.
    async fn until_served(&self, manifest: &Value, container: &str) {
        let what = format!("the container {container} to be served");
        self.until(&what, async || {
            served(&self.ask_for(manifest, true).await.unwrap()) == [container]
        })
        .await;
    }
}

/// Names of the containers that have the location of the bucket.
fn served(pod: &Value) -> Vec<&str> {
    let has_it = |container: &&Value| {
        let env = container["env"].as_array().into_iter().flatten();
        env.into_iter()
            .any(|entry| entry["name"] == "SCRATCH_BUCKET")
    };
    let containers = pod["spec"]["containers"].as_array().unwrap();
    let served = containers.iter().filter(has_it);
    served
        .map(|container| container["name"].as_str().unwrap())
        .collect()
}

/// The spec without what the webhook adds.
fn without_ours(pod: &Value) -> Value {
    let mut spec = pod["spec"].clone();
    let is_ours = |entry: &Value| {
        let name = entry["name"].as_str().unwrap();
        name == TOKEN_VOLUME
            || name.starts_with("AWS_")
            || name.ends_with("_SCRATCH")
            || name == "SCRATCH_BUCKET"
    };
    let drop_ours = |object: &mut Value, list: &str| {
        if let Some(entries) = object[list].as_array_mut() {
            entries.retain(|entry| !is_ours(entry));
        }
        if object[list].as_array().is_none_or(Vec::is_empty) {
            object.as_object_mut().unwrap().remove(list);
        }
    };
    for container in spec["containers"].as_array_mut().unwrap() {
        drop_ours(container, "env");
        drop_ours(container, "volumeMounts");
    }
    drop_ours(&mut spec, "volumes");
    spec
}

/// Security settings that the level `restricted` asks of every container.
fn confined() -> Value {
    json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    })
}

#[tokio::test]
async fn a_pod_with_everything_that_hubs_set_keeps_it_all() {
    let hub = Hub::ready("wild").await;
    let mut pod = hub.notebook("alice", "alice");
    pod["spec"] = json!({
        "automountServiceAccountToken": false,
        "securityContext": {"fsGroup": 100, "fsGroupChangePolicy": "OnRootMismatch", "supplementalGroups": [2000]},
        "nodeName": "paper",
        "initContainers": [
            {"name": "chown", "image": "busybox", "command": ["sh", "-c", "chown 1000:100 /home/jovyan"],
             "securityContext": {"runAsUser": 0, "capabilities": {"add": ["CHOWN"], "drop": ["ALL"]}},
             "volumeMounts": [{"name": "home", "mountPath": "/home/jovyan"}]},
            {"name": "sync", "image": "busybox", "restartPolicy": "Always", "env": [{"name": "BRANCH", "value": "main"}]},
        ],
        "containers": [
            {"name": "notebook", "image": "notebook", "securityContext": confined(),
             "env": [{"name": "HOME", "value": "/home/jovyan"}],
             "lifecycle": {"postStart": {"exec": {"command": ["true"]}}},
             "volumeMounts": [{"name": "home", "mountPath": "/home/jovyan"}, {"name": "tmp", "mountPath": "/tmp"}]},
            {"name": "proxy", "image": "proxy", "securityContext": confined(), "envFrom": [{"secretRef": {"name": "keys", "optional": true}}], "ports": [{"containerPort": 15001}]},
        ],
        "volumes": [{"name": "home", "emptyDir": {}}, {"name": "tmp", "emptyDir": {"medium": "Memory"}}],
    });

    let untouched = hub.untouched(&pod).await;
    let admitted = hub.ask_for(&pod, false).await.unwrap();

    assert_eq!(served(&admitted), ["notebook"]);
    assert_eq!(without_ours(&admitted), without_ours(&untouched));
    let alice = adopted(&hub, admitted).await;
    said(&alice, ASK).await;
    hub.remove().await;
}

/// The pod, running on the node `paper`.
async fn adopted(hub: &Hub, pod: Value) -> HostPod {
    let pod = serde_json::from_value(pod).unwrap();
    HostPod::adopt(&hub.platform, pod).await.unwrap()
}

#[tokio::test]
async fn a_profile_that_asks_for_the_whole_node_still_finds_room_on_it() {
    let hub = Hub::ready("whole").await;
    let nodes: Api<Node> = Api::all(hub.platform.client().await.unwrap());
    let paper = nodes.get("paper").await.unwrap();
    let allocatable = paper.status.unwrap().allocatable.unwrap();
    let whole = json!({"cpu": allocatable["cpu"], "memory": allocatable["memory"]});
    let mut pod = hub.notebook("alice", "alice");
    pod["spec"]["containers"][0]["resources"] = json!({"requests": whole, "limits": whole});

    let admitted = hub.ask_for(&pod, false).await.unwrap();

    assert_eq!(served(&admitted), ["notebook"]);
    let place = ["pod", "jupyter-alice", "-o=jsonpath={.spec.nodeName}"];
    hub.until("the scheduler to find room", async || {
        hub.get(&place).await == "paper"
    })
    .await;
    hub.remove().await;
}

#[tokio::test]
async fn a_namespace_of_the_level_restricted_admits_the_pod_with_its_credentials() {
    let hub = Hub::ready("restricted").await;
    let level = "pod-security.kubernetes.io/enforce=restricted";
    hub.kubectl(&["label", "namespace", &hub.namespace, level])
        .await;
    let mut pod = hub.notebook("alice", "alice");
    pod["spec"]["nodeName"] = json!("paper");
    hub.until("the level to be enforced", async || {
        let refused = hub.ask_for(&pod, true).await;
        refused.is_err_and(|error| error.to_string().contains("violates PodSecurity"))
    })
    .await;
    pod["spec"]["containers"][0]["securityContext"] = confined();

    let admitted = hub.ask_for(&pod, false).await.unwrap();

    assert_eq!(served(&admitted), ["notebook"]);
    said(&adopted(&hub, admitted).await, ASK).await;
    hub.remove().await;
}

#[tokio::test]
async fn whether_a_pod_has_a_token_for_the_api_server_is_left_to_its_hub() {
    let hub = Hub::ready("automount").await;
    for (name, mounts) in [("with", true), ("without", false)] {
        let mut pod = hub.notebook(name, name);
        pod["spec"]["nodeName"] = json!("paper");
        pod["spec"]["automountServiceAccountToken"] = json!(mounts);

        let admitted = hub.ask_for(&pod, false).await.unwrap();

        let volumes = admitted["spec"]["volumes"].as_array().unwrap();
        let of_api_server = volumes.iter().filter(|volume| {
            let name = volume["name"].as_str().unwrap();
            name.starts_with("kube-api-access-")
        });
        assert_eq!(of_api_server.count(), usize::from(mounts), "{volumes:?}");
        said(&adopted(&hub, admitted).await, ASK).await;
    }
    hub.remove().await;
}

#[tokio::test]
async fn among_sidecars_the_users_container_is_found_by_name_by_index_and_by_annotation() {
    let hub = Hub::ready("sidecars").await;
    let container = |name: &str| json!({"name": name, "image": name});
    let mut pod = hub.notebook("alice", "alice");
    pod["spec"]["containers"] = json!([
        container("proxy"),
        container("notebook"),
        container("rstudio")
    ]);
    let mut annotated = pod.clone();
    annotated["metadata"]["annotations"]["hubstorage.io/container"] = json!("proxy");
    let source = |choice: Value| {
        let mut storage = hub.storage();
        storage["spec"]["users"] = json!({"sources": [{
            "name": "notebook",
            "podSelector": {"matchLabels": {"component": "singleuser-server"}},
            "creators": [{"serviceAccount": {"name": CREATOR}}],
            "container": choice,
        }]});
        storage
    };

    hub.until_served(&pod, "notebook").await;
    for choice in [json!({"name": "rstudio"}), json!({"index": 2})] {
        hub.apply(&source(choice)).await;
        hub.until_served(&pod, "rstudio").await;
        hub.until_served(&annotated, "proxy").await;
        // Back to what is usual, so that the next choice shows itself.
        hub.apply(&source(json!({"name": "notebook"}))).await;
        hub.until_served(&pod, "notebook").await;
    }

    for wrong in [json!({}), json!({"name": "rstudio", "index": 2})] {
        let mut fresh = source(wrong);
        fresh["metadata"]["name"] = json!("wrong");
        let error = hub.try_apply(&fresh).await.unwrap_err();
        let place = "spec.users.sources[0].container";
        let message = "exactly one of name and index";
        assert!(error.contains(place) && error.contains(message), "{error}");
    }
    hub.remove().await;
}

#[tokio::test]
async fn a_pod_of_a_mebibyte_is_given_its_storage_like_any_other() {
    let hub = Hub::ready("huge").await;
    let mut pod = hub.notebook("alice", "alice");
    pod["spec"]["nodeName"] = json!("paper");
    // A variable is at most 128 KiB long on Linux (execve(2), MAX_ARG_STRLEN).
    let settings = (0..10).map(
        |number| json!({"name": format!("SETTING_{number}"), "value": "x".repeat(100 * 1024)}),
    );
    pod["spec"]["containers"][0]["env"] = settings.collect();
    pod["metadata"]["annotations"]["example.org/notes"] = json!("y".repeat(60 * 1024));
    assert!(pod.to_string().len() > 1024 * 1024);

    let untouched = hub.untouched(&pod).await;
    let admitted = hub.ask_for(&pod, false).await.unwrap();

    assert_eq!(served(&admitted), ["notebook"]);
    assert_eq!(without_ours(&admitted), without_ours(&untouched));
    said(&adopted(&hub, admitted).await, ASK).await;
    hub.remove().await;
}

#[tokio::test]
async fn a_dry_run_shows_the_pod_as_it_will_be_and_leaves_nothing_behind() {
    let hub = Hub::ready("dry").await;
    let pod = hub.notebook("alice", "alice");
    let made_of_it = async || hub.get(&["pods,hubusers", "-o=name"]).await;

    let shown = hub.ask_for(&pod, true).await.unwrap();

    assert_eq!(made_of_it().await, "");
    let made = hub.ask_for(&pod, false).await.unwrap();
    assert_eq!(shown["spec"], made["spec"]);
    assert_eq!(served(&shown), ["notebook"]);
    for place in ["annotations", "labels"] {
        assert_eq!(shown["metadata"][place], made["metadata"][place]);
    }
    hub.remove().await;
}
