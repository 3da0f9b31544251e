//! Variables that a hub declares beside those of its buckets.

use hubstorage_core::injection::{AGENT_URL, Decision, HubInjection};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{HUB, admit, hub_of, minio, notebook, notebook_pod, patched, variable};

/// A hub that declares these.
fn hub(env: Value) -> HubInjection {
    let bucket = json!({"name": "scratch", "env": [{"name": "SCRATCH_BUCKET"}]});
    hub_of(AGENT_URL, json!({"buckets": [bucket], "env": env}), minio())
}

/// The entry of a variable in the notebook's container of bob's pod.
fn given(env: Value, name: &str) -> Option<Value> {
    given_to("bob", env, name)
}

fn given_to(user: &str, env: Value, name: &str) -> Option<Value> {
    let pod = pod_of(user);
    let after = patched(&pod, &admit(&pod, HUB, Some(&hub(env))));
    let all = notebook(&after)["env"].as_array().unwrap();
    all.iter().find(|entry| entry["name"] == name).cloned()
}

fn pod_of(user: &str) -> Value {
    let mut pod = notebook_pod();
    pod["metadata"]["annotations"]["hub.jupyter.org/username"] = json!(user);
    pod
}

/// Variables of the pod that the hub kept, as the pod's annotation tells.
fn kept(pod: &Value, hub: &HubInjection) -> Vec<String> {
    match admit(pod, HUB, Some(hub)).decision {
        Decision::Injected(report) => report.kept,
        other => panic!("{other:?}"),
    }
}

/// What the kubelet makes of a value, where no other variable is known.
fn expanded(value: &str) -> String {
    let mut expanded = String::new();
    let mut rest = value.chars().peekable();
    while let Some(c) = rest.next() {
        match (c, rest.peek()) {
            ('$', Some('$')) => {
                rest.next();
                expanded.push('$');
            }
            ('$', Some('(')) => panic!("a reference in {value:?}"),
            _ => expanded.push(c),
        }
    }
    expanded
}

#[test]
fn a_literal_is_given_as_it_is() {
    let env = json!([{"name": "STAC_URL", "value": "https://stac.example.org/$(USER)"}]);
    assert_eq!(
        given(env, "STAC_URL"),
        Some(json!({"name": "STAC_URL", "value": "https://stac.example.org/$(USER)"}))
    );
}

#[test]
fn what_stands_elsewhere_is_referred_to_and_a_pod_starts_without_it() {
    for source in ["configMapKeyRef", "secretKeyRef"] {
        let env = json!([{"name": "TOKEN", "valueFrom": {source: {"name": "hub-values", "key": "token"}}}]);
        let reference = json!({source: {"name": "hub-values", "key": "token", "optional": true}});
        assert_eq!(
            given(env, "TOKEN"),
            Some(json!({"name": "TOKEN", "valueFrom": reference}))
        );
    }
}

#[test]
fn gh_scoped_creds_is_given_the_hubs_app_and_a_hub_that_gives_another_keeps_it() {
    let bucket = json!({"name": "scratch"});
    let app = json!({"clientID": "Iv1.0", "appURL": "https://github.com/apps/earth"});
    let hub = hub_of(
        AGENT_URL,
        json!({"buckets": [bucket], "github": app}),
        minio(),
    );
    let mut pod = notebook_pod();
    let after = patched(&pod, &admit(&pod, HUB, Some(&hub)));
    for (name, value) in [
        ("GH_SCOPED_CREDS_CLIENT_ID", "Iv1.0"),
        ("GH_SCOPED_CREDS_APP_URL", "https://github.com/apps/earth"),
    ] {
        assert_eq!(variable(notebook(&after), name), Some(&json!(value)));
    }

    pod["spec"]["containers"][0]["env"] =
        json!([{"name": "GH_SCOPED_CREDS_CLIENT_ID", "value": "Iv1.9"}]);
    assert_eq!(kept(&pod, &hub), ["GH_SCOPED_CREDS_CLIENT_ID"]);
}

#[test]
fn a_user_is_told_their_name_and_their_prefix() {
    let env = json!([
        {"name": "HUB_USER", "valueFrom": {"user": "Name"}},
        {"name": "HUB_PREFIX", "valueFrom": {"user": "Prefix"}},
    ]);
    let name = given_to("Jane Doe", env.clone(), "HUB_USER").unwrap();
    assert_eq!(name["value"], "Jane Doe");
    let prefix = given_to("Jane Doe", env.clone(), "HUB_PREFIX").unwrap();
    let location = given_to("Jane Doe", env, "SCRATCH_BUCKET").unwrap();
    assert_eq!(
        location["value"],
        format!("s3://earth-scratch/{}", prefix["value"].as_str().unwrap())
    );
}

#[test]
fn a_literal_may_refer_to_what_the_operator_gives() {
    let pod = pod_of("bob");
    let env =
        json!([{"name": "GDAL_ENDPOINT", "value": "$(AWS_ENDPOINT_URL_S3)/$(SCRATCH_BUCKET)"}]);
    let after = patched(&pod, &admit(&pod, HUB, Some(&hub(env))));
    let names: Vec<&str> = notebook(&after)["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["name"].as_str().unwrap())
        .collect();
    let place = |name| names.iter().position(|other| *other == name).unwrap();
    for before in ["AWS_ENDPOINT_URL_S3", "SCRATCH_BUCKET"] {
        assert!(place(before) < place("GDAL_ENDPOINT"), "{names:?}");
    }
}

#[test]
fn a_name_that_no_variable_can_hold_costs_that_variable_only() {
    let env = json!([{"name": "HUB_USER", "valueFrom": {"user": "Name"}}]);
    assert_eq!(given_to("a\0b", env.clone(), "HUB_USER"), None);
    assert!(given_to("a\0b", env, "SCRATCH_BUCKET").is_some());
}

#[test]
fn a_value_that_the_pod_has_is_kept_and_reported_unless_the_spec_replaces_it() {
    let mut pod = notebook_pod();
    pod["spec"]["containers"][0]["env"] = json!([
        {"name": "A", "value": "theirs"},
        {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": true}}},
    ]);
    let hub = hub(json!([
        {"name": "A", "value": "ours"},
        {"name": "B", "value": "ours", "onConflict": "Replace"},
        {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ]));

    let after = patched(&pod, &admit(&pod, HUB, Some(&hub)));

    assert_eq!(kept(&pod, &hub), ["A"]);
    assert_eq!(variable(notebook(&after), "A"), Some(&json!("theirs")));
    let env = &notebook(&after)["env"];
    assert_eq!(env[1], json!({"name": "B", "value": "ours"}));
    assert_eq!(env[2], pod["spec"]["containers"][0]["env"][2]);
}

#[test]
fn an_empty_value_that_the_api_server_leaves_out_is_ours_still() {
    let hub = hub(json!([{"name": "EMPTY", "value": ""}]));
    let mut pod = notebook_pod();
    pod["spec"]["containers"][0]["env"] = json!([{"name": "EMPTY"}]);
    assert_eq!(kept(&pod, &hub), Vec::<String>::new());
}

proptest! {
    #[test]
    fn the_kubelet_makes_the_very_name_of_a_name(user in "[$()a-zA-Z{}*]{1,20}|\\PC{1,20}") {
        let env = json!([{"name": "HUB_USER", "valueFrom": {"user": "Name"}}]);
        let given = given_to(&user, env, "HUB_USER").unwrap();
        prop_assert_eq!(expanded(given["value"].as_str().unwrap()), user);
    }

    #[test]
    fn a_pod_that_was_given_them_is_not_changed_again(user in "\\PC{1,20}", on_conflict in prop_oneof![Just("Keep"), Just("Replace")]) {
        let env = json!([
            {"name": "A", "value": "", "onConflict": on_conflict},
            {"name": "HOME", "value": "/srv", "onConflict": on_conflict},
            {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}, "onConflict": on_conflict},
            {"name": "C", "valueFrom": {"user": "Name"}, "onConflict": on_conflict},
        ]);
        let (hub, pod) = (hub(env), pod_of(&user));
        let first = admit(&pod, HUB, Some(&hub));
        let second = admit(&patched(&pod, &first), HUB, Some(&hub));
        prop_assert_eq!(second.patch.0, vec![]);
        prop_assert_eq!(second.decision, first.decision);
    }
}
