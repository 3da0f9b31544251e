//! Whose word is taken for whose pod it is, and what those are told that get nothing.

use hubstorage_core::injection::Decision;
use serde_json::json;

use crate::cases::{plain_hub, scratch, stamped_only};
use crate::{HUB, admit, hub, minio, notebook, notebook_pod, patched, variable};

#[test]
fn a_forged_stamp_is_overwritten() {
    let mut pod = notebook_pod();
    pod["metadata"]["annotations"]["hubstorage.io/created-by"] = json!(HUB);
    let why = stamped_only(&pod, "mallory", Some(&plain_hub()));
    assert!(why.contains("mallory"), "{why}");
}

#[test]
fn a_forged_report_is_overwritten() {
    let mut pod = notebook_pod();
    pod["metadata"]["annotations"]["hubstorage.io/injected"] = json!("forged");
    let after = patched(&pod, &admit(&pod, HUB, Some(&plain_hub())));
    assert_eq!(
        after["metadata"]["annotations"]["hubstorage.io/injected"],
        r#"{"hub":"earth","generation":3}"#
    );
}

#[test]
fn an_empty_username_is_given_nothing() {
    let mut pod = notebook_pod();
    pod["metadata"]["annotations"]["hub.jupyter.org/username"] = json!("");
    let why = stamped_only(&pod, HUB, Some(&plain_hub()));
    assert_eq!(
        why,
        "annotation hub.jupyter.org/username: the username is empty"
    );
}

#[test]
fn a_pod_that_somebody_else_made_is_given_nothing() {
    let why = stamped_only(
        &notebook_pod(),
        "system:serviceaccount:earth:dask",
        Some(&plain_hub()),
    );
    assert_eq!(
        why,
        "it was created by system:serviceaccount:earth:dask, \
         which is not among spec.users.sources[notebook].creators of HubStorage earth"
    );
}

#[test]
fn a_pod_of_dask_kubernetes_is_given_nothing_whoever_made_it() {
    let mut pod = notebook_pod();
    pod["metadata"]["labels"]["dask.org/cluster-name"] = json!("mine");
    let why = stamped_only(&pod, HUB, Some(&plain_hub()));
    assert!(why.contains("from a template that users write"), "{why}");
    assert!(why.contains("use Dask Gateway"), "{why}");
}

#[test]
fn the_account_hub_of_another_namespace_is_not_the_hub() {
    let why = stamped_only(
        &notebook_pod(),
        "system:serviceaccount:mars:hub",
        Some(&plain_hub()),
    );
    assert!(why.contains("system:serviceaccount:mars:hub"), "{why}");
}

#[test]
fn a_pod_in_a_namespace_without_a_hub_is_given_nothing() {
    let why = stamped_only(&notebook_pod(), HUB, None);
    assert_eq!(
        why,
        "this namespace has no HubStorage whose buckets exist; `kubectl get hs` in it says why, or that there is none"
    );
}

#[test]
fn a_pod_of_no_declared_source_is_given_nothing() {
    let mut pod = notebook_pod();
    pod["metadata"]["labels"]["component"] = json!("hub");
    let why = stamped_only(&pod, HUB, Some(&plain_hub()));
    assert_eq!(
        why,
        "its labels match no source of HubStorage earth (spec.users.sources), or hub.jupyter.org/username is not among them"
    );
}

#[test]
fn a_pod_that_nobody_would_find_is_given_nothing() {
    let mut pod = notebook_pod();
    let labels = pod["metadata"]["labels"].as_object_mut().unwrap();
    labels.remove("hub.jupyter.org/username");
    let why = stamped_only(&pod, HUB, Some(&plain_hub()));
    assert!(
        why.ends_with("hub.jupyter.org/username is not among them"),
        "{why}"
    );
}

#[test]
fn a_pod_that_has_another_volume_under_the_tokens_name_is_given_nothing() {
    let mut pod = notebook_pod();
    pod["spec"]["volumes"] = json!([{"name": "hubstorage-token", "emptyDir": {}}]);
    let why = stamped_only(&pod, HUB, Some(&plain_hub()));
    assert_eq!(
        why,
        "it has a volume hubstorage-token that is not the token: rename that volume"
    );
}

#[test]
fn a_creator_that_one_of_several_matching_sources_trusts_is_trusted() {
    let source = |name: &str, account: &str| {
        let selector = json!({"matchExpressions": [{"key": "hub.jupyter.org/username", "operator": "Exists"}]});
        json!({"name": name, "podSelector": selector, "creators": [{"serviceAccount": {"name": account}}]})
    };
    let users = json!({"sources": [source("dask", "dask-gateway"), source("notebook", "hub")]});
    let hub = hub(users, scratch(json!([])), minio());
    let admission = admit(&notebook_pod(), HUB, Some(&hub));
    assert!(
        matches!(admission.decision, Decision::Injected(_)),
        "{:?}",
        admission.decision
    );
}

#[test]
fn a_name_that_is_unsafe_as_it_is_gets_nothing_under_the_raw_scheme() {
    let mut pod = notebook_pod();
    pod["metadata"]["annotations"]["hub.jupyter.org/username"] = json!("b*");
    let raw = hub(json!({"prefixScheme": "Raw"}), scratch(json!([])), minio());
    let why = stamped_only(&pod, HUB, Some(&raw));
    assert_eq!(
        why,
        "username \"b*\" is not safe as a key prefix under prefixScheme Raw (it holds a character that is active in IAM \
         policies); rename the user, or use prefixScheme Escaped on a new hub"
    );
}

#[test]
fn a_safe_name_is_taken_as_it_is_under_the_raw_scheme() {
    let mut pod = notebook_pod();
    pod["metadata"]["annotations"]["hub.jupyter.org/username"] = json!("J.Smith");
    let raw = hub(
        json!({"prefixScheme": "Raw"}),
        scratch(json!([{"name": "SCRATCH_BUCKET"}])),
        minio(),
    );
    let after = patched(&pod, &admit(&pod, HUB, Some(&raw)));
    assert_eq!(
        variable(notebook(&after), "SCRATCH_BUCKET"),
        Some(&json!("s3://earth-scratch/J.Smith"))
    );
}

#[test]
fn a_pod_that_is_nobodys_is_not_touched() {
    let mut pod = notebook_pod();
    pod["metadata"]["annotations"]
        .as_object_mut()
        .unwrap()
        .remove("hub.jupyter.org/username");
    pod["metadata"]["labels"]
        .as_object_mut()
        .unwrap()
        .remove("hub.jupyter.org/username");
    let admission = admit(&pod, HUB, Some(&plain_hub()));
    assert_eq!(
        (admission.decision, admission.patch.0),
        (Decision::NotAUser, vec![])
    );
}
