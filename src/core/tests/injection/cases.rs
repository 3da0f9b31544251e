//! Case by case: which pods are given something, and exactly what.

use hubstorage_core::injection::{AGENT_URL, Admission, Decision, HubInjection, Report};
use serde_json::{Value, json};

use crate::{
    HUB, admit, amazon_without_vending, hub, hub_with_agent_at, minio, notebook, notebook_pod,
    patched, variable,
};

pub fn scratch(env: Value) -> Value {
    json!([{"name": "scratch", "bucketName": "earth-scratch", "env": env}])
}

/// A hub with one bucket, whose variable is SCRATCH_BUCKET.
pub fn plain_hub() -> HubInjection {
    hub(
        json!({}),
        scratch(json!([{"name": "SCRATCH_BUCKET"}])),
        minio(),
    )
}

/// A hub that gives nothing but SCRATCH_BUCKET and the region.
fn hub_with(env: Value) -> HubInjection {
    hub(json!({}), scratch(env), amazon_without_vending())
}

fn with_env(env: Value) -> Value {
    let mut pod = notebook_pod();
    pod["spec"]["containers"][0]["env"] = env;
    pod
}

fn report(admission: &Admission) -> &Report {
    match &admission.decision {
        Decision::Injected(report) => report,
        other => panic!("{other:?}"),
    }
}

/// Asserts that the pod is stamped and given nothing else, and returns why.
pub fn stamped_only(pod: &Value, creator: &str, hub: Option<&HubInjection>) -> String {
    let admission = admit(pod, creator, hub);
    let mut expected = pod.clone();
    if !expected["metadata"]["annotations"].is_object() {
        expected["metadata"]["annotations"] = json!({});
    }
    expected["metadata"]["annotations"]["hubstorage.io/created-by"] = json!(creator);
    assert_eq!(patched(pod, &admission), expected);
    match admission.decision {
        Decision::StampedOnly(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_notebook_pod_gets_exactly_this_patch() {
    let admission = admit(&notebook_pod(), HUB, Some(&plain_hub()));

    let env = |name: &str, value: &str| {
        let value = json!({"name": name, "value": value});
        json!({"op": "add", "path": "/spec/containers/0/env/-", "value": value})
    };
    let annotation = |key: &str, value: &str| json!({"op": "add", "path": format!("/metadata/annotations/{key}"), "value": value});
    let token = json!({"serviceAccountToken": {"audience": "hubstorage.io", "expirationSeconds": 3600, "path": "token"}});
    let directory = "/var/run/secrets/hubstorage.io/serviceaccount";
    assert_eq!(
        serde_json::to_value(&admission.patch).unwrap(),
        json!([
            annotation("hubstorage.io~1created-by", HUB),
            env("SCRATCH_BUCKET", "s3://earth-scratch/bob"),
            env("AWS_REGION", "us-east-1"),
            env("AWS_DEFAULT_REGION", "us-east-1"),
            env("AWS_ENDPOINT_URL_S3", "https://minio.example.org:9000"),
            env("AWS_S3_ENDPOINT", "minio.example.org:9000"),
            env("AWS_VIRTUAL_HOSTING", "FALSE"),
            env("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required"),
            env("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required"),
            env("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23:8180/v1/credentials"),
            env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &format!("{directory}/token")),
            {"op": "add", "path": "/spec/volumes/-", "value": {"name": "hubstorage-token", "projected": {"sources": [token]}}},
            {"op": "add", "path": "/spec/containers/0/volumeMounts/-",
             "value": {"name": "hubstorage-token", "mountPath": directory, "readOnly": true}},
            annotation("hubstorage.io~1injected", r#"{"hub":"earth","generation":3}"#),
        ])
    );
}

#[test]
fn pods_are_sent_to_where_the_agents_listen() {
    let agent = "http://[fd00:ec2::23]:9180/v1/credentials";
    let hub = hub_with_agent_at(agent, json!({}), scratch(json!([])), minio());

    let after = patched(&notebook_pod(), &admit(&notebook_pod(), HUB, Some(&hub)));

    let told = variable(notebook(&after), "AWS_CONTAINER_CREDENTIALS_FULL_URI");
    assert_eq!(told, Some(&json!(agent)));
}

#[test]
fn a_pod_without_env_mounts_volumes_or_annotations_gets_the_lists_too() {
    let mut pod = notebook_pod();
    pod["metadata"]["annotations"] = json!({"hub.jupyter.org/username": "bob"});
    pod["spec"].as_object_mut().unwrap().remove("volumes");
    for list in ["env", "volumeMounts"] {
        pod["spec"]["containers"][0]
            .as_object_mut()
            .unwrap()
            .remove(list);
    }

    let after = patched(&pod, &admit(&pod, HUB, Some(&plain_hub())));

    assert_eq!(after["spec"]["volumes"].as_array().unwrap().len(), 1);
    assert_eq!(
        notebook(&after)["volumeMounts"].as_array().unwrap().len(),
        1
    );
    assert_eq!(notebook(&after)["env"].as_array().unwrap().len(), 10);
}

#[test]
fn a_variable_tells_of_what_is_shared_where_nobody_has_a_prefix_of_their_own() {
    let grant = |name: &str, scope: &str| json!({"name": name, "subjects": [{"kind": "Everyone"}], "scope": scope, "permission": "ReadOnly"});
    let mut ocean = grant("ocean", "Prefix");
    ocean["prefix"] = json!("_groups/ocean");
    let (own, all) = (grant("own", "UserPrefix"), grant("all", "Bucket"));
    for (grants, url, with_slash) in [
        (
            json!([]),
            "s3://earth-scratch/bob",
            "s3://earth-scratch/bob/",
        ),
        (
            json!([ocean, own]),
            "s3://earth-scratch/bob",
            "s3://earth-scratch/bob/",
        ),
        (
            json!([ocean, all]),
            "s3://earth-scratch/_groups/ocean",
            "s3://earth-scratch/_groups/ocean/",
        ),
        (
            json!([all, ocean]),
            "s3://earth-scratch",
            "s3://earth-scratch/",
        ),
    ] {
        let env = json!([{"name": "SCRATCH_BUCKET"}, {"name": "PANGEO_SCRATCH", "format": "URLWithSlash"}]);
        let mut buckets = scratch(env);
        buckets[0]["grants"] = grants;
        let hub = hub(json!({}), buckets, amazon_without_vending());
        let pod = notebook_pod();

        let after = patched(&pod, &admit(&pod, HUB, Some(&hub)));

        for (name, value) in [("SCRATCH_BUCKET", url), ("PANGEO_SCRATCH", with_slash)] {
            assert_eq!(variable(notebook(&after), name), Some(&json!(value)));
        }
    }
}

#[test]
fn a_variable_of_what_is_granted_to_a_group_is_given_to_its_members() {
    let grant = json!({"name": "ocean", "subjects": [{"kind": "Group", "name": "ocean"}], "scope": "Prefix", "prefix": "_groups/ocean", "permission": "ReadWrite"});
    let mut buckets = scratch(json!([{"name": "OCEAN"}]));
    buckets[0]["grants"] = json!([grant]);
    let hub = hub(json!({}), buckets, amazon_without_vending());
    let given = |groups: Option<&str>| {
        let mut pod = notebook_pod();
        if let Some(groups) = groups {
            pod["metadata"]["annotations"]["hubstorage.io/groups"] = json!(groups);
        }
        let admission = admit(&pod, HUB, Some(&hub));
        let after = patched(&pod, &admission);
        (
            variable(notebook(&after), "OCEAN").cloned(),
            admission.decision,
        )
    };

    let (member, _) = given(Some(r#"["ocean"]"#));
    assert_eq!(member, Some(json!("s3://earth-scratch/_groups/ocean")));
    for groups in [None, Some(r#"["ice"]"#)] {
        let (stranger, decision) = given(groups);
        assert_eq!(stranger, None, "{groups:?}");
        assert!(matches!(decision, Decision::Injected(_)), "{decision:?}");
    }
    let (nobody, decision) = given(Some("ocean"));
    assert_eq!(nobody, None);
    assert!(
        matches!(&decision, Decision::StampedOnly(why) if why.contains("hubstorage.io/groups")),
        "{decision:?}"
    );
}

#[test]
fn lists_that_are_null_count_as_absent() {
    let mut pod = notebook_pod();
    pod["spec"]["volumes"] = Value::Null;
    pod["spec"]["containers"][0]["env"] = Value::Null;
    pod["spec"]["containers"][0]["volumeMounts"] = Value::Null;

    let after = patched(&pod, &admit(&pod, HUB, Some(&plain_hub())));

    assert_eq!(
        variable(notebook(&after), "SCRATCH_BUCKET"),
        Some(&json!("s3://earth-scratch/bob"))
    );
    assert_eq!(after["spec"]["volumes"][0]["name"], "hubstorage-token");
}

#[test]
fn a_label_alone_is_stamped_even_on_a_pod_without_annotations() {
    for annotations in [None, Some(Value::Null)] {
        let mut pod = notebook_pod();
        pod["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("annotations");
        if let Some(annotations) = annotations {
            pod["metadata"]["annotations"] = annotations;
        }
        let why = stamped_only(&pod, HUB, Some(&plain_hub()));
        assert_eq!(
            why,
            "the pod has no annotation hub.jupyter.org/username, so nobody knows whose it is; KubeSpawner sets it"
        );
    }
}

#[test]
fn a_variable_that_the_hub_set_is_kept_and_reported() {
    let pod = with_env(json!([{"name": "SCRATCH_BUCKET", "value": "s3://elsewhere/bob"}]));
    let admission = admit(
        &pod,
        HUB,
        Some(&hub_with(
            json!([{"name": "SCRATCH_BUCKET", "onConflict": "Keep"}]),
        )),
    );
    let after = patched(&pod, &admission);
    assert_eq!(
        variable(notebook(&after), "SCRATCH_BUCKET"),
        Some(&json!("s3://elsewhere/bob"))
    );
    assert_eq!(report(&admission).kept, ["SCRATCH_BUCKET"]);
    assert_eq!(
        after["metadata"]["annotations"]["hubstorage.io/injected"],
        r#"{"hub":"earth","generation":3,"kept":["SCRATCH_BUCKET"]}"#
    );
}

#[test]
fn a_variable_that_already_has_our_value_is_no_conflict() {
    let pod = with_env(json!([{"name": "SCRATCH_BUCKET", "value": "s3://earth-scratch/bob"}]));
    let admission = admit(
        &pod,
        HUB,
        Some(&hub_with(json!([{"name": "SCRATCH_BUCKET"}]))),
    );
    assert_eq!(report(&admission).kept, [""; 0]);
    assert_eq!(
        notebook(&patched(&pod, &admission))["env"][0],
        pod["spec"]["containers"][0]["env"][0]
    );
}

#[test]
fn a_variable_that_the_spec_replaces_is_replaced_where_it_stands() {
    let pod = with_env(json!([
        {"name": "SCRATCH_BUCKET", "valueFrom": {"configMapKeyRef": {"name": "old", "key": "scratch"}}},
        {"name": "LAST", "value": "$(SCRATCH_BUCKET)/x"},
    ]));
    let admission = admit(
        &pod,
        HUB,
        Some(&hub_with(
            json!([{"name": "SCRATCH_BUCKET", "onConflict": "Replace"}]),
        )),
    );
    let after = patched(&pod, &admission);
    let env = &notebook(&after)["env"];
    assert_eq!(
        env[0],
        json!({"name": "SCRATCH_BUCKET", "value": "s3://earth-scratch/bob"})
    );
    assert_eq!(env[1], pod["spec"]["containers"][0]["env"][1]);
    assert_eq!(report(&admission).kept, [""; 0]);
}

#[test]
fn of_several_entries_with_one_name_the_last_is_replaced_since_it_counts() {
    let first = json!({"name": "SCRATCH_BUCKET", "value": "first"});
    let pod = with_env(json!([first, {"name": "SCRATCH_BUCKET", "value": "last"}]));
    let admission = admit(
        &pod,
        HUB,
        Some(&hub_with(
            json!([{"name": "SCRATCH_BUCKET", "onConflict": "Replace"}]),
        )),
    );
    let after = patched(&pod, &admission);
    let env = &notebook(&after)["env"];
    assert_eq!(
        (&env[0], &env[1]["value"]),
        (&first, &json!("s3://earth-scratch/bob"))
    );
}

#[test]
fn of_several_entries_with_one_name_the_last_decides_whether_there_is_a_conflict() {
    let pod = with_env(json!([
        {"name": "SCRATCH_BUCKET", "value": "s3://earth-scratch/bob"},
        {"name": "SCRATCH_BUCKET", "value": "last"},
    ]));
    let admission = admit(
        &pod,
        HUB,
        Some(&hub_with(json!([{"name": "SCRATCH_BUCKET"}]))),
    );
    assert_eq!(report(&admission).kept, ["SCRATCH_BUCKET"]);
}

#[test]
fn a_setting_of_the_sdk_that_the_hub_chose_is_kept_and_reported() {
    let pod = with_env(json!([{"name": "AWS_DEFAULT_REGION", "value": "eu-central-1"}]));
    let admission = admit(&pod, HUB, Some(&plain_hub()));
    assert_eq!(report(&admission).kept, ["AWS_DEFAULT_REGION"]);
}

#[test]
fn a_location_may_end_in_a_slash() {
    let hub = hub_with(
        json!([{"name": "SCRATCH_BUCKET"}, {"name": "PANGEO_SCRATCH", "format": "URLWithSlash"}]),
    );
    let pod = notebook_pod();
    let after = patched(&pod, &admit(&pod, HUB, Some(&hub)));
    assert_eq!(
        variable(notebook(&after), "SCRATCH_BUCKET"),
        Some(&json!("s3://earth-scratch/bob"))
    );
    assert_eq!(
        variable(notebook(&after), "PANGEO_SCRATCH"),
        Some(&json!("s3://earth-scratch/bob/"))
    );
}

#[test]
fn each_bucket_has_its_own_variables() {
    let buckets = json!([
        {"name": "scratch", "env": [{"name": "SCRATCH_BUCKET"}]},
        {"name": "persistent", "env": [{"name": "PERSISTENT_BUCKET"}]},
    ]);
    let pod = notebook_pod();
    let after = patched(
        &pod,
        &admit(&pod, HUB, Some(&hub(json!({}), buckets, minio()))),
    );
    assert_eq!(
        variable(notebook(&after), "SCRATCH_BUCKET"),
        Some(&json!("s3://earth-scratch/bob"))
    );
    assert_eq!(
        variable(notebook(&after), "PERSISTENT_BUCKET"),
        Some(&json!("s3://earth-persistent/bob"))
    );
}

#[test]
fn gdal_and_object_store_are_told_how_to_speak_to_a_store_in_their_own_words() {
    let (http, https) = (
        "http://minio.example.org:9000",
        "https://minio.example.org:9000/",
    );
    for (endpoint, addressing, expected) in [
        (http, "Path", ["FALSE", "NO", "true"].map(Some)),
        (https, "Path", [Some("FALSE"), None, None]),
        (https, "VirtualHost", [None; 3]),
    ] {
        let mut provider = minio();
        provider["endpoint"] = json!(endpoint);
        provider["addressing"] = json!(addressing);
        let hub = hub(json!({}), scratch(json!([])), provider);
        let pod = notebook_pod();
        let after = patched(&pod, &admit(&pod, HUB, Some(&hub)));
        let given = |name| variable(notebook(&after), name).and_then(Value::as_str);
        assert_eq!(given("AWS_S3_ENDPOINT"), Some("minio.example.org:9000"));
        let names = ["AWS_VIRTUAL_HOSTING", "AWS_HTTPS", "AWS_ALLOW_HTTP"];
        assert_eq!(names.map(given), expected, "{endpoint} {addressing}");
    }
}

#[test]
fn on_amazon_no_endpoint_is_set_for_it_would_redirect_reads_of_public_data() {
    let pod = notebook_pod();
    let after = patched(&pod, &admit(&pod, HUB, Some(&hub_with(json!([])))));
    for name in ["AWS_ENDPOINT_URL_S3", "AWS_S3_ENDPOINT"] {
        assert_eq!(variable(notebook(&after), name), None);
    }
    assert_eq!(
        variable(notebook(&after), "AWS_REGION"),
        Some(&json!("us-west-2"))
    );
}

#[test]
fn where_nothing_is_vended_there_is_no_token() {
    let pod = notebook_pod();
    let after = patched(&pod, &admit(&pod, HUB, Some(&hub_with(json!([])))));
    assert_eq!(after["spec"]["volumes"], pod["spec"]["volumes"]);
    assert_eq!(
        variable(notebook(&after), "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        None
    );
}

#[test]
fn a_pod_without_containers_is_left_to_the_api_server_to_refuse() {
    let mut pod = notebook_pod();
    pod["spec"] = json!({});
    let admission = admit(&pod, HUB, Some(&plain_hub()));
    let after = patched(&pod, &admission);
    assert!(after["spec"].get("containers").is_none());
}

#[test]
fn a_selector_with_an_unknown_operator_is_named() {
    let hub = json!({
        "apiVersion": "hubstorage.io/v1alpha1", "kind": "HubStorage", "metadata": {"name": "earth", "namespace": "earth"},
        "spec": {"providerRef": {"name": "minio"}, "buckets": [], "users": {"sources": [{
            "name": "dask", "creators": [],
            "podSelector": {"matchExpressions": [{"key": "app", "operator": "Like", "values": ["dask*"]}]},
        }]}},
    });
    let provider = serde_json::from_value(minio()).unwrap();
    let error = HubInjection::new(
        &serde_json::from_value(hub).unwrap(),
        &[],
        &provider,
        AGENT_URL,
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("spec.users.sources[dask].podSelector is not valid: "),
        "{error}"
    );
}
