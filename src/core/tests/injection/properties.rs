//! What holds for any pod, any hub and any username.

use std::collections::BTreeSet;

use hubstorage_core::injection::{AGENT_URL, Decision, HubInjection};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

use crate::{
    HUB, admit, amazon_without_vending, hub, hub_of, minio, notebook, notebook_pod, patched,
    variable,
};

const STAMP: &str = "hubstorage.io/created-by";
const INJECTED: &str = "hubstorage.io/injected";

/// Variables that a hub may declare.
const DECLARED: &[&str] = &["SCRATCH_BUCKET", "PANGEO_SCRATCH", "PERSISTENT_BUCKET"];

/// Further variables that it may declare.
const FURTHER: &[&str] = &["STAC_URL", "HUB_USER", "LICENCE"];

/// A list of the pod as a client may send it: absent, null or with items.
fn list(items: impl Strategy<Value = Vec<Value>>) -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        Just(None),
        Just(Some(Value::Null)),
        items.prop_map(|items| Some(Value::Array(items)))
    ]
}

fn object(fields: Vec<(&str, Option<Value>)>) -> Value {
    let present = fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(present.collect::<Map<_, _>>())
}

fn env() -> impl Strategy<Value = Option<Value>> {
    let names = select(
        [
            DECLARED,
            FURTHER,
            &[
                "AWS_REGION",
                "AWS_ENDPOINT_URL_S3",
                "HOME",
                "SCRATCH_BUCKET2",
            ],
        ]
        .concat(),
    );
    let value = prop_oneof![
        Just(json!({"value": "s3://earth-scratch/bob"})),
        Just(json!({"value": "us-west-2"})),
        "[a-z$()]{0,6}".prop_map(|value| json!({"value": value})),
        Just(json!({"valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}})),
        Just(
            json!({"valueFrom": {"secretKeyRef": {"name": "values", "key": "k", "optional": true}}})
        ),
        Just(json!({"value": ""})),
        Just(json!({})),
    ];
    let entry = (names, value).prop_map(|(name, mut entry)| {
        entry["name"] = json!(name);
        entry
    });
    list(vec(entry, 0..6))
}

fn container() -> impl Strategy<Value = Value> {
    let mounts = list(vec(
        Just(json!({"name": "home", "mountPath": "/home/jovyan"})),
        0..2,
    ));
    let name = select(&["notebook", "proxy", "dask-worker"] as &[_]);
    (name, env(), mounts, settings(), any::<Option<u8>>()).prop_map(
        |(name, env, mounts, settings, unknown)| {
            let unknown = unknown.map(|number| json!({"deep": [number, 1.5, null]}));
            let mut container = object(vec![
                ("name", Some(json!(name))),
                ("env", env),
                ("volumeMounts", mounts),
                ("unknownField", unknown),
            ]);
            for (field, value) in settings {
                container[field] = value;
            }
            container
        },
    )
}

/// What hubs set on containers beside: all of it is theirs.
fn settings() -> impl Strategy<Value = Vec<(&'static str, Value)>> {
    let confined = json!({
        "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false, "runAsNonRoot": true,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}, "futureConfinement": [{}],
    });
    let whole_node = json!({
        "requests": {"cpu": "3920m", "memory": "29Gi", "example.org/gpu": 1},
        "limits": {"cpu": "3920m", "memory": "29Gi", "example.org/gpu": 1},
    });
    let all = vec![
        ("securityContext", confined),
        ("resources", whole_node),
        (
            "envFrom",
            json!([{"secretRef": {"name": "keys", "optional": true}}]),
        ),
        ("stdin", json!(false)),
    ];
    subsequence(all, 0..=4)
}

/// Usernames, most of them meant to do harm.
fn usernames() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,8}",
        "[*?$\\{\\}/. %a-z\"'\\\\]{1,20}",
        "\\PC{1,80}",
        Just("*".to_owned()),
        Just("${aws:username}".to_owned())
    ]
}

/// Pods of users that the hub made.
fn pods() -> impl Strategy<Value = Value> {
    let volumes = list(vec(Just(json!({"name": "home", "emptyDir": {}})), 0..2));
    let others = subsequence(vec![STAMP, INJECTED, "example.org/~note/1"], 0..=3);
    (
        usernames(),
        others,
        vec(container(), 1..4),
        volumes,
        any::<bool>(),
    )
        .prop_map(|(username, others, containers, volumes, with_init)| {
            let mut annotations = json!({"hub.jupyter.org/username": username});
            for key in others {
                annotations[key] = json!("as it was sent");
            }
            let init = with_init
                .then(|| json!([{"name": "sync", "restartPolicy": "Always", "env": null}]));
            json!({
                "metadata": {
                    "labels": {"component": "singleuser-server", "hub.jupyter.org/username": "x"},
                    "annotations": annotations,
                },
                "spec": object(vec![
                    ("containers", Some(Value::Array(containers))), ("initContainers", init),
                    ("volumes", volumes), ("unknownField", Some(json!({"kept": 1e3}))),
                ]),
            })
        })
}

/// Hubs of every make; `on_conflict` says what becomes of variables that a pod already has.
fn hubs(on_conflict: &'static [&'static str]) -> impl Strategy<Value = HubInjection> {
    let variables = subsequence(DECLARED, 0..=DECLARED.len()).prop_shuffle();
    let settings = vec(
        (
            select(&["URL", "URLWithSlash"] as &[_]),
            select(on_conflict),
        ),
        DECLARED.len(),
    );
    let further = [
        json!({"name": "STAC_URL", "value": ""}),
        json!({"name": "HUB_USER", "valueFrom": {"user": "Name"}}),
        json!({"name": "LICENCE", "valueFrom": {"secretKeyRef": {"name": "values", "key": "k"}}}),
    ];
    let further = subsequence(further.to_vec(), 0..=FURTHER.len());
    let further = (further, select(on_conflict)).prop_map(|(mut further, on_conflict)| {
        for variable in &mut further {
            variable["onConflict"] = json!(on_conflict);
        }
        further
    });
    (variables, settings, further, any::<bool>()).prop_map(|(variables, settings, further, vends)| {
        let env: Vec<Value> = variables
            .iter()
            .zip(settings)
            .map(|(name, (format, on_conflict))| json!({"name": name, "format": format, "onConflict": on_conflict}))
            .collect();
        let provider = if vends { minio() } else { amazon_without_vending() };
        let bucket = json!({"name": "scratch", "env": env});
        hub_of(AGENT_URL, json!({"buckets": [bucket], "env": further}), provider)
    })
}

/// What a source may say of the container.
fn choices() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        select(&["notebook", "proxy", "dask-worker"] as &[_])
            .prop_map(|name| json!({"name": name})),
        (0..4u8).prop_map(|index| json!({"index": index})),
    ]
}

fn any_hub() -> impl Strategy<Value = HubInjection> {
    hubs(&["Keep", "Replace"])
}

/// The pod without anything that we may have put there. What we made to hold it goes too: a list
/// that is absent, null or empty is the same to the API server.
fn without_ours(pod: &Value) -> Value {
    let mut pod = pod.clone();
    let annotations = pod["metadata"]["annotations"].as_object_mut().unwrap();
    annotations.retain(|key, _| key != STAMP && key != INJECTED);
    for container in pod["spec"]["containers"].as_array_mut().unwrap() {
        let set_by_us = |entry: &Value| {
            let name = entry["name"].as_str().unwrap();
            DECLARED.contains(&name) || FURTHER.contains(&name) || name.starts_with("AWS_")
        };
        remove_from(container, "env", set_by_us);
        remove_from(container, "volumeMounts", |mount| {
            mount["name"] == "hubstorage-token"
        });
    }
    remove_from(&mut pod["spec"], "volumes", |volume| {
        volume["name"] == "hubstorage-token"
    });
    pod
}

fn remove_from(object: &mut Value, list: &str, ours: impl Fn(&Value) -> bool) {
    if let Some(items) = object[list].as_array_mut() {
        items.retain(|item| !ours(item));
    }
    if object[list].as_array().is_none_or(Vec::is_empty) {
        object.as_object_mut().unwrap().remove(list);
    }
}

/// The variables of each container, in order, none where the list is absent.
fn env_of(container: &Value) -> Vec<Value> {
    container["env"].as_array().cloned().unwrap_or_default()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_pod_that_was_admitted_is_not_changed_again(pod in pods(), hub in any_hub()) {
        let first = admit(&pod, HUB, Some(&hub));
        let second = admit(&patched(&pod, &first), HUB, Some(&hub));
        prop_assert_eq!(second.patch.0, vec![]);
        prop_assert_eq!(second.decision, first.decision);
    }

    #[test]
    fn everything_that_is_not_ours_stays_as_it_was_sent(pod in pods(), hub in any_hub()) {
        let after = patched(&pod, &admit(&pod, HUB, Some(&hub)));
        prop_assert_eq!(without_ours(&after).to_string(), without_ours(&pod).to_string());
    }

    #[test]
    fn operations_only_add_or_replace_and_only_where_ours_may_be(pod in pods(), hub in any_hub()) {
        let served = pod["spec"]["containers"].as_array().unwrap().iter().position(|c| c["name"] == "notebook").unwrap_or(0);
        let places = [
            "/metadata/annotations".to_owned(),
            "/spec/volumes".to_owned(),
            format!("/spec/containers/{served}/env"),
            format!("/spec/containers/{served}/volumeMounts"),
        ];
        let patch = serde_json::to_value(admit(&pod, HUB, Some(&hub)).patch).unwrap();
        for operation in patch.as_array().unwrap() {
            prop_assert!(operation["op"] == "add" || operation["op"] == "replace", "{}", operation);
            let path = operation["path"].as_str().unwrap();
            prop_assert!(places.iter().any(|place| path == place || path.starts_with(&format!("{place}/"))), "{}", path);
        }
    }

    #[test]
    fn no_container_is_added_and_only_the_notebook_is_changed(pod in pods(), hub in any_hub()) {
        let after = patched(&pod, &admit(&pod, HUB, Some(&hub)));
        let (before, after) = (&pod["spec"], &after["spec"]);
        prop_assert_eq!(&before["initContainers"], &after["initContainers"]);
        let pairs = before["containers"].as_array().unwrap().iter().zip(after["containers"].as_array().unwrap());
        prop_assert_eq!(pairs.len(), after["containers"].as_array().unwrap().len());
        prop_assert!(pairs.filter(|(before, after)| before != after).count() <= 1);
    }

    #[test]
    fn the_container_that_is_chosen_is_served_and_no_other(pod in pods(), choice in choices()) {
        let sources = json!([{
            "name": "notebook", "podSelector": {"matchLabels": {"component": "singleuser-server"}},
            "creators": [{"serviceAccount": {"name": "hub"}}], "container": choice,
        }]);
        let hub = hub(json!({"sources": sources}), json!([{"name": "scratch"}]), minio());

        let admission = admit(&pod, HUB, Some(&hub));

        let after = patched(&pod, &admission);
        let (before, after) = (pod["spec"]["containers"].as_array().unwrap(), after["spec"]["containers"].as_array().unwrap());
        let changed: Vec<usize> = (0..before.len()).filter(|index| before[*index] != after[*index]).collect();
        let is_chosen = |index: usize| match &choice {
            Value::Null => true,
            choice => choice["name"] == before[index]["name"] || choice["index"] == json!(index),
        };
        prop_assert!(changed.len() <= 1 && changed.iter().all(|index| is_chosen(*index)), "{:?}", changed);
        let has_it = (0..before.len()).any(is_chosen);
        prop_assert_eq!(matches!(admission.decision, Decision::Injected(_)), has_it, "{:?}", admission.decision);
    }

    #[test]
    fn variables_that_a_pod_has_are_kept_in_place_where_the_spec_says_keep(pod in pods(), hub in hubs(&["Keep"])) {
        let after = patched(&pod, &admit(&pod, HUB, Some(&hub)));
        let (before, after) = (env_of(notebook(&pod)), env_of(notebook(&after)));
        prop_assert!(after.starts_with(&before));
    }

    #[test]
    fn no_variable_that_was_absent_is_set_twice(pod in pods(), hub in any_hub()) {
        let after = patched(&pod, &admit(&pod, HUB, Some(&hub)));
        let before: BTreeSet<String> = env_of(notebook(&pod)).iter().map(|entry| entry["name"].to_string()).collect();
        let new: Vec<String> = env_of(notebook(&after)).iter().map(|entry| entry["name"].to_string())
            .filter(|name| !before.contains(name)).collect();
        prop_assert_eq!(new.iter().collect::<BTreeSet<_>>().len(), new.len());
    }

    #[test]
    fn the_report_names_exactly_the_variables_that_have_another_value(pod in pods(), hub in hubs(&["Keep"])) {
        let mut bare = pod.clone();
        for container in bare["spec"]["containers"].as_array_mut().unwrap() {
            container["env"] = json!([]);
        }
        let given = env_of(notebook(&patched(&bare, &admit(&bare, HUB, Some(&hub)))));
        let there = env_of(notebook(&pod));
        // The API server leaves out a value that is empty.
        let said = |entry: &Value| (entry["valueFrom"].clone(), entry["value"].as_str().unwrap_or_default().to_owned());
        let conflicts: Vec<&str> = given
            .iter()
            .filter(|ours| there.iter().rfind(|entry| entry["name"] == ours["name"]).is_some_and(|entry| said(entry) != said(ours)))
            .map(|ours| ours["name"].as_str().unwrap())
            .collect();

        let admission = admit(&pod, HUB, Some(&hub));

        let Decision::Injected(report) = &admission.decision else { panic!("{:?}", admission.decision) };
        prop_assert_eq!(&report.kept, &conflicts);
    }

    #[test]
    fn a_hostile_name_gives_a_location_without_anything_active(username in usernames()) {
        let mut pod = notebook_pod();
        pod["metadata"]["annotations"]["hub.jupyter.org/username"] = json!(username);
        let hub = hub(json!({}), json!([{"name": "scratch", "env": [{"name": "SCRATCH_BUCKET"}]}]), minio());
        let after = patched(&pod, &admit(&pod, HUB, Some(&hub)));
        let location = variable(notebook(&after), "SCRATCH_BUCKET").unwrap().as_str().unwrap();
        let prefix = location.strip_prefix("s3://earth-scratch/").unwrap();
        let inert = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._@-".contains(c);
        prop_assert!(!prefix.is_empty() && prefix.chars().all(inert), "{}", location);
        prop_assert!(!prefix.contains(".."), "{}", location);
    }

    #[test]
    fn whoever_makes_a_pod_that_names_a_user_it_bears_their_stamp(pod in pods(), creator in "\\PC{1,40}") {
        let after = patched(&pod, &admit(&pod, &creator, None));
        prop_assert_eq!(&after["metadata"]["annotations"][STAMP], &json!(creator));
        prop_assert_eq!(without_ours(&after).to_string(), without_ours(&pod).to_string());
    }

    #[test]
    fn a_pod_that_somebody_else_made_is_given_nothing_whatever_it_holds(pod in pods(), hub in any_hub(), creator in "[a-z:]{1,30}") {
        let admission = admit(&pod, &creator, Some(&hub));
        prop_assert!(matches!(admission.decision, Decision::StampedOnly(_)), "{:?}", admission.decision);
        let after = patched(&pod, &admission);
        prop_assert_eq!(&after["spec"], &pod["spec"]);
    }

    #[test]
    fn a_pod_that_names_no_user_is_not_touched(pod in pods(), hub in any_hub()) {
        let mut pod = pod;
        for names in ["annotations", "labels"] {
            pod["metadata"][names].as_object_mut().unwrap().remove("hub.jupyter.org/username");
        }
        let admission = admit(&pod, HUB, Some(&hub));
        prop_assert_eq!(admission.decision, Decision::NotAUser);
        prop_assert_eq!(admission.patch.0, vec![]);
    }
}
