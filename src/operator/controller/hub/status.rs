//! Status: computed from what was done, written once, and only if it says something new.

mod deletion;
mod grants;
mod homes;
mod injection;
mod isolation;
mod paused;
mod plan;
mod shared;
mod verdicts;

use std::collections::BTreeMap;

use hubstorage_core::api::{
    BucketStatus, ConditionType, CreationIntent, HubStorage, HubStorageStatus, Mode,
    StorageProvider, Verdict, check_request, update_conditions,
};
use hubstorage_core::lifecycle::Effect;
use hubstorage_core::names::BucketName;
use hubstorage_core::plan::{Declared, Intent, Remembered};
use hubstorage_core::settings::Setting;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::Value;

use super::missed::MissedPod;
use super::{BucketOutcome, HubError, RoleOutcome, Round, delete};
use crate::controller::apply_status::{Version, apply_status};
use crate::controller::{Context, FIELD_MANAGER, Step};

pub use deletion::deleting;
pub use verdicts::summarise;

/// What status tells of each declared bucket, by its name within the hub; nothing, where the
/// name was another bucket's then.
pub fn remembered(hub: &HubStorage, declared: &[Declared]) -> BTreeMap<String, Remembered> {
    let Some(status) = &hub.status else {
        return BTreeMap::new();
    };
    let declared = |known: &BucketStatus| {
        declared.iter().find(|declared| {
            declared.name == known.name && declared.bucket.as_str() == known.bucket_name
        })
    };
    let buckets = status.buckets.iter();
    buckets
        .filter_map(|bucket| Some((bucket, declared(bucket)?)))
        .map(|(bucket, declared)| {
            let digest = Some(declared.digest());
            let intent = bucket.creation.as_ref().map(Intent::from);
            (
                bucket.name.clone(),
                Remembered {
                    existed: intent.is_none(),
                    settled: bucket.applied_digest == digest,
                    intent,
                    origin: bucket.origin,
                    created: bucket.created.as_ref().map(|created| created.0),
                },
            )
        })
        .collect()
}

/// A bucket that is about to be created, or was when a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Name in the store.
    pub bucket: BucketName,
    /// The intent.
    pub intent: Intent,
}

/// Writes down which buckets are about to be created, before they are; what is written down
/// already is not written again.
///
/// # Errors
/// If the API server fails; then no bucket is created.
pub async fn record_intents(
    hub: &mut HubStorage,
    pending: &BTreeMap<String, Pending>,
    location: &str,
    context: &Context,
) -> Result<(), HubError> {
    let before = hub.status.clone().unwrap_or_default();
    let mut buckets = before.buckets.clone();
    for (name, pending) in pending {
        let creation = Some(CreationIntent::from(&pending.intent));
        let is_it = |bucket: &BucketStatus| {
            bucket.name == *name && bucket.bucket_name == pending.bucket.as_str()
        };
        let new = BucketStatus {
            name: name.clone(),
            bucket_name: pending.bucket.to_string(),
            creation: creation.clone(),
            store: location.to_owned(),
            applied_digest: None,
            origin: None,
            created: None,
            lifecycle: Vec::new(),
            settings: Vec::new(),
            omitted: Vec::new(),
            grants: Vec::new(),
            emptying: None,
        };
        match buckets.iter_mut().find(|bucket| is_it(bucket)) {
            Some(bucket) => bucket.creation = creation,
            None => buckets.push(new),
        }
    }
    if buckets == before.buckets {
        return Ok(());
    }
    // The list has a bound: what is told of now, and was named before, goes now.
    let owner = super::owner(hub, context);
    buckets.retain(|known| known.creation.is_some() || delete::is_declared(hub, known, &owner));
    let known = before.buckets.clone();
    let status = HubStorageStatus { buckets, ..before };
    record(hub, &status, context).await?;
    delete::left_out(hub, &known, &status.buckets, context).await;
    Ok(())
}

/// Writes this status, and follows what it left behind.
///
/// # Errors
/// If the API server fails.
pub async fn record(
    hub: &mut HubStorage,
    status: &HubStorageStatus,
    context: &Context,
) -> Result<(), HubError> {
    *hub = patch(hub, status, context)
        .await
        .map_err(HubError::at("writing the intent to create into status"))?;
    Ok(())
}

/// Computes status and writes it, if it differs.
///
/// # Errors
/// If the API server fails.
pub async fn write(
    hub: &HubStorage,
    round: &Round,
    missed: &[MissedPod],
    context: &Context,
) -> Result<(), HubError> {
    let outcomes = &round.outcomes;
    let before = hub.status.clone().unwrap_or_default();
    let verdicts = verdicts::all(hub, round, missed, context);
    let generation = hub.metadata.generation.unwrap_or_default();
    let now = (context.clock)();
    let provider = context.provider(&hub.spec.provider_ref.name);
    let is_observing = hub.spec.mode == Mode::Observe;
    let mut status = HubStorageStatus {
        observed_generation: generation,
        conditions: update_conditions(&before.conditions, verdicts, generation, now),
        buckets: if outcomes.is_empty() || is_observing {
            before.buckets.clone()
        } else {
            buckets(&before, round, provider.as_deref())
        },
        buckets_ready: None,
        plan: if is_observing {
            plan::lines(outcomes, round.role.as_ref())
        } else {
            Vec::new()
        },
        last_handled_check_request: check_request(&hub.metadata)
            .map(str::to_owned)
            .or(before.last_handled_check_request.clone()),
        role: match &round.role {
            Some(role) => role.known.clone(),
            None if outcomes.is_empty() => before.role.clone(),
            None => None,
        },
        shared: shared::folders(hub, context),
        // Written by others: the reconcilers of users and of homes, and serve.
        users: None,
        homes: None,
        vending: None,
    };
    status.buckets_ready = Some(ready_count(&status.buckets, hub));
    put(hub, &status, context).await
}

/// Whether status tells of every bucket what these outcomes do, and of one that nobody could look at that
/// it was as it is declared now.
pub fn tells(hub: &HubStorage, round: &Round, context: &Context) -> bool {
    let before = hub.status.clone().unwrap_or_default();
    let provider = context.provider(&hub.spec.provider_ref.name);
    let is_of_now = |outcome: &BucketOutcome| {
        let mut known = before.buckets.iter();
        let known = known.find(|known| known.name == outcome.plan.name);
        known.is_some_and(|known| known.applied_digest.as_ref() == Some(&outcome.plan.digest))
    };
    let is_role_of_now = round
        .role
        .as_ref()
        .is_none_or(|role| role.known == before.role);
    is_role_of_now
        && round.outcomes.iter().all(is_of_now)
        && buckets(&before, round, provider.as_deref()) == before.buckets
}

/// Says that nobody looks: what is known stays, as it was when somebody last did.
///
/// # Errors
/// If the API server fails.
pub async fn pause(hub: &HubStorage, context: &Context) -> Result<(), HubError> {
    let before = hub.status.clone().unwrap_or_default();
    let generation = hub.metadata.generation.unwrap_or_default();
    let status = HubStorageStatus {
        observed_generation: generation,
        conditions: paused::conditions(&before.conditions, generation, (context.clock)()),
        // By this the admission policies know that the hub counts.
        shared: shared::folders(hub, context),
        ..before
    };
    put(hub, &status, context).await
}

/// Writes status, if our part of it says anything new, and tells of what it says.
async fn put(
    hub: &HubStorage,
    status: &HubStorageStatus,
    context: &Context,
) -> Result<(), HubError> {
    let before = hub.status.clone().unwrap_or_default();
    let ours = HubStorageStatus {
        users: before.users,
        homes: before.homes.clone(),
        vending: before.vending.clone(),
        ..status.clone()
    };
    if ours == before {
        return Ok(());
    }
    patch(hub, status, context)
        .await
        .map_err(HubError::at("writing status"))?;
    delete::left_out(hub, &before.buckets, &status.buckets, context).await;
    context
        .events
        .transition(&hub.object_ref(&()), &before.conditions, &status.conditions)
        .await;
    Ok(())
}

/// What has changed in memory of a hub that is in order.
pub fn again(hub: &HubStorage, missed: &[MissedPod], context: &Context) -> Vec<Verdict> {
    let known = hub.status.as_ref().map_or(&[][..], |s| &s.buckets);
    verdicts::again(hub, known, missed, context)
}

/// What does not depend on the store, of any other hub.
pub fn apart(hub: &HubStorage, context: &Context) -> Vec<Verdict> {
    let homes = homes::again(
        hub,
        *context.webhook.borrow(),
        &context.limits.homes.borrow(),
    );
    homes
        .into_iter()
        .chain(shared::again(hub, context))
        .collect()
}

/// Writes what is told anew into the conditions; the others stay.
///
/// # Errors
/// If the API server fails.
pub async fn rewrite(
    hub: &HubStorage,
    verdicts: Vec<Verdict>,
    context: &Context,
) -> Result<(), HubError> {
    let before = hub.status.clone().unwrap_or_default();
    let generation = hub.metadata.generation.unwrap_or_default();
    let told = update_conditions(&before.conditions, verdicts, generation, (context.clock)());
    let (summary, parts): (Vec<_>, Vec<_>) =
        told.into_iter().partition(|told| is_summary(&told.type_));
    let kept = before
        .conditions
        .iter()
        .filter(|before| summary.is_empty() || !is_summary(&before.type_))
        .map(|before| condition_of(&parts, &before.type_).unwrap_or(before));
    let conditions: Vec<Condition> = summary.iter().chain(kept).cloned().collect();
    let status = HubStorageStatus {
        conditions,
        shared: shared::folders(hub, context),
        ..before
    };
    put(hub, &status, context).await
}

/// How many buckets exist, of those declared.
fn ready_count(buckets: &[BucketStatus], hub: &HubStorage) -> String {
    let existing = buckets.iter().filter(|bucket| bucket.creation.is_none());
    format!("{}/{}", existing.count(), hub.spec.buckets.len())
}

/// Whether this condition sums the others up.
fn is_summary(type_: &str) -> bool {
    use ConditionType::{Ready, Reconciling, Stalled};
    [Ready, Reconciling, Stalled]
        .iter()
        .any(|summary| type_ == <&str>::from(summary))
}

fn condition_of<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

fn buckets(
    before: &HubStorageStatus,
    round: &Round,
    provider: Option<&StorageProvider>,
) -> Vec<BucketStatus> {
    let declared = round.outcomes.iter().filter_map(|outcome| {
        let known = before.buckets.iter().find(|bucket| {
            bucket.name == outcome.plan.name && bucket.bucket_name == outcome.plan.bucket.as_str()
        });
        let creation = outcome.intent.as_ref().map(CreationIntent::from);
        if !outcome.ours && creation.is_none() {
            // Not ours: users' pods must not be sent there. Not to be seen just now (an
            // outage, keys or a permission of the managing identity): what was known stays,
            // so that nothing changes for them, and no bucket is forgotten.
            let is_foreign = outcome.plan.refusal.is_some();
            return known.filter(|_| !is_foreign).cloned();
        }
        let rules = |effects: &[Effect]| effects.iter().map(ToString::to_string).collect();
        let settings = |settings: &[Setting]| {
            settings
                .iter()
                .filter(|s| s.says_something())
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        let in_force = matches!(outcome.step, Step::Done);
        Some(BucketStatus {
            name: outcome.plan.name.clone(),
            bucket_name: outcome.plan.bucket.to_string(),
            creation,
            store: outcome.location.clone(),
            applied_digest: if in_force {
                Some(outcome.plan.digest.clone())
            } else {
                known.and_then(|known| known.applied_digest.clone())
            },
            origin: outcome.plan.origin.filter(|_| outcome.ours),
            created: outcome.created.filter(|_| outcome.ours).map(Time),
            lifecycle: if in_force {
                rules(&outcome.plan.in_force)
            } else {
                Vec::new()
            },
            settings: if in_force {
                settings(&outcome.plan.settings.apply)
            } else {
                Vec::new()
            },
            omitted: outcome.plan.omitted(),
            grants: grants::words(&outcome.plan.grants, provider),
            emptying: None,
        })
    });
    declared.chain(round.begun.iter().cloned()).collect()
}

/// Server-side apply of the part of status that is ours; the parts of others stay.
async fn patch(
    hub: &HubStorage,
    status: &HubStorageStatus,
    context: &Context,
) -> Result<HubStorage, kube::Error> {
    let mut ours = serde_json::to_value(status).map_err(kube::Error::SerdeError)?;
    if let Value::Object(fields) = &mut ours {
        fields.remove("users");
        fields.remove("homes");
        fields.remove("vending");
    }
    let api: Api<HubStorage> =
        Api::namespaced(context.client.clone(), &hub.namespace().unwrap_or_default());
    apply_status(&api, hub, Version::AsSeen, FIELD_MANAGER, ours).await
}
