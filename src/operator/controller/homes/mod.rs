//! Users' homes: claims that have less than declared grow, and what stands in the way is told.
//!
//! A reconciler of its own, which asks the API server only. How large a new claim may be is decided when it is
//! admitted; this one sees to those that are there, and writes `status.homes`, from which the hub's
//! `HomesWithinLimit` and the admission of new claims go.

mod seen;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hubstorage_core::api::{HomeFinding, HomesStatus, HubStorage, Mode, Reason};
use hubstorage_core::homes::{self, Expansion, Growth, HomeClaim, HomesPlan};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Patch, PatchParams};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;

use super::{ApiFailure, Context, OUTDATED, Requeue};

pub use seen::{SeenClaim, seen};

/// The field manager of `status.homes`: it changes on another beat than the rest.
const HOMES_MANAGER: &str = "hubstorage-controller-homes";

/// A look now and then, in case something was missed.
const RECHECK: Duration = Duration::from_secs(3600);

/// What keeps a claim from growing (a StorageClass, a quota, a driver) is not watched.
const STUCK: Duration = Duration::from_secs(300);

/// The API server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("the API server failed at {what}: {source}")]
pub struct HomesError {
    what: String,
    source: ApiFailure,
}

fn failed(what: String) -> impl FnOnce(kube::Error) -> HomesError {
    |error| HomesError {
        what,
        source: error.into(),
    }
}

/// Sees to the homes of one hub's users.
///
/// # Errors
/// [`HomesError`] names what failed.
pub async fn reconcile(hub: Arc<HubStorage>, context: Arc<Context>) -> Result<Requeue, HomesError> {
    let started = Instant::now();
    let namespace = hub.namespace().unwrap_or_default();
    let first = context.hub_of(&namespace);
    let counts = first.is_some_and(|first| first.uid() == hub.uid());
    if hub.metadata.deletion_timestamp.is_some() || !counts || hub.spec.mode == Mode::Paused {
        return Ok(Requeue::await_change());
    }
    let seen = context
        .stores
        .claims
        .state_filter(|claim| claim.namespace() == namespace);
    let claims: Vec<&HomeClaim> = seen.iter().filter_map(|claim| claim.home()).collect();
    let looked = look(&hub, &namespace, &claims, &context).await?;
    let mut requeue = Requeue::after(RECHECK);
    let mut status = None;
    if let Some(mut plan) = looked {
        match grow(&hub, &namespace, &mut plan, &context).await {
            Err(error) if error.source.is_outdated() => return Ok(Requeue::after(OUTDATED)),
            grown => grown?,
        }
        if !plan.status.findings.is_empty() {
            requeue = Requeue::after(STUCK);
        }
        status = Some(plan.status);
    }
    match tell(&hub, &namespace, status, &context).await {
        Err(error) if error.source.is_outdated() => return Ok(Requeue::after(OUTDATED)),
        told => told?,
    }
    context
        .metrics
        .reconciled("PersistentVolumeClaim", Reason::Applied, started.elapsed());
    Ok(requeue)
}

/// What is to be done, if homes are declared.
async fn look(
    hub: &HubStorage,
    namespace: &str,
    claims: &[&HomeClaim],
    context: &Context,
) -> Result<Option<HomesPlan>, HomesError> {
    let Some(home) = &hub.spec.home else {
        return Ok(None);
    };
    let users = context.stores.users.state_filter(|user| {
        user.namespace().as_deref() == Some(namespace) && user.spec.hub_ref.name == hub.name_any()
    });
    let overrides = homes::overrides(users.iter().map(Arc::as_ref));
    let mut expansion = BTreeMap::new();
    for class in homes::classes(home, &overrides, claims) {
        expansion.insert(class.to_owned(), expansion_of(class, context).await?);
    }
    Ok(Some(homes::plan(home, overrides, claims, &expansion)))
}

async fn expansion_of(class: &str, context: &Context) -> Result<Expansion, HomesError> {
    let classes: Api<StorageClass> = Api::all(context.client.clone());
    let found = classes
        .get_opt(class)
        .await
        .map_err(failed(format!("reading StorageClass {class}")))?;
    Ok(match found {
        None => Expansion::NoClass,
        Some(class) if class.allow_volume_expansion == Some(true) => Expansion::Allowed,
        Some(_) => Expansion::Forbidden,
    })
}

/// Makes the claims of `plan` ask for more, and adds to it what the API server refused; in mode Observe, what
/// would be asked.
async fn grow(
    hub: &HubStorage,
    namespace: &str,
    plan: &mut HomesPlan,
    context: &Context,
) -> Result<(), HomesError> {
    let mut found: Vec<HomeFinding> = Vec::new();
    for growth in &plan.growths {
        if hub.spec.mode == Mode::Observe {
            let would = "mode Enforce would make it grow";
            found.push(homes::of_growth(growth, Reason::Observing, would));
            continue;
        }
        match ask_for_more(namespace, growth, context).await {
            Ok(()) => tracing::info!(
                namespace,
                hub = hub.name_any(),
                claim = growth.claim,
                from = %growth.from,
                to = %growth.to,
                "a home grows"
            ),
            // A quota, or a webhook of somebody else: the others go on.
            Err(kube::Error::Api(refusal)) if refusal.code == 403 || refusal.code == 422 => {
                let why = &refusal.message;
                found.push(homes::of_growth(growth, Reason::ClaimGrowthFailed, why));
            }
            Err(error) => {
                let what = format!("growing PersistentVolumeClaim {namespace}/{}", growth.claim);
                return Err(failed(what)(error));
            }
        }
    }
    plan.tell(found);
    Ok(())
}

/// A claim is changed as it was seen: what somebody else asks for meanwhile is not taken back.
async fn ask_for_more(
    namespace: &str,
    growth: &Growth,
    context: &Context,
) -> Result<(), kube::Error> {
    let key = ObjectRef::new(&growth.claim).within(namespace);
    let Some(seen) = context.stores.claims.get(&key) else {
        return Ok(());
    };
    let document = json!({
        "metadata": {"resourceVersion": seen.resource_version},
        "spec": {"resources": {"requests": {"storage": growth.to}}},
    });
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), namespace);
    let params = PatchParams {
        field_manager: Some(HOMES_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    claims
        .patch(&growth.claim, &params, &Patch::Merge(document))
        .await
        .map(drop)
}

/// Writes `status.homes`, if it is not what stands there, and tells of users who do not see all of their data;
/// nothing, where no homes are declared.
async fn tell(
    hub: &HubStorage,
    namespace: &str,
    homes: Option<HomesStatus>,
    context: &Context,
) -> Result<(), HomesError> {
    let before = hub.status.as_ref().and_then(|status| status.homes.as_ref());
    if before == homes.as_ref() {
        return Ok(());
    }
    let mut status = json!({});
    if let Some(homes) = &homes {
        status["homes"] = json!(homes);
    }
    let document = json!({
        "apiVersion": HubStorage::api_version(&()), "kind": HubStorage::kind(&()),
        "metadata": {"uid": hub.metadata.uid, "resourceVersion": hub.metadata.resource_version},
        "status": status,
    });
    let api: Api<HubStorage> = Api::namespaced(context.client.clone(), namespace);
    let params = PatchParams::apply(HOMES_MANAGER).force();
    let what = format!(
        "writing status.homes of HubStorage {namespace}/{}",
        hub.name_any()
    );
    api.patch_status(&hub.name_any(), &params, &Patch::Apply(document))
        .await
        .map_err(failed(what))?;
    let known = before.map_or(&[][..], |before| &before.findings);
    let found = homes.iter().flat_map(|homes| &homes.findings);
    let is_duplicate = |found: &&HomeFinding| found.reason == Reason::ClaimDuplicate.to_string();
    for found in found.filter(is_duplicate) {
        if !known.contains(found) {
            context.events.home(hub, found).await;
        }
    }
    Ok(())
}
