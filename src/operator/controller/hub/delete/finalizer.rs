//! The finalizer: taken before the first call to a store, given back when nothing is left to do.

use hubstorage_core::api::{FINALIZER, HubStorage};
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::HubError;
use crate::controller::{Context, FIELD_MANAGER};

/// Whether we hold it.
pub fn is_held(hub: &HubStorage) -> bool {
    hub.finalizers().iter().any(|held| held == FINALIZER)
}

/// Takes the finalizer, if it is not held yet.
///
/// # Errors
/// If the API server fails; then no store was called.
pub async fn hold(hub: &mut HubStorage, context: &Context) -> Result<(), HubError> {
    if is_held(hub) {
        return Ok(());
    }
    let mut finalizers = hub.finalizers().to_vec();
    finalizers.push(FINALIZER.to_owned());
    hub.metadata = set(hub, &finalizers, context)
        .await
        .map_err(HubError::at("taking the finalizer"))?;
    Ok(())
}

/// Lets the object go.
///
/// # Errors
/// If the API server fails, also because the object was edited meanwhile.
pub async fn give_back(hub: &HubStorage, context: &Context) -> Result<(), HubError> {
    let others: Vec<String> = hub
        .finalizers()
        .iter()
        .filter(|held| *held != FINALIZER)
        .cloned()
        .collect();
    match set(hub, &others, context).await {
        // Somebody else removed it, and the object is gone: that is what was wanted.
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        result => result
            .map(drop)
            .map_err(HubError::at("giving the finalizer back")),
    }
}

/// Merge patch, because a finalizer is one string in a list of others'; the resource version
/// makes it fail rather than overwrite a list that has changed since it was read.
async fn set(
    hub: &HubStorage,
    finalizers: &[String],
    context: &Context,
) -> Result<ObjectMeta, kube::Error> {
    let api: Api<HubStorage> =
        Api::namespaced(context.client.clone(), &hub.namespace().unwrap_or_default());
    let patch = json!({"metadata": {
        "finalizers": finalizers, "resourceVersion": hub.metadata.resource_version, "uid": hub.metadata.uid,
    }});
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    api.patch_metadata(&hub.name_any(), &params, &Patch::Merge(patch))
        .await
        .map(|object| object.metadata)
}
