//! Users' pods in memory. There are thousands of them, so each is kept as text, without what nobody
//! reads, and parsed when it is looked at: some microseconds for each pod of a hub, when one of them comes
//! or goes.

use hubstorage_core::injection::is_stamped;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;

use super::packed::Packed;

/// The metadata of a user's pod, packed: name, namespace, UID, times, labels and annotations.
pub type UserPod = Packed<Pod, PodMetadata>;

/// What is kept of the metadata of a user's pod.
#[derive(Debug, Clone)]
pub struct PodMetadata {
    is_stamped: bool,
    /// A pod without a time is older than anything.
    created: Timestamp,
    metadata: Box<[u8]>,
}

impl UserPod {
    /// Whether the webhook has seen it.
    pub fn is_stamped(&self) -> bool {
        self.kept.is_stamped
    }

    /// Whether it was created before `time`. The API server has whole seconds: one of the same second
    /// counts as older, unless `time` is whole as well.
    pub fn is_older_than(&self, time: Timestamp) -> bool {
        self.kept.created < time
    }

    /// Its metadata.
    pub fn unpacked(&self) -> PartialObjectMeta<Pod> {
        PartialObjectMeta {
            types: None,
            // It was written from such metadata.
            metadata: serde_json::from_slice(&self.kept.metadata).unwrap_or_default(),
            _phantom: std::marker::PhantomData,
        }
    }
}

impl From<PartialObjectMeta<Pod>> for UserPod {
    fn from(pod: PartialObjectMeta<Pod>) -> Self {
        let metadata = pod.metadata;
        let kept = ObjectMeta {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            creation_timestamp: metadata.creation_timestamp,
            deletion_timestamp: metadata.deletion_timestamp,
            labels: metadata.labels,
            annotations: metadata.annotations,
            ..ObjectMeta::default()
        };
        let packed = PodMetadata {
            is_stamped: is_stamped(&kept),
            created: kept
                .creation_timestamp
                .as_ref()
                .map_or(Timestamp::MIN, |created| created.0),
            // Text and times: all of it can be written.
            metadata: serde_json::to_vec(&kept).unwrap_or_default().into(),
        };
        Self::of(&kept, packed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubstorage_core::api::STAMP_ANNOTATION;
    use serde_json::{Value, json};

    fn pod(annotations: Value) -> PartialObjectMeta<Pod> {
        serde_json::from_value(json!({"metadata": {
            "name": "jupyter-bob", "namespace": "earth", "uid": "1-2-3", "annotations": annotations,
            "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-02T00:00:00Z",
            "labels": {"component": "singleuser-server", "hub.jupyter.org/username": "bob"},
        }}))
        .unwrap()
    }

    #[test]
    fn what_is_packed_is_unpacked_as_it_was() {
        for annotations in [
            json!({(STAMP_ANNOTATION): "somebody \"quoted\""}),
            Value::Null,
        ] {
            let pod = pod(annotations);
            let packed = UserPod::from(pod.clone());
            assert_eq!(packed.is_stamped(), is_stamped(&pod.metadata));
            assert_eq!(packed.unpacked().metadata, pod.metadata);
        }
    }
}
