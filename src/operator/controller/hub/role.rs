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

/// How long a role may stay unseen after it was made: IAM User Guide, "Changes that I make are not always
/// immediately visible", speaks of eventual consistency without a bound; seconds are usual.
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
}

impl RoleOutcome {
    /// Whether it stays open to somebody whom the spec does not name.
    pub fn is_open(&self) -> bool {
        let opens = |action: &RoleAction| matches!(action.change, RoleChange::SetTrust { .. });
        self.step != Step::Done && self.plan.actions.iter().any(opens)
    }
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
    };
    let found = match look(target, &outcome).await {
        Ok(found) => found,
        // Whoever has roles made no more may take the rights away with them.
        Err(error @ CloudError::AccessDenied { .. }) if outcome.declared.is_none() => {
            if hub.spec.mode == Mode::Enforce
                && let Some(known) = outcome.known.take()
            {
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

/// The role as it is to be: for the buckets that are there and ours, and that grant users anything.
/// Without any there is nothing to make a role for.
fn declared(hub: &HubStorage, target: &Target, outcomes: &[BucketOutcome]) -> Option<DeclaredRole> {
    let role = target.provider.vending_role()?;
    if role.management != RoleManagement::Managed {
        return None;
    }
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
        named.user_access().map(|_| outcome.plan.bucket.clone())
    };
    let ceiling: Ceiling = outcomes
        .iter()
        .filter(is_there)
        .filter_map(granting)
        .collect();
    if ceiling.is_empty() {
        return None;
    }
    Some(DeclaredRole {
        name: name_of(&target.owner),
        owner: target.owner.clone(),
        trusted: role.trusted_principal.clone()?,
        boundary: role.permissions_boundary.clone(),
        ceiling,
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

/// Carries the plan out, and stops at the first call that fails. What was changed counts once the store
/// tells it so: IAM takes its time, and what it tells meanwhile is nobody's drift.
async fn apply(
    hub: &mut HubStorage,
    target: &Target,
    found: Option<FoundRole>,
    outcome: &mut RoleOutcome,
    context: &Context,
) -> Result<(), HubError> {
    if outcome.declared.is_some() && found.is_none() && outcome.known.is_none() {
        let pending = pending(&outcome.name, target, context);
        record(hub, &pending, context).await?;
        outcome.known = Some(pending);
    }
    let actions = outcome.plan.actions.clone();
    for action in &actions {
        let done = act(target, action, outcome.declared.as_ref()).await;
        context.metrics.action(action, matches!(done, Ok(true)));
        match done {
            Ok(true) => {}
            Ok(false) => {
                outcome.step = not_seen_yet(&outcome.name);
                return Ok(());
            }
            Err(error) => {
                outcome.step = Step::from(&error);
                return Ok(());
            }
        }
        tracing::info!(
            namespace = target.owner.namespace,
            name = target.owner.name,
            reason = %action.reason(),
            "{action}"
        );
        context.events.done(&hub.object_ref(&()), action).await;
    }
    let Some(declared) = &outcome.declared else {
        let may_come = actions.is_empty() && may_come(outcome.known.as_ref(), context);
        outcome.known = outcome.known.take().filter(|_| may_come);
        return Ok(());
    };
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
    let remembered = remembered(outcome.known.as_ref());
    let left = plan_role(declared, found.as_ref(), &remembered);
    let Some(found) = found.filter(|_| left == RolePlan::default()) else {
        outcome.step = not_seen_yet(&outcome.name);
        return Ok(());
    };
    outcome.known = Some(RoleStatus {
        name: outcome.name.to_string(),
        store: target.location.clone(),
        requested: None,
        arn: Some(found.arn),
        id: Some(found.id),
        applied_digest: Some(declared.digest()),
    });
    Ok(())
}

fn pending(name: &RoleName, target: &Target, context: &Context) -> RoleStatus {
    RoleStatus {
        name: name.to_string(),
        store: target.location.clone(),
        requested: Some(Time(whole_seconds((context.clock)()))),
        arn: None,
        id: None,
        applied_digest: None,
    }
}

fn not_seen_yet(name: &RoleName) -> Step {
    let message = format!("role {name} is not to be seen as it was made yet; looking again");
    Step::retry(Reason::Progressing, message)
}

/// Whether a role that was asked for, and never seen, may still come to be seen.
pub(super) fn may_come(known: Option<&RoleStatus>, context: &Context) -> bool {
    let requested = known.and_then(|known| known.requested.as_ref());
    requested.is_some_and(|requested| (context.clock)().duration_since(requested.0) < SEEN_AFTER)
}

/// One call; false where a role of the name is there that was not seen before, whoever made it.
async fn act(
    target: &Target,
    action: &RoleAction,
    declared: Option<&DeclaredRole>,
) -> Result<bool, CloudError> {
    let part = match (&action.change, declared) {
        (RoleChange::Delete, _) | (_, None) => {
            return target.roles.delete_role(&action.role).await.map(|()| true);
        }
        (RoleChange::Create { .. }, Some(declared)) => {
            let created = target.roles.create_role(declared).await?;
            return Ok(created == RoleCreation::Created);
        }
        (RoleChange::Tag, Some(declared)) => (RolePart::Tag, declared),
        (RoleChange::SetTrust { .. }, Some(declared)) => (RolePart::Trust, declared),
        (RoleChange::SetPolicy { .. }, Some(declared)) => (RolePart::Policy, declared),
        (RoleChange::SetBoundary { .. }, Some(declared)) => (RolePart::Boundary, declared),
    };
    target
        .roles
        .change_role(part.1, part.0)
        .await
        .map(|()| true)
}

/// As the API server stores times: what is written is what is read.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
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
