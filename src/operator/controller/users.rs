//! One HubUser for each user who has a pod: the unit of audit.
//!
//! Vending does not depend on these objects, so that their absence never costs a user their
//! data. What admins set on one (`access`) is never touched: the operator applies the other
//! fields only, under its own field manager.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hubstorage_core::api::{
    HubStorage, HubUser, HubUserStatus, Reason, STAMP_ANNOTATION, USERNAME_ANNOTATION,
};
use hubstorage_core::injection::UserPods;
use hubstorage_core::names::{Prefix, Username, hub_user_name};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;

use super::{ApiFailure, Context, FIELD_MANAGER, OUTDATED, Requeue};

/// The field manager of `status.users`: the number changes on another beat than the rest.
const COUNT_MANAGER: &str = "hubstorage-controller-users";

/// A look now and then, in case a pod was seen before its hub.
const RECHECK: Duration = Duration::from_secs(3600);

/// The API server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("the API server failed at writing {what}: {source}")]
pub struct UsersError {
    what: String,
    source: ApiFailure,
}

/// Makes the HubUsers of one hub.
///
/// # Errors
/// [`UsersError`] names the object that could not be written.
pub async fn reconcile(hub: Arc<HubStorage>, context: Arc<Context>) -> Result<Requeue, UsersError> {
    let started = Instant::now();
    let namespace = hub.namespace().unwrap_or_default();
    let first = context.hub_of(&namespace);
    let counts = first.is_some_and(|first| first.uid() == hub.uid());
    if hub.metadata.deletion_timestamp.is_some() || !counts {
        return Ok(Requeue::await_change());
    }
    let mut written = Ok(());
    for user in users_with_pods(&hub, &namespace, &context) {
        // One whose object cannot be written does not stand in the way of the others.
        let kept = keep(&hub, &namespace, &user, &context).await;
        written = written.and(kept);
    }
    written = written.and(count(&hub, &namespace, &context).await);
    match written {
        Err(error) if error.source.is_outdated() => return Ok(Requeue::after(OUTDATED)),
        written => written?,
    }
    context
        .metrics
        .reconciled("HubUser", Reason::Applied, started.elapsed());
    Ok(Requeue::after(RECHECK))
}

/// Usernames on pods that an account of the hub made. A pod that anybody else made tells
/// nothing, or everybody with pod-create rights could fill the list.
fn users_with_pods(hub: &HubStorage, namespace: &str, context: &Context) -> BTreeSet<Username> {
    let Ok(sources) = UserPods::of(hub, namespace) else {
        return BTreeSet::new();
    };
    let pods = context
        .stores
        .pods
        .state_filter(|pod| pod.namespace() == namespace && pod.is_stamped());
    pods.iter()
        .filter_map(|pod| user_of(&pod.unpacked(), &sources))
        .collect()
}

fn user_of(pod: &PartialObjectMeta<Pod>, sources: &[UserPods]) -> Option<Username> {
    let stamp = pod.annotations().get(STAMP_ANNOTATION)?;
    let username = pod.annotations().get(USERNAME_ANNOTATION)?;
    UserPods::trusting(sources, pod.labels(), stamp)?;
    Username::parse(username).ok()
}

async fn keep(
    hub: &HubStorage,
    namespace: &str,
    user: &Username,
    context: &Context,
) -> Result<(), UsersError> {
    let name = hub_user_name(&hub.name_any(), user);
    let failed = |error: kube::Error| UsersError {
        what: format!("HubUser {namespace}/{name}"),
        source: error.into(),
    };
    let known = context
        .stores
        .users
        .get(&ObjectRef::new(&name).within(namespace));
    let api: Api<HubUser> = Api::namespaced(context.client.clone(), namespace);

    let present = match known {
        Some(known) => known,
        None => {
            let document = json!({
                "apiVersion": HubUser::api_version(&()),
                "kind": HubUser::kind(&()),
                "metadata": {"name": name, "ownerReferences": [hub.controller_owner_ref(&())]},
                "spec": {"hubRef": {"name": hub.name_any()}, "username": user.as_str()},
            });
            let params = PatchParams::apply(FIELD_MANAGER).force();
            let made = api
                .patch(&name, &params, &Patch::Apply(document))
                .await
                .map_err(failed)?;
            tracing::info!(namespace, hub = hub.name_any(), user = %user, name, "a user's first pod");
            Arc::new(made)
        }
    };
    let prefix = Prefix::of(user, hub.spec.users.prefix_scheme)
        .ok()
        .map(|prefix| prefix.to_string());
    let generation = present.metadata.generation.unwrap_or_default();
    let before = present.status.clone().unwrap_or_default();
    if before.prefix == prefix && before.observed_generation == generation {
        return Ok(());
    }
    let status = HubUserStatus {
        observed_generation: generation,
        prefix,
        last_vend_time: None,
    };
    let document = json!({
        "apiVersion": HubUser::api_version(&()), "kind": HubUser::kind(&()),
        "metadata": {"uid": present.metadata.uid, "resourceVersion": present.metadata.resource_version},
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    api.patch_status(&name, &params, &Patch::Apply(document))
        .await
        .map(drop)
        .map_err(failed)
}

async fn count(hub: &HubStorage, namespace: &str, context: &Context) -> Result<(), UsersError> {
    let of_this_hub = |user: &HubUser| {
        user.namespace().as_deref() == Some(namespace) && user.spec.hub_ref.name == hub.name_any()
    };
    let users = context.stores.users.state_filter(of_this_hub).len();
    let users = i32::try_from(users).unwrap_or(i32::MAX);
    if hub.status.as_ref().and_then(|status| status.users) == Some(users) {
        return Ok(());
    }
    let document = json!({
        "apiVersion": HubStorage::api_version(&()), "kind": HubStorage::kind(&()),
        "metadata": {"uid": hub.metadata.uid, "resourceVersion": hub.metadata.resource_version},
        "status": {"users": users},
    });
    let api: Api<HubStorage> = Api::namespaced(context.client.clone(), namespace);
    let params = PatchParams::apply(COUNT_MANAGER).force();
    api.patch_status(&hub.name_any(), &params, &Patch::Apply(document))
        .await
        .map(drop)
        .map_err(|error| UsersError {
            what: format!("status.users of HubStorage {namespace}/{}", hub.name_any()),
            source: error.into(),
        })
}
