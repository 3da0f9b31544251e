//! Users' homes: claims that have less than declared grow, and those that are full; what stands in the way is told, and
//! how full they are.
//!
//! A reconciler of its own, which asks the API server only. How large a new claim may be is decided when it is
//! admitted; this one sees to those that are there, and writes `status.homes`, from which the hub's
//! `HomesWithinLimit` and the admission of new claims go.

mod refused;
mod users;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use hubstorage_core::api::{Home, HomeFinding, HomeUsage, HomesStatus, HubStorage, Mode, Reason};
use hubstorage_core::homes::{self, Expansion, Growth, HomesPlan, SeenHome};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Patch, PatchParams};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::apply_status::{Version, apply_status};
use super::usage::Nodes;
use super::{ApiFailure, Context, OUTDATED, Requeue};

pub use refused::RefusedGrowths;

/// The field manager of `status.homes`: it changes on another beat than the rest.
const HOMES_MANAGER: &str = "hubstorage-controller-homes";

/// A look now and then, in case something was missed.
const RECHECK: Duration = Duration::from_secs(3600);

/// What keeps a claim from growing (a StorageClass, a quota, a driver) is not watched, and tried again after this.
const STUCK: Duration = Duration::from_secs(300);

/// Until the claims of all namespaces are in memory.
const UNTIL_LISTED: Duration = Duration::from_secs(5);

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
    let counts = context.counts(&hub);
    if hub.metadata.deletion_timestamp.is_some() || (counts && hub.spec.mode == Mode::Paused) {
        return Ok(Requeue::await_change());
    }
    let mut told = hub.status.as_ref().and_then(|status| status.homes.clone());
    let Some(home) = hub.spec.home.as_ref().filter(|_| counts) else {
        tell(&hub, told.as_ref(), None, &context).await?;
        if counts {
            users::tell(&hub, &BTreeMap::new(), &context).await?;
        }
        return Ok(Requeue::await_change());
    };
    let is_listed = context.stores.claims.wait_until_ready().now_or_never();
    if is_listed.is_none_or(|listed| listed.is_err()) {
        return Ok(Requeue::after(UNTIL_LISTED));
    }
    let plan = look(&hub, home, &namespace, &context).await?;
    let usage = &context.usage;
    usage.tells(&namespace, plan.usage.values().flatten());
    let usage_unknown = match context.usage.nodes() {
        Nodes::NotKnown => match &told {
            Some(told) => told.usage_unknown.clone(),
            None => Some("no node has been asked yet how full homes are".to_owned()),
        },
        Nodes::Tell => None,
        Nodes::AreSilent(why) => Some(why),
    };
    let status = |asked, found: &[HomeFinding]| HomesStatus {
        usage_unknown: usage_unknown.clone(),
        ..plan.status(asked, found)
    };
    // By these new claims are admitted: no growth that fails is to keep them from that. What was found stands until it
    // is found anew.
    let now = status(0, &[]);
    let overrides = told.as_ref().map(|told| &told.overrides);
    if overrides != Some(&now.overrides) {
        let early = match &told {
            None => now,
            Some(told) => HomesStatus {
                overrides: now.overrides,
                overrides_left_out: now.overrides_left_out,
                ..told.clone()
            },
        };
        tell(&hub, told.as_ref(), Some(&early), &context).await?;
        told = Some(early);
    }
    let Grown {
        asked,
        found,
        is_outdated,
    } = grow(&hub, &namespace, &plan, &context).await;
    let now = status(asked, &found);
    let is_stuck = now
        .found
        .iter()
        .any(|found| waits_for_others(&found.reason));
    tell(&hub, told.as_ref(), Some(&now), &context).await?;
    users::tell(&hub, &plan.usage, &context).await?;
    context
        .metrics
        .reconciled("PersistentVolumeClaim", Reason::Applied, started.elapsed());
    Ok(Requeue::after(match (is_outdated, is_stuck) {
        (true, _) => OUTDATED,
        (false, true) => STUCK,
        (false, false) => RECHECK,
    }))
}

/// Whether what this keeps from being done is tried again.
fn waits_for_others(reason: &str) -> bool {
    ![Reason::ClaimDuplicate, Reason::ClaimTooLarge]
        .iter()
        .any(|of_user| <&str>::from(of_user) == reason)
}

/// What is to be done.
async fn look(
    hub: &HubStorage,
    home: &Home,
    namespace: &str,
    context: &Context,
) -> Result<HomesPlan, HomesError> {
    let seen = context
        .stores
        .claims
        .state_filter(|claim| claim.namespace() == namespace);
    let users = context.stores.users.state_filter(|user| {
        user.namespace().as_deref() == Some(namespace) && user.spec.hub_ref.name == hub.name_any()
    });
    // What this process has told goes before what the watch has seen of it.
    let lately = context.usage.told(namespace);
    let told: HashMap<&str, &HomeUsage> = users
        .iter()
        .filter_map(|user| user.status.as_ref())
        .flat_map(|status| &status.homes)
        .chain(lately.values())
        .map(|usage| (usage.claim.as_str(), usage))
        .collect();
    let claims: Vec<SeenHome<'_>> = seen
        .iter()
        .filter_map(|claim| claim.home())
        .map(|claim| SeenHome {
            claim,
            measured: context.usage.of(namespace, claim),
            told: told.get(&*claim.name).copied(),
        })
        .collect();
    let overrides = homes::overrides(users.iter().map(Arc::as_ref));
    let mut expansion = BTreeMap::new();
    for class in homes::classes(home, &overrides, &claims) {
        expansion.insert(class.to_owned(), expansion_of(class, context).await?);
    }
    let generation = hub.metadata.generation.unwrap_or_default();
    Ok(homes::plan(
        home, generation, overrides, &claims, &expansion,
    ))
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

/// What came of growing.
#[derive(Default)]
struct Grown {
    /// How many claims ask for more now.
    asked: usize,
    /// What kept others from it: what the API server refused, or, in mode Observe, the mode.
    found: Vec<HomeFinding>,
    /// Whether something had changed since it was seen.
    is_outdated: bool,
}

/// Makes the claims of `plan` ask for more.
async fn grow(hub: &HubStorage, namespace: &str, plan: &HomesPlan, context: &Context) -> Grown {
    let mut grown = Grown::default();
    for growth in &plan.growths {
        if hub.spec.mode == Mode::Observe {
            let would = "mode Enforce would make it grow";
            let finding = homes::of_growth(growth, Reason::Observing, would);
            grown.found.extend(finding);
            continue;
        }
        // Whoever has made a mistake takes it back: what has not grown yet is not to.
        if !is_as_it_was(hub, context) {
            break;
        }
        let now = (context.clock)();
        if let Some(why) = context.refused_growths.of(growth, now) {
            let finding = homes::of_growth(growth, Reason::ClaimGrowthFailed, &why);
            grown.found.extend(finding);
            continue;
        }
        match ask_for_more(namespace, growth, context).await {
            Ok(()) => {
                grown.asked += 1;
                tracing::info!(
                    namespace,
                    hub = hub.name_any(),
                    claim = growth.claim,
                    from = %growth.from,
                    to = %growth.to,
                    full = growth.full,
                    "a home grows"
                );
                if let Some(full) = growth.full {
                    context.events.home_grows(hub, growth, full).await;
                }
            }
            // The claim, or a quota that it counts for.
            Err(kube::Error::Api(refusal)) if refusal.code == 409 || refusal.code == 404 => {
                grown.is_outdated = true;
            }
            // A quota, another webhook, an API server that is not there: the others go on.
            Err(error) => {
                let why = match error {
                    kube::Error::Api(refusal) => refusal.message.clone(),
                    error => error.to_string(),
                };
                tracing::warn!(namespace, claim = growth.claim, why, "a home does not grow");
                let finding = homes::of_growth(growth, Reason::ClaimGrowthFailed, &why);
                grown.found.extend(finding);
                context.refused_growths.remember(growth, why, now);
            }
        }
    }
    grown
}

/// Whether a hub still declares what it did.
fn is_as_it_was(hub: &HubStorage, context: &Context) -> bool {
    let seen = context.stores.hubs.get(&ObjectRef::from_obj(hub));
    seen.is_some_and(|seen| {
        seen.metadata.generation == hub.metadata.generation
            && seen.metadata.deletion_timestamp.is_none()
    })
}

/// A claim is changed as it was seen: what somebody else asks for meanwhile is not taken back.
async fn ask_for_more(
    namespace: &str,
    growth: &Growth,
    context: &Context,
) -> Result<(), kube::Error> {
    let document = json!({
        "metadata": {"uid": growth.uid, "resourceVersion": growth.version},
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

/// Writes `status.homes`, if it is not as it was `told` last, and tells of users who cannot save any more, or do not
/// see all of their data; none, where no homes are declared.
async fn tell(
    hub: &HubStorage,
    told: Option<&HomesStatus>,
    homes: Option<&HomesStatus>,
    context: &Context,
) -> Result<(), HomesError> {
    if told == homes {
        return Ok(());
    }
    let mut status = json!({});
    if let Some(homes) = homes {
        status["homes"] = json!(homes);
    }
    let namespace = hub.namespace().unwrap_or_default();
    let api: Api<HubStorage> = Api::namespaced(context.client.clone(), &namespace);
    let what = format!(
        "writing status.homes of HubStorage {namespace}/{}",
        hub.name_any()
    );
    // It may have taken minutes to find out.
    apply_status(&api, hub, Version::Any, HOMES_MANAGER, status)
        .await
        .map_err(failed(what))?;
    let known = told.map_or(&[][..], |told| &told.findings);
    let found = homes.iter().flat_map(|homes| &homes.findings);
    let of_users = [Reason::ClaimFull, Reason::ClaimDuplicate].map(|reason| reason.to_string());
    for found in found.filter(|found| of_users.contains(&found.reason)) {
        if !known.contains(found) {
            context.events.home(hub, found).await;
        }
    }
    Ok(())
}
