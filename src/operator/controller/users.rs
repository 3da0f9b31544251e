//! One HubUser for each user who has a pod: the unit of audit.
//!
//! Vending does not depend on these objects, so that their absence never costs a user their
//! data. What admins set on one (`access`) is never touched: the operator applies the other
//! fields only, under its own field manager. Admins may make one themselves, under any name;
//! its status is kept like that of the others.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hubstorage_core::api::{
    AccessMode, ConditionStatus, ConditionType, HubStorage, HubUser, HubUserStatus, Reason,
    STAMP_ANNOTATION, USERNAME_ANNOTATION, Verdict, condition, update_conditions,
};
use hubstorage_core::injection::UserPods;
use hubstorage_core::names::{Prefix, Username, hub_user_name};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;

use super::apply_status::{Version, apply_status};
use super::step::not_ready;
use super::{ApiFailure, Context, FIELD_MANAGER, OUTDATED, Requeue};

use ConditionType::Stalled;

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

/// Makes the HubUsers of one hub, and tells of all in its namespace.
///
/// # Errors
/// [`UsersError`] names the object that could not be written.
pub async fn reconcile(hub: Arc<HubStorage>, context: Arc<Context>) -> Result<Requeue, UsersError> {
    let started = Instant::now();
    let namespace = hub.namespace().unwrap_or_default();
    let counts = context.counts(&hub);
    if hub.metadata.deletion_timestamp.is_some() || !counts {
        return Ok(Requeue::await_change());
    }
    let mut written = Ok(());
    // One whose object cannot be written does not stand in the way of the others.
    for user in users_with_pods(&hub, &namespace, &context) {
        let made = make(&hub, &namespace, &user, &context).await;
        written = written.and(made);
    }
    let is_here = |user: &HubUser| user.namespace().as_deref() == Some(&namespace);
    let all = context.stores.users.state_filter(is_here);
    let of_this_hub: Vec<&HubUser> = all
        .iter()
        .map(Arc::as_ref)
        .filter(|user| user.spec.hub_ref.name == hub.name_any())
        .collect();
    let suspended = suspended(&of_this_hub);
    for user in &all {
        let told = tell(&hub, user, &suspended, &context).await;
        written = written.and(told);
    }
    written = written.and(count(&hub, &namespace, &of_this_hub, &context).await);
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

fn failed(user: &str, namespace: &str) -> impl FnOnce(kube::Error) -> UsersError {
    let what = format!("HubUser {namespace}/{user}");
    |error| UsersError {
        what,
        source: error.into(),
    }
}

/// Makes the HubUser of a user who has none of this name; its watch brings it here again.
async fn make(
    hub: &HubStorage,
    namespace: &str,
    user: &Username,
    context: &Context,
) -> Result<(), UsersError> {
    let name = hub_user_name(&hub.name_any(), user);
    let users = &context.stores.users;
    if users
        .get(&ObjectRef::new(&name).within(namespace))
        .is_some()
    {
        return Ok(());
    }
    let document = json!({
        "apiVersion": HubUser::api_version(&()),
        "kind": HubUser::kind(&()),
        "metadata": {"name": name, "ownerReferences": [hub.controller_owner_ref(&())]},
        "spec": {"hubRef": {"name": hub.name_any()}, "username": user.as_str()},
    });
    let api: Api<HubUser> = Api::namespaced(context.client.clone(), namespace);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(&name, &params, &Patch::Apply(document))
        .await
        .map_err(failed(&name, namespace))?;
    tracing::info!(namespace, hub = hub.name_any(), user = %user, name, "a user's first pod");
    Ok(())
}

/// Usernames that are suspended, each with the HubUser that says so; the first by name, where several do.
fn suspended<'u>(of_hub: &[&'u HubUser]) -> BTreeMap<&'u str, String> {
    let is_suspended = |user: &&&HubUser| user.spec.access == AccessMode::Suspended;
    let mut suspended: Vec<_> = of_hub.iter().filter(is_suspended).collect();
    // Of two of the same username, the later one stays in the map.
    suspended.sort_by_key(|user| Reverse(user.name_any()));
    let by_username = suspended.into_iter();
    let by_username = by_username.map(|user| (user.spec.username.as_str(), user.name_any()));
    by_username.collect()
}

/// What a HubUser says: the prefix, and what keeps it from being of use. `hub` is the one that counts in the
/// namespace.
fn look(
    hub: &HubStorage,
    user: &HubUser,
    suspended: &BTreeMap<&str, String>,
) -> (Option<Prefix>, Vec<Verdict>) {
    let stalled = |reason, message: String| (None, not_ready(Stalled, reason, &message));
    let named = &user.spec.hub_ref.name;
    if *named != hub.name_any() {
        let message = format!(
            "spec.hubRef.name: {named} is not the HubStorage of this namespace, which is {}; this object has no effect. \
             Delete it, and make one that names the other: hubRef cannot be changed",
            hub.name_any()
        );
        return stalled(Reason::HubStorageNotFound, message);
    }
    let prefix = Username::parse(&user.spec.username)
        .map_err(|error| error.to_string())
        .and_then(|username| {
            let prefix = Prefix::of(&username, hub.spec.users.prefix_scheme);
            prefix.map_err(|error| error.to_string())
        });
    let prefix = match prefix {
        Ok(prefix) => prefix,
        Err(why) => return stalled(Reason::UsernameUnsafe, why),
    };
    let message = match suspended.get(user.spec.username.as_str()) {
        None => format!("what is granted under the user's own prefix is under {prefix}/"),
        Some(by) => format!(
            "suspended by HubUser {by}: no credentials are issued, and those that were end within the hour"
        ),
    };
    let ready = Verdict::new(
        ConditionType::Ready,
        ConditionStatus::True,
        Reason::Ready,
        message,
    );
    (Some(prefix), vec![ready])
}

/// Keeps the status of a HubUser true, whoever made it.
async fn tell(
    hub: &HubStorage,
    user: &HubUser,
    suspended: &BTreeMap<&str, String>,
    context: &Context,
) -> Result<(), UsersError> {
    let (prefix, verdicts) = look(hub, user, suspended);
    let prefix = prefix.map(|prefix| prefix.to_string());
    let generation = user.metadata.generation.unwrap_or_default();
    let nothing = HubUserStatus::default();
    let before = user.status.as_ref().unwrap_or(&nothing);
    let now = (context.clock)();
    let conditions = update_conditions(&before.conditions, verdicts, generation, now);
    if before.prefix == prefix
        && before.observed_generation == generation
        && before.conditions == conditions
    {
        return Ok(());
    }
    let status = HubUserStatus {
        observed_generation: generation,
        conditions,
        prefix,
        // Written by others: serve, and the reconciler of homes.
        last_vend_time: None,
        homes: Vec::new(),
    };
    let (name, namespace) = (user.name_any(), user.namespace().unwrap_or_default());
    let api: Api<HubUser> = Api::namespaced(context.client.clone(), &namespace);
    apply_status(&api, user, Version::AsSeen, FIELD_MANAGER, json!(status))
        .await
        .map_err(failed(&name, &namespace))?;
    // Nobody needs to hear of every user who is in order.
    let is_stalled = |conditions: &[Condition]| condition(conditions, Stalled).is_some();
    if is_stalled(&before.conditions) || is_stalled(&status.conditions) {
        let about = user.object_ref(&());
        let events = &context.events;
        events
            .transition(&about, &before.conditions, &status.conditions)
            .await;
    }
    Ok(())
}

/// Counts users, not objects: one who is suspended from Git has two.
async fn count(
    hub: &HubStorage,
    namespace: &str,
    of_hub: &[&HubUser],
    context: &Context,
) -> Result<(), UsersError> {
    let users = of_hub.iter().map(|user| user.spec.username.as_str());
    let users = users.collect::<BTreeSet<&str>>().len();
    let users = i32::try_from(users).unwrap_or(i32::MAX);
    if hub.status.as_ref().and_then(|status| status.users) == Some(users) {
        return Ok(());
    }
    let api: Api<HubStorage> = Api::namespaced(context.client.clone(), namespace);
    let status = json!({"users": users});
    apply_status(&api, hub, Version::AsSeen, COUNT_MANAGER, status)
        .await
        .map(drop)
        .map_err(|error| UsersError {
            what: format!("status.users of HubStorage {namespace}/{}", hub.name_any()),
            source: error.into(),
        })
}
