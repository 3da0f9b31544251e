//! The role of a hub: looked at, planned and kept like a bucket, after the buckets that it reaches.

use std::collections::BTreeSet;

use hubstorage_cloud::{CloudError, RoleCreation, RolePart};
use hubstorage_core::api::{
    Capability, HubStorage, HubStorageStatus, Mode, Reason, RoleManagement, RoleStatus,
};
use hubstorage_core::names::RoleName;
use hubstorage_core::plan::{Deed as _, Owner};
use hubstorage_core::policies::Ceiling;
use hubstorage_core::roles::{
    DeclaredRole, FoundRole, RememberedRole, RoleAction, RoleChange, RoleHome, RolePlan,
    plan_removal, plan_role,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Resource as _, ResourceExt as _};

use super::{BucketOutcome, HubError, Target, delete, status};
use crate::controller::{Context, Step};

/// How long a role may stay unseen after it was made or changed. The IAM User Guide ("Changes that I make
/// are not always immediately visible") gives no bound; seconds are usual.
const SEEN_AFTER: SignedDuration = SignedDuration::from_mins(2);

/// What became of the role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleOutcome {
    /// The role.
    pub name: RoleName,
    /// What was to be done.
    pub plan: RolePlan,
    /// Whether the store was asked how it is, and did not tell.
    pub unseen: bool,
    /// How it ended.
    pub step: Step,
    /// What is known of it now; none where it is not there, nor to be.
    pub known: Option<RoleStatus>,
    /// What it is for, where it is to be there.
    pub declared: Option<DeclaredRole>,
    /// Whether its trust policy is not the declared one, and stays so.
    pub is_open: bool,
}

/// What is needed to see to a role that may not be declared any more.
pub(super) fn remembered(known: Option<&RoleStatus>) -> RememberedRole {
    RememberedRole {
        id: known.and_then(|known| known.id.clone()),
        digest: known.and_then(|known| known.applied_digest.clone()),
    }
}

/// The one name of this owner's role.
pub(super) fn name_of(owner: &Owner) -> RoleName {
    RoleName::derive(&owner.installation, &owner.namespace, &owner.name)
}

/// Makes the role what the provider and the hub declare, or says in mode Observe what that would take;
/// none where there is no role, nor to be.
///
/// # Errors
/// If the API server does not take that a role is about to be made; then none is.
pub async fn keep(
    hub: &mut HubStorage,
    target: &Target,
    buckets: &[BucketOutcome],
    context: &Context,
) -> Result<Option<RoleOutcome>, HubError> {
    let declared = declared(hub, target, buckets);
    let known = hub.status.as_ref().and_then(|status| status.role.clone());
    if declared.is_none() && known.is_none() {
        return Ok(None);
    }
    let mut outcome = RoleOutcome {
        name: name_of(&target.owner),
        plan: RolePlan::default(),
        unseen: false,
        step: Step::Done,
        known,
        declared,
        is_open: false,
    };
    let found = match look(target, &outcome).await {
        Ok(found) => found,
        // Whoever has roles made no more may take the rights away with them.
        Err(error @ CloudError::AccessDenied { .. })
            if !is_managed(target) && hub.spec.mode == Mode::Enforce =>
        {
            if let Some(known) = outcome.known.take() {
                delete::leave_role(hub, &known, &error.to_string(), context).await;
            }
            return Ok(Some(outcome));
        }
        Err(error) => {
            outcome.step = Step::from(&error);
            outcome.unseen = !matches!(error, CloudError::Unsupported { .. });
            if !outcome.unseen {
                let lacking = BTreeSet::from([Capability::Roles]);
                if target.supports.has(Capability::Roles) {
                    super::learned(target, &lacking, context).await?;
                }
                let message = format!(
                    "{error}; set spec.s3.vending.role.management of StorageProvider {} to None, or to Given with a role \
                     of your own",
                    target.provider.name_any()
                );
                outcome.step = Step::stalled(Reason::Unsupported, message);
            }
            return Ok(Some(outcome));
        }
    };
    let remembered = remembered(outcome.known.as_ref());
    outcome.plan = match &outcome.declared {
        Some(declared) => plan_role(declared, found.as_ref(), &remembered),
        None => plan_removal(&outcome.name, &target.owner, found.as_ref(), &remembered),
    };
    if let Some(refusal) = &outcome.plan.refusal {
        outcome.step = Step::stalled(refusal.reason, &refusal.message);
        // Not ours: nothing is to be vended by it.
        outcome.known = None;
        return Ok(Some(outcome));
    }
    let opens = |action: &RoleAction| matches!(action.change, RoleChange::SetTrust { .. });
    outcome.is_open = outcome.plan.actions.iter().any(opens);
    if hub.spec.mode == Mode::Observe {
        if !outcome.plan.actions.is_empty() {
            let message = format!(
                "{} changes that mode Enforce would make",
                outcome.plan.actions.len()
            );
            outcome.step = Step::stalled(Reason::Observing, message);
        }
        return Ok(Some(outcome));
    }
    apply(hub, target, found, &mut outcome, context).await?;
    Ok(Some(outcome))
}

/// Whether the provider says that the operator makes roles.
fn is_managed(target: &Target) -> bool {
    let role = target.provider.vending_role();
    role.is_some_and(|role| role.management == RoleManagement::Managed)
}

/// The role as it is to be: for the buckets that are there and ours, and that grant users anything.
/// Without any there is nothing to make a role for.
fn declared(hub: &HubStorage, target: &Target, outcomes: &[BucketOutcome]) -> Option<DeclaredRole> {
    let role = target
        .provider
        .vending_role()
        .filter(|_| is_managed(target))?;
    let known = hub.status.iter();
    let known: BTreeSet<&str> = known
        .flat_map(|status| status.existing_buckets(&target.location))
        .map(|bucket| bucket.bucket_name.as_str())
        .collect();
    // One that cannot be seen just now is still the one that it was.
    let is_there = |outcome: &&BucketOutcome| {
        let is_foreign = outcome.plan.refusal.is_some();
        outcome.ours || !is_foreign && known.contains(outcome.plan.bucket.as_str())
    };
    let granting = |outcome: &BucketOutcome| {
        let mut named = hub.spec.buckets.iter();
        let named = named.find(|bucket| bucket.name == outcome.plan.name)?;
        let is_granting = named.grants_something();
        is_granting.then(|| (named, outcome.plan.bucket.clone()))
    };
    let granting: Vec<_> = outcomes
        .iter()
        .filter(is_there)
        .filter_map(granting)
        .collect();
    let ceiling: Ceiling = granting.iter().map(|(_, bucket)| bucket.clone()).collect();
    if ceiling.is_empty() {
        return None;
    }
    let shared = granting
        .iter()
        .flat_map(|(named, bucket)| named.shared(bucket));
    Some(DeclaredRole {
        name: name_of(&target.owner),
        owner: target.owner.clone(),
        trusted: role.trusted_principal.clone()?,
        boundary: role.permissions_boundary.clone(),
        ceiling,
        shared: shared.collect(),
        home: match target.provider.spec.s3.as_ref()?.endpoint {
            Some(_) => RoleHome::Compatible,
            None => RoleHome::Amazon,
        },
    })
}

async fn look(target: &Target, outcome: &RoleOutcome) -> Result<Option<FoundRole>, CloudError> {
    let capability = Capability::Roles;
    match target.supports.has(capability) {
        true => target.roles.role(&outcome.name).await,
        // Where there are none, none has to go.
        false if outcome.declared.is_none() => Ok(None),
        false => Err(CloudError::Unsupported { capability }),
    }
}

/// Carries the plan out. What was changed counts once the store tells it so: IAM takes its time, and what
/// it tells meanwhile is nobody's drift.
async fn apply(
    hub: &mut HubStorage,
    target: &Target,
    found: Option<FoundRole>,
    outcome: &mut RoleOutcome,
    context: &Context,
) -> Result<(), HubError> {
    let actions = outcome.plan.actions.clone();
    let Some(declared) = outcome.declared.clone() else {
        return remove(hub, target, &actions, outcome, context).await;
    };
    if !actions.is_empty() && outcome.known.is_none() {
        let pending = pending(&outcome.name, target, context);
        record(hub, &pending, context).await?;
        outcome.known = Some(pending);
    }
    let known = outcome.known.as_ref();
    let is_applied = known.is_some_and(|it| it.applied_digest == Some(declared.digest()));
    if !actions.is_empty() && is_applied && may_come(known, context) {
        outcome.is_open = false;
        outcome.step = not_seen_yet(&outcome.name);
        return Ok(());
    }
    if let Some(step) = carry_out(hub, target, &actions, &declared, outcome, context).await {
        outcome.step = step;
        return Ok(());
    }
    let found = match actions.is_empty() {
        true => found,
        false => match target.roles.role(&outcome.name).await {
            Ok(found) => found,
            Err(error) => {
                outcome.step = Step::from(&error);
                return Ok(());
            }
        },
    };
    let left = plan_role(
        &declared,
        found.as_ref(),
        &remembered(outcome.known.as_ref()),
    );
    let is_seen = left == RolePlan::default();
    let Some(found) = found.filter(|_| left.refusal.is_none()) else {
        outcome.step = not_seen_yet(&outcome.name);
        return Ok(());
    };
    outcome.known = Some(RoleStatus {
        name: outcome.name.to_string(),
        store: target.location.clone(),
        requested: (!is_seen).then(|| now(context)),
        arn: Some(found.arn),
        id: Some(found.id),
        applied_digest: Some(declared.digest()),
    });
    if !is_seen {
        outcome.step = not_seen_yet(&outcome.name);
    }
    Ok(())
}

/// One call after the other; the first failure is told, and stops what needs what failed.
async fn carry_out(
    hub: &HubStorage,
    target: &Target,
    actions: &[RoleAction],
    declared: &DeclaredRole,
    outcome: &mut RoleOutcome,
    context: &Context,
) -> Option<Step> {
    let (mut first, mut is_limited, mut is_new) = (None, true, false);
    for action in actions {
        if !is_limited && matches!(action.change, RoleChange::SetPolicy { .. }) {
            continue;
        }
        let done = act(target, action, declared).await;
        context
            .metrics
            .action(action, matches!(done, Ok(Done::Yes)));
        match (done, &action.change) {
            (Ok(Done::Yes), change) => {
                if matches!(change, RoleChange::Create { .. }) {
                    // Another role than any that was there before.
                    outcome.known = Some(pending(&outcome.name, target, context));
                    is_new = true;
                }
                outcome.is_open &= !matches!(change, RoleChange::SetTrust { .. });
                told(hub, target, action, context).await;
            }
            (Ok(Done::AlreadyThere), _) => {
                if !may_come(outcome.known.as_ref(), context) {
                    outcome.known = Some(pending(&outcome.name, target, context));
                }
                return Some(not_seen_yet(&outcome.name));
            }
            // To IAM a role that it does not see yet has neither path nor boundary.
            (Err(CloudError::AccessDenied { .. }), _) if is_new => {
                return Some(not_seen_yet(&outcome.name));
            }
            (Err(error), RoleChange::Create { .. }) => return Some(Step::from(&error)),
            (Err(error), change) => {
                is_limited &= !matches!(change, RoleChange::SetBoundary { .. });
                first.get_or_insert(Step::from(&error));
            }
        }
    }
    first
}

/// The role goes; one that was asked for and never seen is waited for.
async fn remove(
    hub: &HubStorage,
    target: &Target,
    actions: &[RoleAction],
    outcome: &mut RoleOutcome,
    context: &Context,
) -> Result<(), HubError> {
    if actions.is_empty() && may_come(outcome.known.as_ref(), context) {
        outcome.step = not_seen_yet(&outcome.name);
        return Ok(());
    }
    for action in actions {
        let done = target.roles.delete_role(&action.role).await;
        context.metrics.action(action, done.is_ok());
        if let Err(error) = done {
            outcome.step = Step::from(&error);
            return Ok(());
        }
        told(hub, target, action, context).await;
    }
    outcome.known = None;
    Ok(())
}

async fn told(hub: &HubStorage, target: &Target, action: &RoleAction, context: &Context) {
    tracing::info!(
        namespace = target.owner.namespace,
        name = target.owner.name,
        reason = %action.reason(),
        "{action}"
    );
    context.events.done(&hub.object_ref(&()), action).await;
}

fn now(context: &Context) -> Time {
    let now = (context.clock)();
    // As the API server stores times: what is written is what is read.
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

fn pending(name: &RoleName, target: &Target, context: &Context) -> RoleStatus {
    RoleStatus {
        name: name.to_string(),
        store: target.location.clone(),
        requested: Some(now(context)),
        arn: None,
        id: None,
        applied_digest: None,
    }
}

fn not_seen_yet(name: &RoleName) -> Step {
    let message = format!("role {name} is not to be seen as it was made yet; looking again");
    Step::retry(Reason::Progressing, message)
}

/// Whether what was made or changed, and not seen yet, may still come to be seen.
pub(super) fn may_come(known: Option<&RoleStatus>, context: &Context) -> bool {
    let requested = known.and_then(|known| known.requested.as_ref());
    requested.is_some_and(|requested| (context.clock)().duration_since(requested.0) < SEEN_AFTER)
}

/// What came of a call.
#[derive(PartialEq, Eq)]
enum Done {
    Yes,
    /// A role of the name is there that was not seen before, whoever made it.
    AlreadyThere,
}

async fn act(
    target: &Target,
    action: &RoleAction,
    declared: &DeclaredRole,
) -> Result<Done, CloudError> {
    let part = match &action.change {
        RoleChange::Create { .. } => {
            return Ok(match target.roles.create_role(declared).await? {
                RoleCreation::Created => Done::Yes,
                RoleCreation::AlreadyThere => Done::AlreadyThere,
            });
        }
        RoleChange::Tag => RolePart::Tag,
        RoleChange::SetTrust { .. } => RolePart::Trust,
        RoleChange::SetPolicy { .. } => RolePart::Policy,
        RoleChange::SetBoundary { .. } => RolePart::Boundary,
        RoleChange::Delete => {
            let deleted = target.roles.delete_role(&action.role).await;
            return deleted.map(|()| Done::Yes);
        }
    };
    target.roles.change_role(declared, part).await?;
    Ok(Done::Yes)
}

/// Writes down that a role is about to be made, before it is, so that none is left that nobody knows.
async fn record(
    hub: &mut HubStorage,
    pending: &RoleStatus,
    context: &Context,
) -> Result<(), HubError> {
    let status = HubStorageStatus {
        role: Some(pending.clone()),
        ..hub.status.clone().unwrap_or_default()
    };
    status::record(hub, &status, context).await
}
