//! The end of a hub's role. It holds no data, so it goes with its hub; what remains of the buckets is
//! reached by no session any more.

use hubstorage_core::api::{HubStorage, Mode, Reason, RoleStatus};
use hubstorage_core::plan::Deed as _;
use hubstorage_core::roles::plan_removal;
use kube::{Resource as _, ResourceExt as _};

use crate::controller::hub::owner;
use crate::controller::hub::role::{may_come, name_of, remembered};
use crate::controller::{Context, Step};

/// Deletes the role, if the hub has one: what stands in the way, if anything does.
pub async fn end(hub: &HubStorage, context: &Context) -> Step {
    let known = hub.status.as_ref().and_then(|status| status.role.as_ref());
    let Some(known) = known else {
        return Step::Done;
    };
    if hub.spec.mode == Mode::Observe {
        leave(hub, known, "mode Observe changes nothing", context).await;
        return Step::Done;
    }
    let Some(provider) = context.provider(&hub.spec.provider_ref.name) else {
        let why = "its StorageProvider does not exist any more";
        leave(hub, known, why, context).await;
        return Step::Done;
    };
    let store = provider.spec.s3.as_ref().map(|s3| s3.store());
    if store.as_ref() != Some(&known.store) {
        let message = format!(
            "role {} is at {}, and StorageProvider {} is elsewhere now; nothing is deleted there. Change the provider back",
            known.name,
            known.store,
            provider.name_any()
        );
        return with_way_out(Step::stalled(Reason::ProviderMoved, message), known);
    }
    let side = match context.connect.managing(&provider).await {
        Ok(side) => side,
        Err(error) => return with_way_out(Step::from(&error), known),
    };
    let owner = owner(hub, context);
    let name = name_of(&owner);
    let found = match side.roles.role(&name).await {
        Ok(found) => found,
        Err(error) => return with_way_out(Step::from(&error), known),
    };
    let plan = plan_removal(&name, &owner, found.as_ref(), &remembered(Some(known)));
    if found.is_none() && may_come(Some(known), context) {
        let message = format!("role {name} was asked for and is not to be seen yet; looking again");
        return Step::retry(Reason::Progressing, message);
    }
    for action in plan.actions {
        let deleted = side.roles.delete_role(&name).await;
        context.metrics.action(&action, deleted.is_ok());
        if let Err(error) = deleted {
            return with_way_out(Step::from(&error), known);
        }
        tracing::info!(namespace = owner.namespace, name = owner.name, reason = %action.reason(), "{action}");
        context.events.done(&hub.object_ref(&()), &action).await;
    }
    Step::Done
}

fn with_way_out(step: Step, known: &RoleStatus) -> Step {
    let told = |message: &str| {
        format!(
            "{message}. To let the HubStorage go and leave role {} behind, set spec.mode to Observe",
            known.name
        )
    };
    match step {
        Step::Done => Step::Done,
        Step::Wait { reason, message } => Step::retry(reason, told(&message)),
        Step::Stalled { reason, message } => Step::stalled(reason, told(&message)),
    }
}

/// Tells that the role stays.
pub async fn leave(hub: &HubStorage, known: &RoleStatus, why: &str, context: &Context) {
    let (namespace, name) = (hub.namespace().unwrap_or_default(), hub.name_any());
    let role = known.arn.as_ref().unwrap_or(&known.name);
    let note = format!(
        "role {role} of HubStorage {namespace}/{name} was left at {} ({why}). Delete it there: nothing uses it any more",
        known.store
    );
    tracing::info!(namespace, name, "{note}");
    let events = &context.events;
    events
        .role_retained(&hub.object_ref(&()), &known.name, &note)
        .await;
    if let Some(provider) = context.provider(&hub.spec.provider_ref.name) {
        let about = provider.object_ref(&());
        events.role_retained(&about, &known.name, &note).await;
    }
}
