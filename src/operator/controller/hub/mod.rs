//! One reconcile of a HubStorage.
//!
//! ```text
//! 1. dereference   (memory only)   provider, namespace, rivals → Target, or why there is none
//! 2. finalizer     (API server)    before the first call to a store
//! 3. observe       (store)         each bucket as it is; before that, what was begun for an earlier spec
//! 4. plan          (pure)          declared and observed → actions
//! 5. apply         (API server for the intent, then store)
//! 6. tell          (API server)    one event on each user pod that was missed
//! 7. status        (pure, then API server)  conditions, one patch, only if anything changed; what stood
//!                  there stands, where the store throttled the look at a hub that was in order
//! ```
//!
//! A hub that is being deleted goes another way ([`delete`]).
//!
//! Mode Observe leaves out 2 and 5, and writes the plan to status; mode Paused does nothing but say so, or why the
//! hub counts for nothing.

mod apply;
mod begun;
mod claims;
mod delete;
mod dereference;
mod foresee;
mod look;
mod missed;
mod observe;
mod retell;
mod role;
mod status;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hubstorage_core::api::{BucketStatus, Capability, HubStorage, Mode, Reason};
use hubstorage_core::plan::{Declared, Owner};
use hubstorage_core::supports::Supports;
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;

use super::{ApiFailure, Context, OUTDATED, Requeue, Step, provider};
pub use apply::BucketOutcome;
pub use dereference::Target;
use look::Looked;
pub use missed::Told;
pub use retell::{is_in_order, retell};
pub use role::RoleOutcome;

/// What nobody expected: the API server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// A read or write of ours failed.
    #[error("the API server failed at {what}: {source}")]
    ApiServer {
        /// What was asked of it.
        what: &'static str,
        /// What it said.
        source: ApiFailure,
    },
}

impl HubError {
    fn at(what: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |error| Self::ApiServer {
            what,
            source: error.into(),
        }
    }
}

/// Makes one hub's buckets what its spec declares.
///
/// # Errors
/// [`HubError`] if the API server fails; the store's failures end in a condition.
pub async fn reconcile(hub: Arc<HubStorage>, context: Arc<Context>) -> Result<Requeue, HubError> {
    match attempt(Arc::unwrap_or_clone(hub), &context).await {
        Err(HubError::ApiServer { source, .. }) if source.is_outdated() => {
            Ok(Requeue::after(OUTDATED))
        }
        ended => ended,
    }
}

/// Whose this hub's buckets are.
fn owner(hub: &HubStorage, context: &Context) -> Owner {
    Owner {
        installation: context.installation.clone(),
        namespace: hub.namespace().unwrap_or_default(),
        name: hub.name_any(),
    }
}

/// One reconcile of `hub`, which follows what is written: each write is made from the version
/// that the one before it left behind.
async fn attempt(mut hub: HubStorage, context: &Context) -> Result<Requeue, HubError> {
    let started = Instant::now();
    let key = ObjectRef::from_obj(&hub);

    if hub.metadata.deletion_timestamp.is_some() {
        return delete::reconcile(hub, context).await;
    }

    if hub.spec.mode == Mode::Paused {
        // Whom others refuse is refused in every mode: the broker goes by what is told here.
        match dereference::refusal(&hub, context) {
            Some(step) => status::write(&hub, &Round::ended_early(step), &[], context).await?,
            None => status::pause(&hub, context).await?,
        }
        context.hub_backoff.succeeded(&key);
        return Ok(Requeue::await_change());
    }
    let (round, interval) = match dereference::target(&hub, context).await {
        Ok(target) => {
            let round = look_and_act(&mut hub, &target, context).await?;
            (round, target.drift_check_interval)
        }
        // Without a provider there is no interval of its own; ten minutes is its default.
        Err(step) => (Round::ended_early(step), Duration::from_secs(600)),
    };
    let Round { step, .. } = &round;
    // Of two hubs in a namespace, the pods are the first one's.
    let missed = match step.reason() {
        Reason::SecondHubStorage => Vec::new(),
        _ => missed::pods(&hub, context),
    };
    missed::tell(&hub, &missed, context).await;
    match is_no_news(&hub, &round, context) {
        true => {
            let told = status::again(&hub, &missed, context);
            status::rewrite(&hub, told, context).await?;
        }
        false => status::write(&hub, &round, &missed, context).await?,
    }

    context
        .metrics
        .reconciled("HubStorage", step.reason(), started.elapsed());
    Ok(Requeue::after(step.pause(
        key,
        &context.hub_backoff,
        interval,
    )))
}

/// What came of one reconcile.
pub struct Round {
    /// How it ended.
    pub step: Step,
    /// What became of each declared bucket; empty where nobody got as far as the store.
    pub outcomes: Vec<BucketOutcome>,
    /// Creations for an earlier spec that nobody can tell of yet.
    pub begun: Vec<BucketStatus>,
    /// What became of the role; none where there is none, or nobody got as far.
    pub role: Option<RoleOutcome>,
}

impl Round {
    fn ended_early(step: Step) -> Self {
        Self {
            step,
            outcomes: Vec::new(),
            begun: Vec::new(),
            role: None,
        }
    }
}

/// What mode Enforce or Observe does.
async fn look_and_act(
    hub: &mut HubStorage,
    target: &Target,
    context: &Context,
) -> Result<Round, HubError> {
    let (outcomes, begun) = if hub.spec.mode == Mode::Observe {
        (foresee::all(hub, target, context).await?, Vec::new())
    } else {
        delete::hold(hub, context).await?;
        let begun = begun::follow_up(hub, target, context).await;
        (converge(hub, target, context).await?, begun)
    };
    let role = role::keep(hub, target, &outcomes, context).await?;
    let is_unseen = outcomes.iter().any(|outcome| outcome.unseen)
        || role.as_ref().is_some_and(|role| role.unseen);
    if !is_unseen {
        let (namespace, now) = (hub.namespace().unwrap_or_default(), (context.clock)());
        context.metrics.checked(&namespace, &hub.name_any(), now);
    }
    Ok(Round {
        step: status::summarise(&outcomes, role.as_ref()),
        outcomes,
        begun,
        role,
    })
}

/// A store that throttles does answer: where a hub was in order before, nothing was found to do, and
/// nothing that status tells of a bucket has changed, what was found then stands.
fn is_no_news(hub: &HubStorage, round: &Round, context: &Context) -> bool {
    let throttled = |unseen: bool, step: &Step| unseen && step.reason() == Reason::Throttled;
    let steady =
        |unseen: bool, step: &Step, actions: usize| !unseen && *step == Step::Done && actions == 0;
    let buckets = round.outcomes.iter();
    let buckets = buckets.map(|bucket| (bucket.unseen, &bucket.step, bucket.plan.actions.len()));
    let role = round.role.iter();
    let role = role.map(|role| (role.unseen, &role.step, role.plan.actions.len()));
    let parts: Vec<_> = buckets.chain(role).collect();
    parts
        .iter()
        .any(|(unseen, step, _)| throttled(*unseen, step))
        && parts.iter().all(|(unseen, step, actions)| {
            throttled(*unseen, step) || steady(*unseen, step, *actions)
        })
        && retell::is_in_order(hub)
        && status::tells(hub, round, context)
}

/// Observes all buckets, plans, writes intents down, acts. What a store turns out not to support
/// is remembered, and its buckets are gone through once more without it.
async fn converge(
    hub: &mut HubStorage,
    target: &Target,
    context: &Context,
) -> Result<Vec<BucketOutcome>, HubError> {
    let mut supports = target.supports;
    let mut lacking = BTreeSet::new();
    let mut outcomes: Vec<BucketOutcome> = Vec::new();
    let mut buckets = target.buckets.clone();
    // Each round but the last finds one more thing that the store cannot do.
    while !buckets.is_empty() {
        let (later, learned) = pass(hub, target, &buckets, supports, context).await?;
        buckets.retain(|bucket| {
            let outcome = later.iter().find(|later| later.plan.name == bucket.name);
            outcome.is_some_and(|outcome| {
                outcome
                    .unsupported
                    .is_some_and(|capability| supports.has(capability))
            })
        });
        supports = supports.without_all(learned.iter().copied());
        lacking.extend(learned);
        outcomes.retain(|before| !later.iter().any(|o| o.plan.name == before.plan.name));
        outcomes.extend(later);
    }
    outcomes.sort_by_key(|outcome| {
        target
            .buckets
            .iter()
            .position(|bucket| bucket.name == outcome.plan.name)
    });
    learned(target, &lacking, context).await?;
    Ok(outcomes)
}

/// Remembers what the store turned out to be unable to do.
async fn learned(
    target: &Target,
    lacking: &BTreeSet<Capability>,
    context: &Context,
) -> Result<(), HubError> {
    if lacking.is_empty() {
        return Ok(());
    }
    provider::record_lacking(&target.provider, lacking, context)
        .await
        .map_err(HubError::at(
            "writing a capability into the StorageProvider's status",
        ))
}

/// One round over `buckets`; also tells what the store turned out to be unable to do.
async fn pass(
    hub: &mut HubStorage,
    target: &Target,
    buckets: &[Declared],
    supports: Supports,
    context: &Context,
) -> Result<(Vec<BucketOutcome>, BTreeSet<Capability>), HubError> {
    let remembered = status::remembered(hub, buckets);
    let Looked { plans, mut lacking } = look::all(target, buckets, &remembered, supports).await;
    let planned = plans.iter().filter_map(|plan| plan.as_ref().ok());
    let pending = apply::pending(planned, &remembered, (context.clock)());
    status::record_intents(hub, &pending, &target.location, context).await?;

    let mut outcomes = Vec::with_capacity(buckets.len());
    for (declared, plan) in buckets.iter().zip(plans) {
        let before = remembered.get(&declared.name).cloned().unwrap_or_default();
        outcomes.push(match plan {
            Ok(plan) => {
                let intent = pending.get(&declared.name).map(|pending| &pending.intent);
                apply::bucket(hub, target, plan, intent, before.created, context).await
            }
            Err(error) => BucketOutcome::unobserved(declared, target, &error, before),
        });
    }
    lacking.extend(outcomes.iter().filter_map(|outcome| outcome.unsupported));
    Ok((outcomes, lacking))
}
