//! Which pods the webhook should have seen, and did not.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::UserPods;
use crate::api::STAMP_ANNOTATION;

/// Whether a pod is a user's and was admitted without the webhook: while it did not answer, or
/// before it was there.
///
/// The missing stamp tells: the webhook stamps every pod that names a user, whatever else it
/// decides, and the guard lets nobody add a stamp later. A pod that is being deleted does not count;
/// one that has ended does until it is deleted, which KubeSpawner does: metadata has no phase.
pub fn is_missed(pod: &ObjectMeta, sources: &[UserPods]) -> bool {
    let Some(labels) = &pod.labels else {
        return false;
    };
    pod.deletion_timestamp.is_none()
        && !is_stamped(pod)
        && sources.iter().any(|source| source.selects(labels))
}

/// Whether the webhook has seen this pod.
pub fn is_stamped(pod: &ObjectMeta) -> bool {
    pod.annotations
        .as_ref()
        .is_some_and(|annotations| annotations.contains_key(STAMP_ANNOTATION))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::USERNAME_LABEL;
    use serde_json::{Value, json};

    fn missed(fields: Value) -> bool {
        let mut pod = json!({
            "name": "jupyter-bob",
            "labels": {"component": "singleuser-server", (USERNAME_LABEL): "bob"},
            "annotations": {"hub.jupyter.org/username": "bob"},
        });
        json_patch::merge(&mut pod, &fields);
        let hub = serde_json::from_value(json!({
            "apiVersion": "hubstorage.io/v1alpha1", "kind": "HubStorage",
            "metadata": {"name": "earth", "namespace": "earth"},
            "spec": {"providerRef": {"name": "minio"}, "buckets": [{"name": "scratch"}]},
        }));
        let sources = UserPods::of(&hub.unwrap(), "earth").unwrap();
        is_missed(&serde_json::from_value(pod).unwrap(), &sources)
    }

    #[test]
    fn a_user_pod_without_a_stamp_was_missed() {
        assert!(missed(json!({})));
    }

    #[test]
    fn a_pod_whose_user_is_not_known_was_missed_all_the_same() {
        assert!(missed(json!({"annotations": null})));
    }

    #[test]
    fn a_stamped_pod_was_seen_whoever_made_it() {
        assert!(!missed(
            json!({"annotations": {(STAMP_ANNOTATION): "somebody"}})
        ));
    }

    #[test]
    fn a_pod_that_is_going_needs_nothing_any_more() {
        assert!(!missed(
            json!({"deletionTimestamp": "2026-01-01T00:00:00Z"})
        ));
    }

    #[test]
    fn a_pod_that_is_no_users_needs_nothing() {
        assert!(!missed(json!({"labels": {"component": "image-puller"}})));
        assert!(!missed(json!({"labels": {(USERNAME_LABEL): null}})));
        assert!(!missed(json!({"labels": null})));
    }
}
