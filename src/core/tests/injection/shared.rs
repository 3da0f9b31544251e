//! Shared folders: who finds them where, and what of the pod stays as it is.

use hubstorage_core::injection::{AGENT_URL, Decision, HubInjection};
use serde_json::{Value, json};

use crate::cases::scratch;
use crate::{HUB, admit, hub_told, minio, notebook, notebook_pod, patched};

/// ~/shared on the claim of the homes: everybody reads it, and admins write to it.
fn shared(writers: Value) -> Value {
    let mut folder = json!({
        "name": "shared", "claimName": "nfs", "subPath": "_shared", "mountPath": "/home/jovyan/shared",
    });
    if !writers.is_null() {
        folder["writers"] = writers;
    }
    folder
}

fn admins(mount_path: Option<&str>) -> Value {
    let mut writers = json!({"subjects": [{"kind": "Group", "name": "admins"}]});
    if let Some(path) = mount_path {
        writers["mountPath"] = json!(path);
    }
    writers
}

/// A hub with these folders, all of which are there.
fn hub(folders: Value) -> HubInjection {
    let status = folders.as_array().unwrap().iter().map(there).collect();
    hub_knowing(folders, status)
}

fn there(folder: &Value) -> Value {
    json!({"name": folder["name"], "claimName": folder["claimName"]})
}

/// The same, of which status tells this.
fn hub_knowing(folders: Value, status: Vec<Value>) -> HubInjection {
    let dask = json!({
        "name": "dask", "podSelector": {"matchLabels": {"component": "dask"}},
        "creators": [{"serviceAccount": {"name": "hub"}}], "dependsOn": {"name": "notebook"},
    });
    let notebook = json!({
        "name": "notebook", "podSelector": {"matchLabels": {"component": "singleuser-server"}},
        "creators": [{"serviceAccount": {"name": "hub"}}],
    });
    let fields = json!({
        "buckets": scratch(json!([])), "shared": folders, "users": {"sources": [notebook, dask]},
    });
    hub_told(AGENT_URL, fields, json!({"shared": status}), minio())
}

fn pod_in(groups: &[&str]) -> Value {
    let mut pod = notebook_pod();
    pod["metadata"]["annotations"]["hubstorage.io/groups"] = json!(json!(groups).to_string());
    pod
}

/// The mounts of the user's container that are ours, and the mount paths that are told to be kept. Twice the
/// same admission changes nothing.
fn given(pod: &Value, hub: &HubInjection) -> (Vec<Value>, Vec<String>) {
    let admission = admit(pod, HUB, Some(hub));
    let after = patched(pod, &admission);
    let again = admit(&after, HUB, Some(hub));
    assert_eq!(again.patch.0, [], "nothing is left to do");
    let before = notebook(pod)["volumeMounts"].as_array();
    let count = before.map_or(0, Vec::len);
    let mounts = notebook(&after)["volumeMounts"].as_array().cloned();
    let ours = mounts.unwrap_or_default().split_off(count);
    let is_token = |mount: &Value| mount["name"] == "hubstorage-token";
    match admission.decision {
        Decision::Injected(report) => (
            ours.into_iter().filter(|mount| !is_token(mount)).collect(),
            report.kept_mounts,
        ),
        other => panic!("{other:?}"),
    }
}

fn mounts(pod: &Value, hub: &HubInjection) -> Vec<Value> {
    given(pod, hub).0
}

/// The volumes that are ours, but for the token.
fn volumes(pod: &Value, hub: &HubInjection) -> Vec<Value> {
    let after = patched(pod, &admit(pod, HUB, Some(hub)));
    let volumes = after["spec"]["volumes"].as_array().unwrap().iter();
    let is_ours = |volume: &&Value| {
        volume["name"]
            .as_str()
            .unwrap()
            .starts_with("hubstorage-shared")
    };
    volumes.filter(is_ours).cloned().collect()
}

fn read(path: &str) -> Value {
    json!({"name": "hubstorage-shared-shared", "mountPath": path, "subPath": "_shared", "readOnly": true})
}

fn write(path: &str) -> Value {
    json!({"name": "hubstorage-shared-shared", "mountPath": path, "subPath": "_shared"})
}

const SHARED: &str = "/home/jovyan/shared";
const READWRITE: &str = "/home/jovyan/shared-readwrite";

#[test]
fn everybody_reads_and_only_writers_write_at_the_same_place_or_at_one_of_their_own() {
    let alone = hub(json!([shared(Value::Null)]));
    let same = hub(json!([shared(admins(None))]));
    let apart = hub(json!([shared(admins(Some(READWRITE)))]));
    let (reader, writer) = (pod_in(&["ocean"]), pod_in(&["admins"]));
    for hub in [&alone, &same, &apart] {
        assert_eq!(mounts(&reader, hub), [read(SHARED)]);
        assert_eq!(mounts(&notebook_pod(), hub), [read(SHARED)]);
    }
    assert_eq!(mounts(&writer, &alone), [read(SHARED)]);
    assert_eq!(mounts(&writer, &same), [write(SHARED)]);
    assert_eq!(mounts(&writer, &apart), [read(SHARED), write(READWRITE)]);
    let volume =
        json!({"name": "hubstorage-shared-shared", "persistentVolumeClaim": {"claimName": "nfs"}});
    assert_eq!(volumes(&writer, &apart), [volume]);
}

#[test]
fn a_folder_of_a_group_is_found_by_its_members_and_by_writers() {
    let mut folder = shared(admins(None));
    folder["readers"] = json!([{"kind": "Group", "name": "ocean"}]);
    let hub = hub(json!([folder]));
    assert_eq!(mounts(&pod_in(&["ice"]), &hub), [Value::Null; 0]);
    assert_eq!(mounts(&pod_in(&["ice", "ocean"]), &hub), [read(SHARED)]);
    assert_eq!(mounts(&pod_in(&["admins"]), &hub), [write(SHARED)]);
}

#[test]
fn what_stands_for_a_server_has_what_everyone_has_whatever_groups_it_names() {
    let mut of_all = shared(json!({"subjects": [{"kind": "Everyone"}]}));
    of_all["name"] = json!("public");
    of_all["subPath"] = json!("_public");
    of_all["mountPath"] = json!("/home/jovyan/public");
    let mut of_group = shared(Value::Null);
    of_group["name"] = json!("ocean");
    of_group["subPath"] = json!("_ocean");
    of_group["mountPath"] = json!("/home/jovyan/ocean");
    of_group["readers"] = json!([{"kind": "Group", "name": "admins"}]);
    let hub = hub(json!([shared(admins(None)), of_all, of_group]));
    let mut worker = pod_in(&["admins"]);
    worker["metadata"]["labels"]["component"] = json!("dask");
    let public = json!({
        "name": "hubstorage-shared-shared", "mountPath": "/home/jovyan/public", "subPath": "_public",
    });
    assert_eq!(mounts(&worker, &hub), [read(SHARED), public]);
}

#[test]
fn a_folder_of_which_status_does_not_tell_that_it_can_be_mounted_costs_nobody_their_server() {
    let told = |fields: Value| {
        let mut told = json!({"name": "shared", "claimName": "nfs"});
        json_patch::merge(&mut told, &fields);
        hub_knowing(json!([shared(Value::Null)]), vec![told])
    };
    assert_eq!(mounts(&notebook_pod(), &told(json!({}))), [read(SHARED)]);
    for told in [
        told(json!({"reason": "ClaimNotBound"})),
        told(json!({"reason": "OfTheFuture"})),
        told(json!({"claimName": "the-former-one"})),
        told(json!({"name": "another"})),
        hub_knowing(json!([shared(Value::Null)]), vec![]),
    ] {
        assert_eq!(given(&notebook_pod(), &told), (vec![], vec![]));
    }
}

#[test]
fn a_volume_that_nobody_can_write_to_is_asked_for_so() {
    let told = json!({"name": "shared", "claimName": "nfs", "readOnly": true});
    let hub = hub_knowing(json!([shared(Value::Null)]), vec![told]);
    assert_eq!(mounts(&notebook_pod(), &hub), [read(SHARED)]);
    let claim = json!({"claimName": "nfs", "readOnly": true});
    let volume = json!({"name": "hubstorage-shared-shared", "persistentVolumeClaim": claim});
    assert_eq!(volumes(&notebook_pod(), &hub), [volume]);
}

/// A pod whose home is a directory of the same claim, as KubeSpawner makes it.
fn with_home(mount: Value) -> Value {
    let mut pod = pod_in(&["admins"]);
    let home = json!({"name": "home", "persistentVolumeClaim": {"claimName": "nfs"}});
    pod["spec"]["volumes"] = json!([home]);
    pod["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "home", "mountPath": "/home/jovyan", "subPath": "bob"}, mount]);
    pod
}

fn elsewhere() -> Value {
    json!({"name": "home", "mountPath": "/data", "subPath": "data"})
}

#[test]
fn the_volume_that_the_pod_has_of_the_claim_is_taken_as_long_as_it_can_be_written() {
    let hub = hub(json!([shared(admins(Some(READWRITE)))]));
    let pod = with_home(elsewhere());
    let of_home = |mut mount: Value| {
        mount["name"] = json!("home");
        mount
    };
    assert_eq!(
        mounts(&pod, &hub),
        [of_home(read(SHARED)), of_home(write(READWRITE))]
    );
    assert_eq!(volumes(&pod, &hub), [Value::Null; 0]);

    let mut pod = pod;
    pod["spec"]["volumes"][0]["persistentVolumeClaim"]["readOnly"] = json!(true);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([elsewhere()]);
    let (ours, kept) = given(&pod, &hub);
    assert_eq!(ours, [of_home(read(SHARED))]);
    assert_eq!(kept, [READWRITE]);
}

#[test]
fn a_mount_that_the_pod_has_is_kept_and_reported_unless_it_is_the_same() {
    let hub = hub(json!([shared(Value::Null)]));
    let at = |path: &str, fields: Value| {
        let mut mount =
            json!({"name": "home", "mountPath": path, "subPath": "_shared", "readOnly": true});
        json_patch::merge(&mut mount, &fields);
        given(&with_home(mount), &hub)
    };
    let nothing = (vec![], vec![]);
    assert_eq!(at(SHARED, json!({})), nothing);
    assert_eq!(
        at("/home//jovyan/shared/", json!({"subPath": "./_shared/"})),
        nothing
    );
    let kept = (vec![], vec![SHARED.to_owned()]);
    for fields in [
        json!({"readOnly": false}),
        json!({"subPath": "_other"}),
        json!({"subPath": null}),
        json!({"subPath": null, "subPathExpr": "_shared"}),
        json!({"name": "unknown"}),
    ] {
        assert_eq!(at(SHARED, fields.clone()), kept, "{fields}");
    }
    assert_eq!(
        at("/home/jovyan/shared/data", json!({})),
        kept,
        "it would be hidden"
    );
}

#[test]
fn nothing_is_mounted_where_the_runtime_can_make_no_place_for_it() {
    let hub = hub(json!([shared(Value::Null)]));
    let mut pod = with_home(elsewhere());
    pod["spec"]["containers"][0]["volumeMounts"][0]["readOnly"] = json!(true);
    assert_eq!(given(&pod, &hub), (vec![], vec![SHARED.to_owned()]));
}

#[test]
fn nothing_is_mounted_in_a_volume_that_is_read_only_however_it_is_mounted() {
    let hub = hub(json!([shared(Value::Null)]));
    for source in [
        json!({"persistentVolumeClaim": {"claimName": "bobs", "readOnly": true}}),
        json!({"configMap": {"name": "a"}}),
        json!({"secret": {"secretName": "a"}}),
        json!({"downwardAPI": {}}),
        json!({"projected": {"sources": []}}),
        json!({"nfs": {"server": "a", "path": "/", "readOnly": true}}),
        json!({"csi": {"driver": "a", "readOnly": true}}),
    ] {
        let mut pod = notebook_pod();
        let mut volume = source.clone();
        volume["name"] = json!("around");
        pod["spec"]["volumes"] = json!([volume]);
        pod["spec"]["containers"][0]["volumeMounts"] =
            json!([{"name": "around", "mountPath": "/home/jovyan"}]);
        assert_eq!(
            given(&pod, &hub),
            (vec![], vec![SHARED.to_owned()]),
            "{source}"
        );
    }
}

#[test]
fn of_several_volumes_of_the_claim_a_writer_is_given_one_that_can_be_written() {
    let hub = hub(json!([shared(admins(None))]));
    let mut pod = with_home(elsewhere());
    let claim = |read_only: bool| json!({"claimName": "nfs", "readOnly": read_only});
    pod["spec"]["volumes"] = json!([
        {"name": "first", "persistentVolumeClaim": claim(true)},
        {"name": "home", "persistentVolumeClaim": claim(false)},
    ]);
    let mut expected = write(SHARED);
    expected["name"] = json!("home");
    assert_eq!(mounts(&pod, &hub), [expected]);
}

/// What the admission policy would refuse would cost the user their server.
#[test]
fn a_writer_is_one_whom_the_policy_takes_for_one() {
    let hub = hub(json!([shared(admins(None))]));
    let with = |groups: &str| {
        let mut pod = notebook_pod();
        pod["metadata"]["annotations"]["hubstorage.io/groups"] = json!(groups);
        mounts(&pod, &hub)
    };
    assert_eq!(with(r#"["admins"]"#), [write(SHARED)]);
    assert_eq!(with(r#"["\u0061dmins"]"#), [read(SHARED)]);
    assert_eq!(with(r#" ["admins"]"#), [read(SHARED)]);
    let many: Vec<String> = (0..20_000).map(|group| format!("g{group}")).collect();
    let many = [many, vec!["admins".to_owned()]].concat();
    assert_eq!(with(&json!(many).to_string()), [read(SHARED)]);
}

#[test]
fn a_volume_of_our_name_that_is_another_is_kept() {
    let hub = hub(json!([shared(Value::Null)]));
    let mut pod = notebook_pod();
    pod["spec"]["volumes"] = json!([{"name": "hubstorage-shared-shared", "emptyDir": {}}]);
    assert_eq!(given(&pod, &hub), (vec![], vec![SHARED.to_owned()]));
}

#[test]
fn the_report_names_what_is_kept() {
    let hub = hub(json!([shared(Value::Null)]));
    let mount = json!({"name": "home", "mountPath": SHARED});
    let pod = with_home(mount);
    let after = patched(&pod, &admit(&pod, HUB, Some(&hub)));
    assert_eq!(
        after["metadata"]["annotations"]["hubstorage.io/injected"],
        r#"{"hub":"earth","generation":3,"keptMounts":["/home/jovyan/shared"]}"#
    );
}
