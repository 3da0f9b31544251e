//! Shared folders on a real API server: what pods are given, and which ones are refused whatever made them so.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::bad_input::refused;
use crate::hub::{CREATOR, Hub};

/// ~/shared and a folder of a group, both on the claim of the homes.
fn folders() -> Value {
    let admins = json!([{"kind": "Group", "name": "admins"}]);
    json!([
        {
            "name": "shared", "claimName": "nfs", "subPath": "_shared", "mountPath": "/home/jovyan/shared",
            "writers": {"subjects": admins, "mountPath": "/home/jovyan/shared-readwrite"},
        },
        {"name": "ocean", "claimName": "nfs", "subPath": "groups/ocean", "mountPath": "/home/jovyan/ocean"},
        {
            "name": "public", "claimName": "nfs", "subPath": "_public", "mountPath": "/home/jovyan/public",
            "writers": {"subjects": [{"kind": "Everyone"}]},
        },
    ])
}

fn storage(hub: &Hub, fields: Value) -> Value {
    let mut storage = hub.storage();
    storage["spec"]["shared"] = folders();
    json_patch::merge(&mut storage["spec"], &fields);
    storage
}

/// The volume of a claim.
fn volume_of(hub: &Hub, claim: &str) -> String {
    format!("{}-{claim}", hub.namespace)
}

/// A claim that is bound to a volume which nobody mounts here.
async fn claim(hub: &Hub, name: &str, mode: &str) {
    let volume = volume_of(hub, name);
    let size = json!({"storage": "1Gi"});
    let reference = json!({"namespace": hub.namespace, "name": name});
    hub.apply(&json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": volume},
        "spec": {
            "capacity": size, "accessModes": [mode], "storageClassName": "",
            "persistentVolumeReclaimPolicy": "Delete", "claimRef": reference,
            "csi": {"driver": "nowhere.example.org", "volumeHandle": volume},
        },
    }))
    .await;
    hub.apply(&json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": hub.namespace},
        "spec": {
            "accessModes": [mode], "storageClassName": "", "volumeName": volume, "resources": {"requests": size},
        },
    }))
    .await;
}

/// A hub with the folders, whose claim is there; the policies know of it.
async fn with_folders(purpose: &str, fields: Value) -> Hub {
    let hub = Hub::namespace(purpose).await;
    hub.apply(&hub.provider()).await;
    claim(&hub, "nfs", "ReadWriteMany").await;
    hub.apply(&storage(&hub, fields)).await;
    hub.until_condition("hs/hub", "MountsReady", "True", "Applied")
        .await;
    hub.allow_pods(CREATOR).await;
    hub
}

/// Waits until the policies go by the HubStorage as it is: the API server learns of it from a watch.
async fn until_in_force(hub: &Hub, is: impl Fn(&Tried) -> bool) {
    let pod = mounting(hub, json!({"subPath": "_shared"}));
    hub.until("the policies to go by the HubStorage", async || {
        is(&tried(hub, &pod).await)
    })
    .await;
}

async fn remove(hub: Hub) {
    hub.delete_of_cluster("pv", &volume_of(&hub, "nfs")).await;
    hub.remove().await;
}

/// A user's pod whose container has such a mount of the claim.
fn mounting(hub: &Hub, mount: Value) -> Value {
    let mut pod = hub.notebook("bob", "bob");
    pod["spec"]["volumes"] =
        json!([{"name": "home", "persistentVolumeClaim": {"claimName": "nfs"}}]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([at("/data", mount)]);
    pod
}

fn at(path: &str, mount: Value) -> Value {
    let mut all = json!({"name": "home", "mountPath": path});
    json_patch::merge(&mut all, &mount);
    all
}

fn in_groups(mut pod: Value, groups: &str) -> Value {
    pod["metadata"]["annotations"]["hubstorage.io/groups"] = json!(groups);
    pod
}

/// What the API server says to a pod that would be made.
struct Tried {
    /// The pod as it would be; none where it is refused.
    pod: Option<Value>,
    /// The refusal, or the warnings.
    told: String,
}

impl Tried {
    fn is_let_in(&self) -> bool {
        self.pod.is_some()
    }
}

async fn tried(hub: &Hub, pod: &Value) -> Tried {
    tried_by(hub, CREATOR, pod).await
}

async fn tried_by(hub: &Hub, account: &str, pod: &Value) -> Tried {
    let account = format!("--as=system:serviceaccount:{}:{account}", hub.namespace);
    let create = ["create", "--dry-run=server", "-o=json", &account, "-f", "-"];
    let output = hub
        .platform
        .kubectl_with_input(create, &pod.to_string())
        .await
        .unwrap();
    Tried {
        pod: output
            .status
            .success()
            .then(|| serde_json::from_slice(&output.stdout).unwrap()),
        told: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

async fn is_let_in(hub: &Hub, pod: &Value) {
    let tried = tried(hub, pod).await;
    assert!(tried.is_let_in(), "{}: {pod}", tried.told);
}

/// Asserts that a pod is refused, and by whom.
async fn is_refused(hub: &Hub, pod: &Value, folder: &str) {
    let tried = tried(hub, pod).await;
    assert!(!tried.is_let_in(), "{pod}");
    for words in [
        "hubstorage-shared",
        &format!("could write to shared folder {folder} of HubStorage hub"),
        "spec.shared[].writers",
    ] {
        assert!(tried.told.contains(words), "{}", tried.told);
    }
}

#[tokio::test]
async fn a_user_finds_the_folders_read_only_and_a_writer_finds_them_to_write() {
    let hub = with_folders("folders", json!({})).await;
    let given = async |pod: Value| {
        let pod = tried(&hub, &pod).await.pod.unwrap();
        let mounts = pod["spec"]["containers"][0]["volumeMounts"].clone();
        let is_ours = |mount: &&Value| mount["name"] == "hubstorage-shared-shared";
        let ours = mounts.as_array().unwrap().iter().filter(is_ours);
        ours.map(|mount| {
            (
                mount["mountPath"].clone(),
                mount["subPath"].clone(),
                mount["readOnly"] == true,
            )
        })
        .collect::<Vec<_>>()
    };
    // A replica of serve learns of the folders from a watch.
    hub.until("pods to be given the folders", async || {
        !given(hub.notebook("bob", "bob")).await.is_empty()
    })
    .await;
    let shared = (json!("/home/jovyan/shared"), json!("_shared"), true);
    let to_write = (
        json!("/home/jovyan/shared-readwrite"),
        json!("_shared"),
        false,
    );
    let ocean = (json!("/home/jovyan/ocean"), json!("groups/ocean"), true);
    let public = (json!("/home/jovyan/public"), json!("_public"), false);
    let reader = hub.notebook("bob", "bob");
    let expected = [shared.clone(), ocean.clone(), public.clone()];
    assert_eq!(given(reader.clone()).await, expected);
    let writer = in_groups(reader, r#"["ice", "admins"]"#);
    assert_eq!(given(writer).await, [shared, to_write, ocean, public]);
    remove(hub).await;
}

#[tokio::test]
async fn a_mount_that_could_write_to_a_folder_is_refused_in_whatever_form_and_others_are_not() {
    let hub = with_folders("forms", json!({})).await;
    until_in_force(&hub, |tried| !tried.is_let_in()).await;
    for sub_path in ["_shared", "./_shared/", "_shared//.", "_shared/data"] {
        is_refused(
            &hub,
            &mounting(&hub, json!({"subPath": sub_path})),
            "shared",
        )
        .await;
    }
    // One that nobody reads to its end could be any.
    let endless = format!("{}_other", "./".repeat(150_000));
    is_refused(
        &hub,
        &mounting(&hub, json!({"subPath": endless})),
        "shared, ocean",
    )
    .await;
    for sub_path in ["groups", "groups/ocean", "./groups//ocean/a"] {
        is_refused(&hub, &mounting(&hub, json!({"subPath": sub_path})), "ocean").await;
    }
    for mount in [
        json!({}),
        json!({"subPath": "."}),
        json!({"subPathExpr": "$(HOME)"}),
        json!({"readOnly": false}),
    ] {
        is_refused(&hub, &mounting(&hub, mount), "shared, ocean").await;
    }
    for mount in [
        json!({"readOnly": true}),
        json!({"subPath": "_shared", "readOnly": true}),
        json!({"subPathExpr": "$(HOME)", "readOnly": true}),
        json!({"subPath": "bob"}),
        json!({"subPath": "_share"}),
        json!({"subPath": "_shared2"}),
        json!({"subPath": "groups/ocean2"}),
        json!({"subPath": "bob/_shared"}),
        json!({"subPath": "_public"}),
    ] {
        is_let_in(&hub, &mounting(&hub, mount)).await;
    }
    let mut of_read_only_volume = mounting(&hub, json!({}));
    of_read_only_volume["spec"]["volumes"][0]["persistentVolumeClaim"]["readOnly"] = json!(true);
    is_let_in(&hub, &of_read_only_volume).await;
    let mut of_another_claim = mounting(&hub, json!({}));
    of_another_claim["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] = json!("bobs");
    is_let_in(&hub, &of_another_claim).await;
    remove(hub).await;
}

#[tokio::test]
async fn every_kind_of_container_is_looked_at_but_for_init_containers_that_are_named() {
    let exempt = json!({"policy": {"exemptInitContainers": ["chown"]}});
    let hub = with_folders("containers", exempt).await;
    until_in_force(&hub, |tried| !tried.is_let_in()).await;
    let container =
        |name: &str| json!({"name": name, "image": "x", "volumeMounts": [at("/data", json!({}))]});
    let with = |list: &str, container: Value| {
        let mut pod = mounting(&hub, json!({"readOnly": true}));
        match pod["spec"][list].as_array_mut() {
            Some(list) => list.push(container),
            None => pod["spec"][list] = json!([container]),
        }
        pod
    };
    let all = "shared, ocean";
    is_refused(&hub, &with("containers", container("sidecar")), all).await;
    is_refused(&hub, &with("containers", container("chown")), all).await;
    is_refused(&hub, &with("initContainers", container("other")), all).await;
    let mut sidecar = container("chown");
    sidecar["restartPolicy"] = json!("Always");
    is_refused(&hub, &with("initContainers", sidecar), all).await;
    is_let_in(&hub, &with("initContainers", container("chown"))).await;

    // The node lets it go before anything can be debugged, unless it stays as it is.
    let running = with("initContainers", container("chown"));
    let pod = hub.pod_by(CREATOR, running).await.unwrap();
    let client = hub.platform.client().await.unwrap();
    let pods: Api<Pod> = Api::namespaced(client, &hub.namespace);
    let debug = async |mount: Value| {
        let container = json!({
            "name": "debug", "image": "x", "targetContainerName": "notebook", "volumeMounts": [at("/debugged", mount)],
        });
        let patch = Patch::Strategic(json!({"spec": {"ephemeralContainers": [container]}}));
        let params = PatchParams {
            dry_run: true,
            ..PatchParams::default()
        };
        let patched = pods
            .patch_ephemeral_containers("jupyter-bob", &params, &patch)
            .await;
        patched.map(drop).map_err(|error| error.to_string())
    };
    let refused = debug(json!({})).await.unwrap_err();
    assert!(
        refused.contains("In container debug they set readOnly"),
        "{refused}"
    );
    debug(json!({"readOnly": true})).await.unwrap();
    pod.delete().await.unwrap();
    remove(hub).await;
}

#[tokio::test]
async fn a_writer_is_who_the_hub_says_and_nobody_else() {
    let dask = json!({
        "name": "dask", "podSelector": {"matchLabels": {"component": "dask"}},
        "creators": [{"serviceAccount": {"name": "gateway"}}], "dependsOn": {"name": "notebook"},
    });
    let notebook = json!({
        "name": "notebook", "podSelector": {"matchLabels": {"component": "singleuser-server"}},
        "creators": [{"serviceAccount": {"name": CREATOR}}],
    });
    let sources = json!({"users": {"sources": [notebook, dask]}});
    let hub = with_folders("writers", sources).await;
    hub.allow_pods("gateway").await;
    until_in_force(&hub, |tried| !tried.is_let_in()).await;
    let pod = mounting(&hub, json!({"subPath": "_shared"}));
    for groups in [
        r#"["admins"]"#,
        r#"["ice", "admins"]"#,
        "[ \"ice\",\n\"admins\" , \"b\"]",
    ] {
        is_let_in(&hub, &in_groups(pod.clone(), groups)).await;
    }
    is_let_in(&hub, &in_groups(pod.clone(), r#"["a\\","admins"]"#)).await;
    let many = |count: usize| {
        let many: Vec<String> = (0..count)
            .map(|group| format!("a group of many, no. {group}"))
            .collect();
        json!([many, vec!["admins".to_owned()]].concat()).to_string()
    };
    is_let_in(&hub, &in_groups(pod.clone(), &many(2_000))).await;
    is_refused(&hub, &in_groups(pod.clone(), &many(6_000)), "shared").await;
    for groups in [
        "[]",
        "admins",
        r#"["admins2"]"#,
        r#"["all admins"]"#,
        r#"["Admins"]"#,
        // One group with a name that looks like two.
        r#"["a\",\"admins"]"#,
        r#"["\"admins\""]"#,
        r#"[", \"admins\""]"#,
        r#"["a\\\",\"admins\",\"b"]"#,
        r#"["ad\"mins"]"#,
        r#"["x", "admins"#,
    ] {
        is_refused(&hub, &in_groups(pod.clone(), groups), "shared").await;
    }
    let writer = in_groups(pod, r#"["admins"]"#);
    let by_gateway = tried_by(&hub, "gateway", &writer).await;
    assert!(!by_gateway.is_let_in());
    let mut by_dask = writer.clone();
    by_dask["metadata"]["labels"]["dask.org/cluster-name"] = json!("mine");
    is_refused(&hub, &by_dask, "shared").await;

    // A pod that is nobody's is not looked at: an administrator's job fills the folder.
    let mut of_nobody = mounting(&hub, json!({}));
    of_nobody["metadata"]["labels"] = json!({});
    of_nobody["metadata"]["annotations"] = json!({});
    is_let_in(&hub, &of_nobody).await;
    remove(hub).await;
}

#[tokio::test]
async fn with_audit_and_in_mode_observe_a_pod_is_let_in_with_a_warning() {
    let hub = with_folders("audit", json!({"policy": {"enforcement": "Audit"}})).await;
    let pod = mounting(&hub, json!({"subPath": "_shared"}));
    let is_warned_of = |tried: &Tried| {
        tried.is_let_in()
            && tried.told.contains("hubstorage-shared-audit")
            && tried.told.contains("folder shared")
    };
    until_in_force(&hub, is_warned_of).await;
    let right = mounting(&hub, json!({"subPath": "bob"}));
    let tried_right = tried(&hub, &right).await;
    assert!(
        !tried_right.told.contains("hubstorage-shared"),
        "{}",
        tried_right.told
    );

    hub.apply(&storage(&hub, json!({"policy": {"enforcement": "Deny"}})))
        .await;
    until_in_force(&hub, |tried| !tried.is_let_in()).await;
    hub.apply(&storage(&hub, json!({"mode": "Observe"}))).await;
    until_in_force(&hub, is_warned_of).await;
    assert!(tried(&hub, &pod).await.is_let_in());
    remove(hub).await;
}

#[tokio::test]
async fn a_claim_that_pods_would_wait_for_keeps_nobody_from_starting_and_is_told_until_it_is_there()
{
    let hub = Hub::namespace("missing").await;
    hub.apply(&hub.provider()).await;
    let mut storage = storage(&hub, json!({}));
    for folder in storage["spec"]["shared"].as_array_mut().unwrap() {
        folder["claimName"] = json!("once");
    }
    hub.apply(&storage).await;
    let told = hub
        .until_condition("hs/hub", "MountsReady", "False", "ClaimMissing")
        .await;
    assert!(
        told.contains("spec.shared[shared].claimName: claim once is not"),
        "{told}"
    );
    claim(&hub, "once", "ReadWriteOnce").await;
    let told = hub
        .until_condition("hs/hub", "MountsReady", "False", "ClaimNotShareable")
        .await;
    assert!(
        told.contains("it needs access mode ReadWriteMany"),
        "{told}"
    );
    hub.allow_pods(CREATOR).await;
    hub.until(
        "a pod to be given what there is without the folder",
        async || {
            let tried = tried(&hub, &hub.notebook("bob", "bob")).await;
            let pod = tried.pod.unwrap().to_string();
            assert!(!pod.contains("hubstorage-shared"), "{pod}");
            pod.contains("SCRATCH_BUCKET")
        },
    )
    .await;
    hub.delete_of_cluster("pv", &volume_of(&hub, "once")).await;
    hub.remove().await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_is_refused_with_its_field_and_the_way_out() {
    let hub = Hub::namespace("wrong").await;
    hub.apply(&hub.provider()).await;
    let with = |pointer: &str, value: Value| {
        let mut storage = storage(&hub, json!({}));
        *storage["spec"]["shared"].pointer_mut(pointer).unwrap() = value;
        storage
    };
    for path in [
        "home/jovyan",
        "/",
        "/home/",
        "/home//a",
        "/home/../a",
        "/a:b",
        "/a/.",
        "/srv\n",
        "/proc",
        "/usr/local/share",
    ] {
        let field = "spec.shared[1].mountPath";
        refused(
            &hub,
            with("/1/mountPath", json!(path)),
            field,
            if path == "/" {
                "at least 2"
            } else {
                "absolute path"
            },
        )
        .await;
    }
    for path in ["/_shared", "_shared/", "a//b", "a/../b", ".", "..", "a\n"] {
        let field = "spec.shared[1].subPath";
        refused(
            &hub,
            with("/1/subPath", json!(path)),
            field,
            "relative path such as _shared",
        )
        .await;
    }
    for path in ["_shared", "_shared/ocean"] {
        let message = "give each a subPath of its own";
        refused(
            &hub,
            with("/1/subPath", json!(path)),
            "spec.shared",
            message,
        )
        .await;
    }
    let mut whole = storage(&hub, json!({}));
    whole["spec"]["shared"][1]
        .as_object_mut()
        .unwrap()
        .remove("subPath");
    refused(&hub, whole, "spec.shared", "give each a subPath of its own").await;
    for (pointer, path) in [
        ("/1/mountPath", "/home/jovyan/shared"),
        ("/1/mountPath", "/home/jovyan/shared/ocean"),
        ("/1/mountPath", "/home/jovyan"),
        ("/1/mountPath", "/home/jovyan/shared-readwrite"),
        ("/0/writers/mountPath", "/home/jovyan/public/a"),
    ] {
        refused(
            &hub,
            with(pointer, json!(path)),
            "spec.shared",
            "give each a path of its own",
        )
        .await;
    }
    for path in ["/home/jovyan/shared", "/home/jovyan/shared/rw"] {
        let message = "writers.mountPath is mountPath, or one is within the other";
        refused(
            &hub,
            with("/0/writers/mountPath", json!(path)),
            "spec.shared",
            message,
        )
        .await;
    }
    let group = with("/0/writers/subjects/0/name", json!("a\"b"));
    refused(
        &hub,
        group,
        "spec.shared[0].writers.subjects",
        "give the group another name",
    )
    .await;
    refused(
        &hub,
        with("/0/claimName", json!("No_Claim")),
        "spec.shared[0].claimName",
        "should match",
    )
    .await;
    let mut unknown = storage(&hub, json!({"policy": {"enforcement": "Perhaps"}}));
    refused(&hub, unknown.take(), "spec.policy.enforcement", "Deny").await;
    let mut twice = storage(&hub, json!({}));
    twice["spec"]["shared"][1]["name"] = json!("shared");
    refused(&hub, twice, "spec.shared", "duplicate entries").await;
    // Of 255 letters that have two bytes each: what the API server takes, everybody can read.
    let long = format!("/{}", "ж".repeat(254));
    for path in ["/home/jovyan/shared-2", &long] {
        hub.apply(&with("/1/mountPath", json!(path))).await;
        hub.until_condition("hs/hub", "MountsReady", "False", "ClaimMissing")
            .await;
    }
    hub.remove().await;
}
