//! From outcomes to conditions: pure, but for what the watches have in memory.

use hubstorage_core::api::{
    BucketStatus, ConditionStatus, ConditionType, HubStorage, Reason, Verdict, condition,
};
use hubstorage_core::lifecycle::Effect;
use hubstorage_core::names::BucketName;
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;

use super::{
    BucketOutcome, MissedPod, RoleOutcome, Round, grants, homes, injection, isolation, shared,
};
use crate::controller::hub::missed as missed_pods;
use crate::controller::step::{not_reached, not_ready};
use crate::controller::{Context, Step, vending};

use ConditionStatus::{False, True};
use ConditionType::{
    BucketsReady, HomesHaveRoom, HomesWithinLimit, IsolationReady, LifecycleApplied, Ready,
    Reconciling, RoleReady, Stalled,
};

/// How the whole hub stands, its buckets and its role: what waits goes before what stalls, since it is tried again sooner, and
/// what mode Enforce would put right comes last.
pub fn summarise(outcomes: &[BucketOutcome], role: Option<&RoleOutcome>) -> Step {
    let of = |wanted: fn(&Step) -> bool| {
        outcomes
            .iter()
            .map(|outcome| &outcome.step)
            .chain(role.map(|role| &role.step))
            .find(|step| wanted(step))
    };
    let waiting = of(|step| matches!(step, Step::Wait { .. }));
    let stalled =
        of(|step| matches!(step, Step::Stalled { reason, .. } if *reason != Reason::Observing));
    let foreseen = outcomes
        .iter()
        .filter(|outcome| outcome.step.reason() == Reason::Observing);
    let of_role = role.filter(|role| role.step.reason() == Reason::Observing);
    let changes = foreseen
        .map(|outcome| outcome.plan.actions.len())
        .sum::<usize>()
        + of_role.map_or(0, |role| role.plan.actions.len());
    let observing = (changes > 0).then(|| {
        let message = format!(
            "mode Observe: the store differs from what is declared, and nothing is done about it; status.plan names \
             the changes, {changes} in all. Mode Enforce makes them"
        );
        Step::stalled(Reason::Observing, message)
    });
    let others = waiting.or(stalled).cloned();
    others.or(observing).unwrap_or(Step::Done)
}

/// All conditions of a hub.
pub(super) fn all(
    hub: &HubStorage,
    round: &Round,
    missed: &[MissedPod],
    context: &Context,
) -> Vec<Verdict> {
    let Round {
        step,
        outcomes,
        role,
        ..
    } = round;
    let provider = context.provider(&hub.spec.provider_ref.name);
    // Where nobody got as far as the store, what was known stands.
    let known = hub.status.as_ref().map_or(&[][..], |s| &s.buckets);
    let mut names = names(known);
    let mut grants = grants::known(known);
    if !outcomes.is_empty() {
        let is_there = |outcome: &&BucketOutcome| {
            outcome.ours || names.contains(&outcome.plan.bucket.as_str())
        };
        let there = outcomes.iter().filter(is_there);
        names = there.map(|there| there.plan.bucket.as_str()).collect();
        grants = grants::seen(outcomes, hub.status.as_ref(), provider.as_deref());
    }
    let mut parts = vec![buckets(step, outcomes), lifecycle(step, outcomes)];
    let had_role = hub
        .status
        .as_ref()
        .is_some_and(|status| status.role.is_some());
    match role {
        Some(role) => parts.push(self::role(role)),
        None if outcomes.is_empty() && had_role => parts.push(not_reached(RoleReady, step)),
        None => {}
    }
    parts.extend(from_memory(hub, step, &names, &grants, missed, context));
    let open = match role {
        Some(role) if role.unseen => stands_open(hub),
        Some(role) => role.is_open.then(|| open_role(role)),
        None if outcomes.is_empty() => stands_open(hub),
        None => None,
    };
    if let Some(open) = open {
        parts.retain(|part| part.type_ != IsolationReady);
        parts.push(open);
    }
    let mut verdicts = summary(step, &names, &parts);
    verdicts.extend(parts);
    verdicts
}

/// What status says of a role that is open, while nobody can look.
fn stands_open(hub: &HubStorage) -> Option<Verdict> {
    let conditions = hub.status.as_ref().map_or(&[][..], |s| &s.conditions);
    let before = condition(conditions, IsolationReady)?;
    let is_open = before.reason == Reason::RoleTrustsOthers.to_string();
    is_open.then(|| {
        Verdict::new(
            IsolationReady,
            False,
            Reason::RoleTrustsOthers,
            &before.message,
        )
    })
}

/// Whoever assumes the role without a session policy reaches all of the hub's data.
fn open_role(role: &RoleOutcome) -> Verdict {
    let message = format!(
        "the trust policy of role {} is not the declared one: whomever it names may assume the role, and reach all data \
         of this hub. RoleReady says why it is not put back",
        role.name
    );
    Verdict::new(IsolationReady, False, Reason::RoleTrustsOthers, message)
}

/// The conditions that may have changed while the store stayed as it was, of a hub that is in order:
/// `known` is what status tells of its buckets.
pub(super) fn again(
    hub: &HubStorage,
    known: &[BucketStatus],
    missed: &[MissedPod],
    context: &Context,
) -> Vec<Verdict> {
    let (step, names) = (Step::Done, names(known));
    let parts = from_memory(hub, &step, &names, &grants::known(known), missed, context);
    let mut verdicts = summary(&step, &names, &parts);
    verdicts.extend(parts);
    verdicts
}

fn names(known: &[BucketStatus]) -> Vec<&str> {
    let existing = known.iter().filter(|bucket| bucket.creation.is_none());
    existing.map(|bucket| bucket.bucket_name.as_str()).collect()
}

/// The parts of which the store says nothing.
fn from_memory(
    hub: &HubStorage,
    step: &Step,
    buckets: &[&str],
    grants: &[String],
    missed: &[MissedPod],
    context: &Context,
) -> Vec<Verdict> {
    let provider = context.provider(&hub.spec.provider_ref.name);
    let missed: Vec<String> = missed.iter().map(|pod| pod.name_any()).collect();
    let guard = context.guard.borrow().clone();
    let mut unverified = missed_pods::older_than_guard(hub, &guard, context);
    unverified.extend(missed.iter().cloned());
    unverified.sort();
    let known = isolation::Known {
        hub,
        step,
        provider: provider.as_deref(),
        buckets,
        grants,
        guard: &guard,
        found: context.bypasses.of(&ObjectRef::from_obj(hub)),
        unverified: &unverified,
    };
    let vending = known
        .provider
        .and_then(|provider| vending::of_hub(hub, step, provider, &guard));
    let webhook = *context.webhook.borrow();
    let injection = injection::verdict(webhook, *context.parts.borrow(), &missed);
    // Where both are for the same reason, the first says it in full, and Ready repeats that.
    [isolation::verdict(&known)]
        .into_iter()
        .chain(vending)
        .chain([injection])
        .chain(shared::verdict(hub, step, context))
        .chain(homes::verdicts(
            hub,
            step,
            webhook,
            &context.limits.homes.borrow(),
        ))
        .collect()
}

/// `Ready`, and `Reconciling` or `Stalled` where one of them is true.
fn summary(step: &Step, buckets: &[&str], parts: &[Verdict]) -> Vec<Verdict> {
    match step {
        Step::Stalled { reason, message } => not_ready(Stalled, *reason, message),
        Step::Wait { reason, message } => not_ready(Reconciling, *reason, message),
        // The parts that others bring about (guard, webhook, probe) are waited for.
        Step::Done => match parts.iter().find(|part| holds_back(part)) {
            Some(part) => not_ready(Reconciling, part.reason, &part.message),
            None => vec![Verdict::new(
                Ready,
                True,
                Reason::Ready,
                format!("as declared: {}", buckets.join(", ")),
            )],
        },
    }
}

/// Whether `Ready` waits for this part. Nodes come and go, servers that were missed run until
/// somebody restarts them, and one user's volume may be too large or full for good: what the hub declares
/// stands meanwhile, and nobody's deployment is to wait for any of them.
fn holds_back(part: &Verdict) -> bool {
    let passes = matches!(part.reason, Reason::AgentsUnavailable | Reason::NotInjected);
    let is_of_homes = matches!(part.type_, HomesWithinLimit | HomesHaveRoom);
    part.status == False && !passes && !is_of_homes
}

fn buckets(step: &Step, outcomes: &[BucketOutcome]) -> Verdict {
    if outcomes.is_empty() {
        return not_reached(BucketsReady, step);
    }
    let troubles: Vec<&BucketOutcome> = outcomes.iter().filter(|outcome| !outcome.ours).collect();
    match troubles.first() {
        None => Verdict::new(
            BucketsReady,
            True,
            Reason::Applied,
            format!("{} of {0} exist", outcomes.len()),
        ),
        Some(first) => trouble(BucketsReady, first, &troubles),
    }
}

fn lifecycle(step: &Step, outcomes: &[BucketOutcome]) -> Verdict {
    if outcomes.is_empty() {
        return not_reached(LifecycleApplied, step);
    }
    let troubles: Vec<&BucketOutcome> = outcomes
        .iter()
        .filter(|outcome| outcome.step != Step::Done)
        .collect();
    if let Some(first) = troubles.first() {
        return trouble(LifecycleApplied, first, &troubles);
    }
    let omitted: Vec<String> = outcomes.iter().filter_map(omission).collect();
    if !omitted.is_empty() {
        return Verdict::new(
            LifecycleApplied,
            True,
            Reason::PartlyApplied,
            omitted.join("; "),
        );
    }
    let reason = if outcomes
        .iter()
        .all(|outcome| outcome.plan.in_force.is_empty())
    {
        Reason::NotDeclared
    } else {
        Reason::Applied
    };
    let rules: Vec<String> = outcomes
        .iter()
        .map(|o| format!("{}: {}", o.plan.name, words(&o.plan.in_force)))
        .collect();
    Verdict::new(LifecycleApplied, True, reason, rules.join("; "))
}

fn role(outcome: &RoleOutcome) -> Verdict {
    match (&outcome.step, &outcome.declared) {
        (Step::Wait { reason, message } | Step::Stalled { reason, message }, _) => {
            Verdict::new(RoleReady, False, *reason, message)
        }
        (Step::Done, None) => Verdict::new(
            RoleReady,
            True,
            Reason::NotDeclared,
            "the role is gone: nothing needs it any more",
        ),
        (Step::Done, Some(declared)) => {
            let buckets: Vec<&str> = declared.ceiling.iter().map(BucketName::as_str).collect();
            let message = format!(
                "role {} may be assumed by {} and reaches {}",
                declared.name,
                declared.trusted,
                buckets.join(", ")
            );
            Verdict::new(RoleReady, True, Reason::Applied, message)
        }
    }
}

fn omission(outcome: &BucketOutcome) -> Option<String> {
    let BucketOutcome { plan, .. } = outcome;
    (!plan.omitted.is_empty()).then(|| {
        format!(
            "{}: {}; left out, because the store cannot: {}",
            plan.name,
            words(&plan.in_force),
            words(&plan.omitted)
        )
    })
}

fn words(effects: &[Effect]) -> String {
    if effects.is_empty() {
        return "no rules".to_owned();
    }
    effects
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// A part that is not as declared: the first trouble's reason, everybody's message.
fn trouble(type_: ConditionType, first: &BucketOutcome, all: &[&BucketOutcome]) -> Verdict {
    let told = |outcome: &&BucketOutcome| match &outcome.step {
        Step::Stalled { message, .. } | Step::Wait { message, .. } => {
            format!("{}: {message}", outcome.plan.name)
        }
        Step::Done => outcome.plan.name.clone(),
    };
    let reason = match &first.step {
        Step::Stalled { reason, .. } | Step::Wait { reason, .. } => *reason,
        Step::Done => Reason::Progressing,
    };
    Verdict::new(
        type_,
        False,
        reason,
        all.iter().map(told).collect::<Vec<_>>().join("; "),
    )
}
