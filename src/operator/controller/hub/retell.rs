//! Tells anew what changes without the store: the guard, the webhook, the parts of the
//! installation, the pods that were missed, the probe's verdicts, users' homes. What the last check found in the
//! store stays as status has it, so this costs no call to a store, however many hubs there are.

use std::sync::Arc;

use hubstorage_core::api::{ConditionType, HubStorage, Mode, condition};

use super::{HubError, missed, status};
use crate::controller::{Awaited, Context, Requeue};

/// Whether the last check of the hub found its buckets as they are declared now. Status says so, so
/// that a restart does not forget it. Of buckets that are only observed status does not tell enough.
pub fn is_in_order(hub: &HubStorage) -> bool {
    let conditions = hub.status.as_ref().map_or(&[][..], |s| &s.conditions);
    let holds =
        |type_| condition(conditions, type_).is_some_and(|condition| condition.status == "True");
    hub.spec.mode == Mode::Enforce
        && !hub.is_awaited()
        && holds(ConditionType::BucketsReady)
        && holds(ConditionType::LifecycleApplied)
        && (condition(conditions, ConditionType::RoleReady).is_none()
            || holds(ConditionType::RoleReady))
}

/// Brings the status of a hub that is in order up to date with what is in memory. One that is not
/// is looked at soon anyway, and told as a whole then, but for what the store has no part in.
///
/// # Errors
/// [`HubError`] if the API server fails.
pub async fn retell(hub: Arc<HubStorage>, context: Arc<Context>) -> Result<Requeue, HubError> {
    let told = match is_in_order(&hub) {
        true => {
            let missed = missed::pods(&hub, &context);
            missed::tell(&hub, &missed, &context).await;
            status::again(&hub, &missed, &context)
        }
        false => status::apart(&hub, &context),
    };
    match status::rewrite(&hub, told, &context).await {
        // Its newer version is on its way here, and is told then.
        Err(HubError::ApiServer { source, .. }) if source.is_outdated() => {}
        written => written?,
    }
    Ok(Requeue::as_before())
}
