//! Which Secrets there are, and in which version: followed by their metadata.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::store::WriterDropped;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, ResourceExt as _};

use crate::informer::Informer;
use crate::pulse::{Cadence, Pulses};

/// The Secrets of one namespace as their watch has seen them. No key is among it.
#[derive(Clone)]
pub struct SecretVersions {
    namespace: &'static str,
    seen: Store<PartialObjectMeta<Secret>>,
}

impl SecretVersions {
    /// The watch to start. It asks the API server for metadata, so that no key is sent.
    pub fn informer(
        client: &Client,
        namespace: &'static str,
        cadence: &Cadence,
        pulses: &Pulses,
    ) -> Informer<PartialObjectMeta<Secret>> {
        Informer::within(client, namespace, cadence, pulses).pruned(prune)
    }

    /// What that watch has seen.
    pub fn new(namespace: &'static str, seen: Store<PartialObjectMeta<Secret>>) -> Self {
        Self { namespace, seen }
    }

    /// resourceVersion of the Secret of this name; `None` if none was seen.
    pub fn of(&self, name: &str) -> Option<String> {
        let reference = ObjectRef::new(name).within(self.namespace);
        self.seen.get(&reference)?.resource_version()
    }

    /// Waits until the watch has listed what there is.
    ///
    /// # Errors
    /// If watching has stopped before.
    pub async fn wait_until_ready(&self) -> Result<(), WriterDropped> {
        self.seen.wait_until_ready().await
    }
}

/// Annotations above all have to go: `kubectl apply` leaves the whole Secret in one.
fn prune(secret: &mut PartialObjectMeta<Secret>) {
    let whole = std::mem::take(&mut secret.metadata);
    secret.metadata = ObjectMeta {
        name: whole.name,
        namespace: whole.namespace,
        uid: whole.uid,
        resource_version: whole.resource_version,
        ..ObjectMeta::default()
    };
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_is_remembered_that_may_hold_a_key() {
        let mut secret: PartialObjectMeta<Secret> = serde_json::from_value(json!({
            "metadata": {
                "name": "minio", "namespace": "hubstorage-vending", "uid": "1", "resourceVersion": "7",
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{\"stringData\": \"hunter2\"}"},
                "labels": {"note": "hunter2"},
            },
        }))
        .unwrap();

        prune(&mut secret);

        let remembered = serde_json::to_string(&secret).unwrap();
        assert!(!remembered.contains("hunter2"), "{remembered}");
        assert_eq!(secret.resource_version().as_deref(), Some("7"));
    }
}
