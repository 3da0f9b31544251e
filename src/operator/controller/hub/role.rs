//! The role of a hub: looked at, planned and kept like a bucket, after the buckets that it reaches.

use std::collections::BTreeSet;

use hubstorage_cloud::{CloudError, RolePart};
use hubstorage_core::api::{
    Capability, HubStorage, HubStorageStatus, Mode, Reason, RoleManagement, RoleStatus,
};
use hubstorage_core::names::{BucketName, RoleName};
use hubstorage_core::plan::{Deed as _, Owner};
use hubstorage_core::policies::Ceiling;
use hubstorage_core::roles::{
    DeclaredRole, FoundRole, RememberedRole, RoleAction, RoleChange, RoleHome, RolePlan,
    plan_removal, plan_role,
};
use kube::Resource as _;

use super::{BucketOutcome, HubError, Target, status};
use crate::controller::{Context, Step};

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
        Err(error) => {
            let is_lacking = matches!(error, CloudError::Unsupported { .. });
            outcome.unseen = !is_lacking;
            if is_lacking && target.supports.has(Capability::Roles) {
                let lacking = BTreeSet::from([Capability::Roles]);
                super::learned(target, &lacking, context).await?;
            }
            outcome.step = Step::from(&error);
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
    let access = |outcome: &BucketOutcome| {
        let mut named = hub.spec.buckets.iter();
        let access = named.find(|bucket| bucket.name == outcome.plan.name)?;
        let bucket: BucketName = outcome.plan.bucket.clone();
        Some((bucket, access.user_access()?))
    };
    let ceiling: Ceiling = outcomes
        .iter()
        .filter(is_there)
        .filter_map(access)
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

/// Carries the plan out, and stops at the first call that fails.
async fn apply(
    hub: &mut HubStorage,
    target: &Target,
    mut found: Option<FoundRole>,
    outcome: &mut RoleOutcome,
    context: &Context,
) -> Result<(), HubError> {
    let creates = |action: &RoleAction| matches!(action.change, RoleChange::Create { .. });
    let is_new = outcome.plan.actions.iter().any(creates);
    if is_new && outcome.known.is_none() {
        let pending = RoleStatus {
            name: outcome.name.to_string(),
            store: target.location.clone(),
            arn: None,
            id: None,
            applied_digest: None,
        };
        record(hub, &pending, context).await?;
        outcome.known = Some(pending);
    }
    for action in outcome.plan.actions.clone() {
        let done = act(target, &action, outcome.declared.as_ref()).await;
        context.metrics.action(&action, done.is_ok());
        if let Err(error) = done {
            outcome.step = Step::from(&error);
            return Ok(());
        }
        tracing::info!(
            namespace = target.owner.namespace,
            name = target.owner.name,
            reason = %action.reason(),
            "{action}"
        );
        context.events.done(&hub.object_ref(&()), &action).await;
    }
    let Some(declared) = &outcome.declared else {
        outcome.known = None;
        return Ok(());
    };
    if is_new {
        // Its ARN and id; and whose it is, should somebody else have made one at the same time.
        found = match target.roles.role(&outcome.name).await {
            Ok(found) => found,
            Err(error) => {
                outcome.step = Step::from(&error);
                return Ok(());
            }
        };
        let owner = target.owner.to_string();
        found = found.filter(|found| found.owner.as_ref() == Some(&owner));
    }
    let Some(found) = found else {
        let message = format!("role {} is not to be seen yet; looking again", outcome.name);
        outcome.step = Step::retry(Reason::Progressing, message);
        return Ok(());
    };
    outcome.known = Some(RoleStatus {
        name: outcome.name.to_string(),
        store: target.location.clone(),
        arn: Some(found.arn),
        id: Some(found.id),
        applied_digest: Some(declared.digest()),
    });
    Ok(())
}

async fn act(
    target: &Target,
    action: &RoleAction,
    declared: Option<&DeclaredRole>,
) -> Result<(), CloudError> {
    let part = match (&action.change, declared) {
        (RoleChange::Delete, _) | (_, None) => return target.roles.delete_role(&action.role).await,
        (RoleChange::Create { .. }, Some(declared)) => {
            return target.roles.create_role(declared).await;
        }
        (RoleChange::Tag, Some(declared)) => (RolePart::Tag, declared),
        (RoleChange::SetTrust { .. }, Some(declared)) => (RolePart::Trust, declared),
        (RoleChange::SetPolicy { .. }, Some(declared)) => (RolePart::Policy, declared),
        (RoleChange::SetBoundary { .. }, Some(declared)) => (RolePart::Boundary, declared),
    };
    target.roles.change_role(part.1, part.0).await
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
