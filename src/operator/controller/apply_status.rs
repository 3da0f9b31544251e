//! A part of an object's status, applied under a field manager of its own.

use std::fmt::Debug;

use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Of which version of an object what is written has to be. Its UID alone keeps nothing from a newer object of the same
/// name: the API server ignores it in a patch of the status of a custom resource (apiextensions-apiserver,
/// `statusStrategy.PrepareForUpdate`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Of the one that was seen: what was decided by it is not written over something newer.
    AsSeen,
    /// Of any: nobody else writes this part.
    Any,
}

/// Makes `status` the part of the object's status that `manager` owns; the rest stays.
///
/// # Errors
/// As the API server refuses it.
pub async fn apply_status<K>(
    api: &Api<K>,
    object: &K,
    version: Version,
    manager: &str,
    status: Value,
) -> Result<K, kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let known = object.meta();
    let mut metadata = json!({"uid": known.uid});
    if version == Version::AsSeen {
        metadata["resourceVersion"] = json!(known.resource_version);
    }
    let document = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()),
        "metadata": metadata,
        "status": status,
    });
    let params = PatchParams::apply(manager).force();
    api.patch_status(&object.name_any(), &params, &Patch::Apply(document))
        .await
}
