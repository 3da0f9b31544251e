//! The deletion of a HubStorage, and of those of its buckets that the spec says to delete with it.
//!
//! What is deleted is what status tells of, by the deletionPolicy that the spec has now: neither
//! has the rest of the spec to be valid, nor has the provider to be there. A bucket that cannot be
//! reached is waited for, since the spec can still be edited; only where the StorageProvider does
//! not exist any more is it left behind, and said.

mod bucket;
mod fate;
mod finalizer;
mod retained;
mod role;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hubstorage_core::api::{BucketStatus, HubStorage, Reason, S3Provider};
use hubstorage_core::plan::Owner;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource as _, ResourceExt as _};

use super::{HubError, owner, status};
use crate::controller::backoff::LONGEST;
use crate::controller::{Context, Requeue, Step};
use crate::providers::ConnectError;
use bucket::{Deletion, Outcome, with_way_out};
use fate::{Fate, How, Why, fate};

pub use fate::{is_declared, is_named};
pub use finalizer::hold;
pub use retained::{left_behind, left_out};
pub use role::leave as leave_role;

/// Batches of deletions in one bucket between two writes of status. Then other hubs have their turn:
/// five of a thousand versions take a store seconds.
const BATCHES_PER_ROUND: usize = 5;

/// One round of the deletion of `hub`.
///
/// # Errors
/// If the API server fails; the store's failures end in a condition.
pub async fn reconcile(hub: HubStorage, context: &Context) -> Result<Requeue, HubError> {
    let started = Instant::now();
    let key = ObjectRef::from_obj(&hub);
    if !finalizer::is_held(&hub) {
        forget(&hub, &key, context);
        return Ok(Requeue::await_change());
    }
    let known = hub.status.clone().unwrap_or_default().buckets;
    let outcomes = round(&hub, known.clone(), context).await;

    // What was seen since is written from: or an edit would lose the count of this round.
    let newest = newest(&hub, context).unwrap_or(hub);
    let left: Vec<BucketStatus> = outcomes
        .iter()
        .filter(|(_, outcome)| *outcome != Outcome::Gone)
        .map(|(bucket, _)| bucket.clone())
        .collect();
    let mut step = summarise(&outcomes);
    // Last, so that an edit that calls the deletion of data off finds everything as it was.
    if step == Step::Done {
        step = role::end(&newest, context).await;
    }
    let hub = match step == Step::Done && left == known {
        // It is about to go.
        true => newest,
        false => status::deleting(newest, &step, left, context).await?,
    };
    context
        .metrics
        .reconciled("HubStorage", Reason::Deleting, started.elapsed());
    let continues = outcomes
        .iter()
        .any(|(_, outcome)| *outcome == Outcome::Continues);
    if continues {
        context.hub_backoff.succeeded(&key);
        return Ok(Requeue::after(Duration::ZERO));
    }
    if step != Step::Done {
        return Ok(Requeue::after(step.pause(
            key,
            &context.hub_backoff,
            LONGEST,
        )));
    }

    for (bucket, outcome) in &outcomes {
        if let Outcome::Retained(why) = outcome {
            retained::outlives(&hub, bucket, why, context).await;
        }
    }
    finalizer::give_back(&hub, context).await?;
    forget(&hub, &key, context);
    Ok(Requeue::await_change())
}

/// Nothing is left to look after.
fn forget(hub: &HubStorage, key: &ObjectRef<HubStorage>, context: &Context) {
    context.hub_backoff.succeeded(key);
    context.told.forget(key);
    context
        .metrics
        .forget(&hub.namespace().unwrap_or_default(), &hub.name_any());
}

/// The hub as it was last seen: as it is at hand, or in the watch's memory, if that is newer. None,
/// if it is gone.
fn newest(hub: &HubStorage, context: &Context) -> Option<HubStorage> {
    let seen = context.stores.hubs.get(&ObjectRef::from_obj(hub))?;
    if seen.uid() != hub.uid() {
        return None;
    }
    Some(match seen.metadata.generation > hub.metadata.generation {
        true => Arc::unwrap_or_clone(seen),
        false => hub.clone(),
    })
}

/// Goes through all buckets once.
async fn round(
    hub: &HubStorage,
    known: Vec<BucketStatus>,
    context: &Context,
) -> Vec<(BucketStatus, Outcome)> {
    let owner = owner(hub, context);
    let is_to_go = |bucket: &BucketStatus| matches!(fate(hub, bucket, &owner), Fate::Deleted(_));
    let reach = match known.iter().any(is_to_go) {
        true => reach(hub, &owner, context).await,
        // Where everything stays, nobody is connected to a store.
        false => Err(Unreached::NoProvider),
    };
    let mut outcomes = Vec::with_capacity(known.len());
    for mut bucket in known {
        let outcome = match (fate(hub, &bucket, &owner), &reach) {
            (Fate::Retained(why), _) => Outcome::Retained(why),
            (Fate::Deleted(_), Err(Unreached::NoProvider)) => Outcome::Retained(Why::NoProvider),
            (Fate::Deleted(_), Err(Unreached::Step(step))) => {
                Outcome::Held(with_way_out(step.clone(), &bucket))
            }
            (Fate::Deleted(how), Ok(deletion)) => {
                let outcome = deletion.of(&mut bucket, how).await;
                // Of one that was never made there is nothing to tell.
                if outcome == Outcome::Gone && bucket.creation.is_none() {
                    tell_gone(hub, &bucket, how, context).await;
                }
                outcome
            }
        };
        outcomes.push((bucket, outcome));
    }
    outcomes
}

/// Why no store is reached.
enum Unreached {
    /// There is no provider of this name.
    NoProvider,
    /// There is, but something has to happen first.
    Step(Step),
}

async fn reach<'c>(
    hub: &'c HubStorage,
    owner: &'c Owner,
    context: &'c Context,
) -> Result<Deletion<'c>, Unreached> {
    let name = &hub.spec.provider_ref.name;
    let provider = context.provider(name).ok_or(Unreached::NoProvider)?;
    let failed = |error: ConnectError| Unreached::Step(Step::from(&error));
    let location = provider.spec.s3.as_ref().map(S3Provider::store);
    let location = location.ok_or_else(|| {
        let provider = name.clone();
        failed(ConnectError::Unsupported { provider })
    })?;
    Ok(Deletion {
        hub,
        owner,
        store: context
            .connect
            .managing(&provider)
            .await
            .map_err(failed)?
            .ours,
        location,
        context,
    })
}

/// How the deletion stands: what goes on by itself goes before what waits for somebody.
fn summarise(outcomes: &[(BucketStatus, Outcome)]) -> Step {
    let told: Vec<(&Outcome, String)> = outcomes
        .iter()
        .filter_map(|(bucket, outcome)| match outcome {
            Outcome::Retained(_) | Outcome::Gone => None,
            Outcome::Continues => Some((outcome, going_on(bucket))),
            Outcome::Held(Step::Done) => None,
            Outcome::Held(Step::Wait { message, .. } | Step::Stalled { message, .. }) => {
                Some((outcome, message.clone()))
            }
        })
        .collect();
    let message = told
        .iter()
        .map(|(_, message)| message.as_str())
        .collect::<Vec<_>>()
        .join("; ");
    let mut stalled = None;
    for (outcome, _) in &told {
        match outcome {
            Outcome::Held(Step::Wait { reason, .. }) => return Step::retry(*reason, message),
            Outcome::Held(Step::Stalled { reason, .. }) => _ = stalled.get_or_insert(*reason),
            _ => return Step::retry(Reason::Deleting, message),
        }
    }
    stalled.map_or(Step::Done, |reason| Step::stalled(reason, message))
}

fn going_on(bucket: &BucketStatus) -> String {
    let BucketStatus {
        name, bucket_name, ..
    } = bucket;
    match bucket.emptying {
        Some(_) => format!(
            "deleting bucket {bucket_name} with everything in it; set deletionPolicy of spec.buckets[{name}] to Retain \
             to stop"
        ),
        None => format!("looking again at bucket {bucket_name}: the spec was edited"),
    }
}

async fn tell_gone(hub: &HubStorage, bucket: &BucketStatus, how: How, context: &Context) {
    let with = match (how, bucket.emptying) {
        (How::WithContents, Some(emptying)) => format!(
            "everything in it: {} versions and delete markers, {} unfinished uploads",
            emptying.deleted_versions, emptying.aborted_uploads
        ),
        _ => "nothing in it".to_owned(),
    };
    let note = format!(
        "bucket {} in the store {} is deleted, with {with}",
        bucket.bucket_name, bucket.store
    );
    tracing::info!(namespace = hub.namespace(), name = hub.name_any(), "{note}");
    context.metrics.deleted();
    context
        .events
        .deleted(&hub.object_ref(&()), &bucket.bucket_name, &note)
        .await;
}
