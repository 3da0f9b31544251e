//! The API as the API server and `kubectl` see it.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeMap;

use hubstorage_core::api::{
    Addressing, Bucket, CredentialsType, EnvFormat, HubStorage, HubUser, OnConflict, Permission,
    RoleManagement, Scope, StorageProvider, SubjectKind, Users, crds,
};
use hubstorage_core::names::PrefixScheme;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

/// The kinds in use, cut from the design to the fields that exist.
const EXAMPLE: &str = include_str!("fixtures/example.yaml");

fn documents() -> Vec<Value> {
    serde_yaml::Deserializer::from_str(EXAMPLE)
        .map(|document| serde::Deserialize::deserialize(document).unwrap())
        .collect()
}

fn crd(kind: &str) -> CustomResourceDefinition {
    crds()
        .into_iter()
        .find(|crd| crd.spec.names.kind == kind)
        .expect(kind)
}

/// The schema of a kind, as the API server is sent it.
fn schema(kind: &str) -> Value {
    serde_json::to_value(&crd(kind).spec.versions[0]).unwrap()["schema"]["openAPIV3Schema"].take()
}

/// Every schema within `schema`, with its path; `[]` stands for the items of a list.
fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), property, visit);
    }
    for (keyword, suffix) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[keyword].is_object() {
            walk(&format!("{path}{suffix}"), &schema[keyword], visit);
        }
    }
}

/// The paths of all kinds whose schema is such that `holds`.
fn paths_where(holds: impl Fn(&str, &Value) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for crd in crds() {
        let kind = &crd.spec.names.kind;
        walk(kind, &schema(kind), &mut |path, schema| {
            if holds(path, schema) {
                found.push(path.to_owned());
            }
        });
    }
    found
}

#[test]
fn there_are_three_kinds_with_short_names_and_one_category() {
    let names: Vec<_> = crds()
        .into_iter()
        .map(|crd| {
            (
                crd.metadata.name.unwrap(),
                crd.spec.scope,
                crd.spec.names.short_names,
                crd.spec.names.categories,
            )
        })
        .collect();
    let kind = |name: &str, scope: &str, short: &str| {
        let list = |item: &str| Some(vec![item.to_owned()]);
        (
            format!("{name}.hubstorage.io"),
            scope.to_owned(),
            list(short),
            list("hubstorage"),
        )
    };
    assert_eq!(
        names,
        [
            kind("storageproviders", "Cluster", "hsp"),
            kind("hubstorages", "Namespaced", "hs"),
            kind("hubusers", "Namespaced", "hu"),
        ]
    );
}

#[test]
fn every_kind_has_one_version_that_is_served_and_a_status_of_its_own() {
    for crd in crds() {
        let [version] = crd.spec.versions.as_slice() else {
            panic!("{:?}", crd.spec.versions)
        };
        assert_eq!(
            (version.name.as_str(), version.served, version.storage),
            ("v1alpha1", true, true)
        );
        assert!(
            version
                .subresources
                .as_ref()
                .is_some_and(|resources| resources.status.is_some())
        );
    }
}

#[test]
fn an_object_that_nobody_looked_at_yet_says_so() {
    for kind in ["StorageProvider", "HubStorage", "HubUser"] {
        let schema = schema(kind);
        let status = &schema["properties"]["status"];
        assert_eq!(
            status["default"],
            json!({"observedGeneration": -1}),
            "{kind}"
        );
        assert_eq!(
            status["properties"]["observedGeneration"]["default"],
            json!(-1),
            "{kind}"
        );
    }
}

#[test]
fn one_line_of_kubectl_get_tells_the_state() {
    let columns = |kind| -> Vec<String> {
        let columns = crd(kind).spec.versions[0]
            .additional_printer_columns
            .clone()
            .unwrap();
        columns
            .into_iter()
            .filter(|column| column.priority.unwrap_or(0) == 0)
            .map(|column| column.name)
            .collect()
    };
    assert_eq!(
        columns("StorageProvider"),
        ["Ready", "Reason", "Vending", "Endpoint", "Region", "Age"]
    );
    assert_eq!(
        columns("HubStorage"),
        [
            "Ready",
            "Reason",
            "Buckets",
            "Users",
            "Isolated",
            "Isolation",
            "Provider",
            "Age"
        ]
    );
    assert_eq!(
        columns("HubUser"),
        [
            "User",
            "Hub",
            "Prefix",
            "Access",
            "Ready",
            "Home-%",
            "Last-Vend",
            "Age"
        ]
    );
}

#[test]
fn kubectl_explain_has_a_word_on_every_field() {
    let silent = paths_where(|path, schema| {
        let is_field = !path.ends_with("[]") && !path.ends_with("{}");
        is_field && schema["description"].as_str().is_none_or(str::is_empty)
    });
    assert_eq!(silent, [""; 0]);
}

#[test]
fn lists_whose_items_have_a_name_or_a_key_of_their_own_are_maps() {
    let maps = paths_where(|_, schema| schema["x-kubernetes-list-type"] == "map");
    assert_eq!(
        maps,
        [
            "StorageProvider.status.capabilities",
            "StorageProvider.status.conditions",
            "HubStorage.spec.buckets",
            "HubStorage.spec.buckets[].env",
            "HubStorage.spec.buckets[].grants",
            "HubStorage.spec.buckets[].lifecycle.transitions",
            "HubStorage.spec.env",
            "HubStorage.spec.shared",
            "HubStorage.spec.users.sources",
            "HubStorage.status.buckets",
            "HubStorage.status.conditions",
            "HubStorage.status.homes.findings",
            "HubStorage.status.homes.found",
            "HubStorage.status.homes.overrides",
            "HubStorage.status.shared",
            "HubStorage.status.vending.buckets",
            "HubUser.status.conditions",
            "HubUser.status.homes",
        ]
    );
    let named_but_no_map = paths_where(|path, schema| {
        !schema["items"]["properties"]["name"].is_null() && !maps.iter().any(|map| map == path)
    });
    // A key has to be there: who everybody is has no name.
    assert_eq!(
        named_but_no_map,
        [
            "HubStorage.spec.buckets[].grants[].subjects",
            "HubStorage.spec.shared[].readers",
            "HubStorage.spec.shared[].writers.subjects",
        ]
    );
}

#[test]
fn conditions_are_maps_by_type() {
    for kind in ["StorageProvider", "HubStorage", "HubUser"] {
        let schema = schema(kind);
        let conditions = &schema["properties"]["status"]["properties"]["conditions"];
        assert_eq!(
            conditions["x-kubernetes-list-map-keys"],
            json!(["type"]),
            "{kind}"
        );
    }
}

#[test]
fn every_list_in_a_spec_that_rules_walk_is_bounded() {
    // The API server reckons the cost of a rule by the longest lists that the schema allows.
    let unbounded = paths_where(|path, schema| {
        let of_kubernetes = path.contains(".matchExpressions");
        path.contains(".spec")
            && !of_kubernetes
            && schema["type"] == "array"
            && schema["maxItems"].is_null()
    });
    assert_eq!(unbounded, [""; 0]);
}

#[test]
fn an_enum_is_a_plain_list_of_strings() {
    let enums = paths_where(|_, schema| schema["enum"].is_array());
    let plain = paths_where(|_, schema| {
        let values = schema["enum"].as_array().into_iter().flatten();
        schema["enum"].is_array()
            && schema["type"] == "string"
            && values.into_iter().all(Value::is_string)
    });
    assert_eq!(enums, plain);
    assert!(
        enums.contains(&"StorageProvider.spec.s3.addressing".to_owned()),
        "{enums:?}"
    );
}

#[test]
fn no_field_has_a_choice_of_shapes() {
    let keywords = [
        "oneOf",
        "anyOf",
        "allOf",
        "not",
        "x-kubernetes-preserve-unknown-fields",
    ];
    let choices =
        paths_where(|_, schema| keywords.iter().any(|keyword| schema.get(keyword).is_some()));
    assert_eq!(choices, [""; 0]);
}

#[test]
fn a_null_is_dropped_by_the_api_server_like_an_absent_field() {
    assert_eq!(
        paths_where(|_, schema| schema.get("nullable").is_some()),
        [""; 0]
    );
}

#[test]
fn every_format_is_one_that_kubernetes_knows() {
    let known = ["byte", "date-time", "int32", "int64"];
    let unknown = paths_where(|_, schema| {
        schema["format"]
            .as_str()
            .is_some_and(|format| !known.contains(&format))
    });
    assert_eq!(unknown, [""; 0]);
}

#[test]
fn every_rule_says_in_words_what_is_wrong() {
    let mute = paths_where(|_, schema| {
        let rules = schema["x-kubernetes-validations"].as_array();
        rules
            .into_iter()
            .flatten()
            .any(|rule| rule["message"].as_str().is_none_or(str::is_empty))
    });
    assert_eq!(mute, [""; 0]);
}

#[test]
fn an_expiry_is_between_a_day_and_ten_years() {
    let schema = schema("HubStorage");
    let days = schema.pointer(
        "/properties/spec/properties/buckets/items/properties/lifecycle/properties/expireAfterDays",
    );
    let days = days.expect("expireAfterDays");
    assert_eq!(
        (&days["type"], &days["minimum"], &days["maximum"]),
        (&json!("integer"), &json!(1.0), &json!(3650.0))
    );
}

#[test]
fn the_example_of_the_design_loses_nothing_when_read() {
    let [provider, hub, user] = documents().try_into().unwrap();
    let reread = |value: &Value| -> Vec<Value> {
        match value["kind"].as_str().unwrap() {
            "StorageProvider" => vec![
                serde_json::to_value(
                    serde_json::from_value::<StorageProvider>(value.clone()).unwrap(),
                )
                .unwrap(),
            ],
            "HubStorage" => vec![
                serde_json::to_value(serde_json::from_value::<HubStorage>(value.clone()).unwrap())
                    .unwrap(),
            ],
            "HubUser" => vec![
                serde_json::to_value(serde_json::from_value::<HubUser>(value.clone()).unwrap())
                    .unwrap(),
            ],
            kind => panic!("{kind}"),
        }
    };
    for written in [provider, hub, user] {
        assert_eq!(reread(&written), [written]);
    }
}

#[test]
fn every_field_of_the_example_stands_in_the_schema() {
    for document in documents() {
        let kind = document["kind"].as_str().unwrap();
        let known: Vec<String> = paths_where(|_, _| true);
        let mut written = Vec::new();
        fields(&format!("{kind}.spec"), &document["spec"], &mut written);
        let labels = |path: &String| path.contains(".matchLabels.");
        let unknown: Vec<_> = written
            .into_iter()
            .filter(|path| !labels(path) && !known.contains(path))
            .collect();
        assert_eq!(unknown, [""; 0], "{kind}");
    }
}

/// The paths of everything in `value`, in the notation of [`walk`].
fn fields(path: &str, value: &Value, found: &mut Vec<String>) {
    found.push(path.to_owned());
    for (name, field) in value.as_object().into_iter().flatten() {
        fields(&format!("{path}.{name}"), field, found);
    }
    for item in value.as_array().into_iter().flatten() {
        fields(&format!("{path}[]"), item, found);
    }
}

#[test]
fn the_example_means_what_it_says() {
    let [provider, hub, _] = documents().try_into().unwrap();
    let provider: StorageProvider = serde_json::from_value(provider).unwrap();
    let hub: HubStorage = serde_json::from_value(hub).unwrap();

    let s3 = provider.spec.s3.unwrap();
    assert_eq!(
        (s3.addressing, s3.credentials.type_),
        (Addressing::Path, CredentialsType::Secret)
    );
    assert_eq!(s3.vending.unwrap().role.management, RoleManagement::Given);
    assert_eq!(
        hub.spec.users.sources[0].creators[0].username("earth"),
        "system:serviceaccount:earth:hub"
    );
    let [scratch, persistent] = hub.spec.buckets.try_into().unwrap();
    assert_eq!(
        scratch
            .lifecycle
            .unwrap()
            .expire_after_days
            .unwrap()
            .to_string(),
        "400 days"
    );
    let variables: Vec<_> = scratch
        .env
        .iter()
        .map(|env| (env.name.as_str(), env.format, env.on_conflict))
        .collect();
    assert_eq!(
        variables,
        [
            ("SCRATCH_BUCKET", EnvFormat::URL, OnConflict::Keep),
            (
                "PANGEO_SCRATCH",
                EnvFormat::URLWithSlash,
                OnConflict::Replace
            ),
        ]
    );
    assert_eq!(persistent.lifecycle, None);
}

#[test]
fn a_bucket_with_only_a_name_gives_everyone_their_own_prefix() {
    let bucket: Bucket = serde_json::from_value(json!({"name": "scratch"})).unwrap();
    let [own] = bucket.grants.try_into().unwrap();
    assert_eq!(
        (own.name.as_str(), own.scope, own.permission),
        ("own", Scope::UserPrefix, Permission::ReadWrite)
    );
    assert_eq!(own.subjects[0].kind, SubjectKind::Everyone);
    assert_eq!(
        (bucket.bucket_name, bucket.lifecycle, bucket.env),
        (None, None, vec![])
    );
}

#[test]
fn users_are_by_default_the_notebooks_that_the_hub_makes() {
    let spec: Users = serde_json::from_value(json!({})).unwrap();
    assert_eq!(spec, Users::default());
    assert_eq!(spec.prefix_scheme, PrefixScheme::Escaped);
    let labels: BTreeMap<_, _> = [("component".to_owned(), "singleuser-server".to_owned())].into();
    assert_eq!(spec.sources[0].pod_selector.match_labels, Some(labels));
}

#[test]
fn an_expiry_of_no_days_is_no_expiry() {
    let zero = json!({"name": "scratch", "lifecycle": {"expireAfterDays": 0}});
    assert!(serde_json::from_value::<Bucket>(zero).is_err());
}
