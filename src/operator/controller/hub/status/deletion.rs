//! Status while the hub is being deleted: how far it is, and what holds it up.

use hubstorage_core::api::{
    BucketStatus, ConditionStatus, ConditionType, HubStorage, HubStorageStatus, Reason, Verdict,
    update_conditions,
};
use kube::Resource as _;

use super::{HubError, patch, ready_count};
use crate::controller::step::not_ready;
use crate::controller::{Context, Step};

/// Writes the buckets that are left and how the deletion stands, if that is news; the hub as it is
/// then. What else status tells of the parts is not kept up any more, and so is dropped.
///
/// # Errors
/// If the API server fails.
pub async fn deleting(
    hub: HubStorage,
    step: &Step,
    buckets: Vec<BucketStatus>,
    context: &Context,
) -> Result<HubStorage, HubError> {
    let before = hub.status.clone().unwrap_or_default();
    let (why, reason, message) = match step {
        Step::Stalled { reason, message } => (ConditionType::Stalled, *reason, message.as_str()),
        Step::Wait { reason, message } => (ConditionType::Reconciling, *reason, message.as_str()),
        Step::Done => (
            ConditionType::Reconciling,
            Reason::Deleting,
            Reason::Deleting.meaning(),
        ),
    };
    let mut verdicts = not_ready(why, reason, message);
    verdicts.push(Verdict::new(
        ConditionType::BucketsReady,
        ConditionStatus::False,
        reason,
        message,
    ));
    let generation = hub.metadata.generation.unwrap_or_default();
    let status = HubStorageStatus {
        observed_generation: generation,
        conditions: update_conditions(&before.conditions, verdicts, generation, (context.clock)()),
        buckets_ready: Some(ready_count(&buckets, &hub)),
        buckets,
        ..before.clone()
    };
    if status == before {
        return Ok(hub);
    }
    let written = patch(&hub, &status, context).await.map_err(HubError::at(
        "writing the progress of the deletion into status",
    ))?;
    context
        .events
        .transition(&hub.object_ref(&()), &before.conditions, &status.conditions)
        .await;
    Ok(written)
}
