//! One reconcile of a HubStorage.
//!
//! ```text
//! 1. dereference   (memory only)   provider, namespace, rivals → Target, or why there is none
//! 2. finalizer     (API server)    before the first call to a store
//! 3. observe       (store)         each bucket as it is
//! 4. plan          (pure)          declared and observed → actions
//! 5. apply         (API server for the intent, then store)
//! 6. tell          (API server)    one event on each user pod that was missed
//! 7. status        (pure, then API server)  conditions, one patch, only if anything changed
//! ```

mod apply;
mod delete;
mod dereference;
mod missed;
mod observe;
mod status;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hubstorage_core::api::{HubStorage, Reason};
use hubstorage_core::lifecycle::{Effect, Supports};
use hubstorage_core::plan::{self, Declared};
use kube::ResourceExt as _;
use kube::runtime::controller::Action as Requeue;
use kube::runtime::reflector::ObjectRef;

use super::{ApiFailure, Context, OUTDATED, provider};
pub use apply::BucketOutcome;
pub use dereference::Target;
pub use missed::Told;

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
            Ok(Requeue::requeue(OUTDATED))
        }
        ended => ended,
    }
}

/// One reconcile of `hub`, which follows what is written: each write is made from the version
/// that the one before it left behind.
async fn attempt(mut hub: HubStorage, context: &Context) -> Result<Requeue, HubError> {
    let started = Instant::now();
    let key = ObjectRef::from_obj(&hub);

    if hub.metadata.deletion_timestamp.is_some() {
        delete::release(&hub, context).await?;
        context.hub_backoff.succeeded(&key);
        context.told.forget(&key);
        context
            .metrics
            .forget(&hub.namespace().unwrap_or_default(), &hub.name_any());
        // Nothing is left to look after.
        return Ok(Requeue::await_change());
    }

    let (step, outcomes, interval) = match dereference::target(&hub, context).await {
        Ok(target) => {
            delete::hold(&mut hub, context).await?;
            let outcomes = converge(&mut hub, &target, context).await?;
            let step = status::summarise(&outcomes);
            (step, outcomes, target.drift_check_interval)
        }
        // Without a provider there is no interval of its own; ten minutes is its default.
        Err(step) => (step, Vec::new(), Duration::from_secs(600)),
    };
    // Of two hubs in a namespace, the pods are the first one's.
    let missed = match step.reason() {
        Reason::SecondHubStorage => Vec::new(),
        _ => missed::pods(&hub, context),
    };
    missed::tell(&hub, &missed, context).await;
    status::write(&hub, &step, &outcomes, &missed, context).await?;

    context
        .metrics
        .reconciled("HubStorage", step.reason(), started.elapsed());
    Ok(Requeue::requeue(step.pause(
        key,
        &context.hub_backoff,
        interval,
    )))
}

/// Observes all buckets, plans, writes intents down, acts. What a store turns out not to support
/// is remembered, and its buckets are gone through once more without it.
async fn converge(
    hub: &mut HubStorage,
    target: &Target,
    context: &Context,
) -> Result<Vec<BucketOutcome>, HubError> {
    let mut supports = target.supports;
    let mut outcomes = pass(hub, target, &target.buckets, supports, context).await?;

    let unsupported: Vec<Effect> = outcomes
        .iter()
        .filter_map(|outcome| outcome.unsupported)
        .collect();
    if let Some(effect) = unsupported.first() {
        supports = supports.without(*effect);
        provider::record_unsupported(&target.provider, *effect, context)
            .await
            .map_err(HubError::at(
                "writing a capability into the StorageProvider's status",
            ))?;
        let again: Vec<Declared> = target
            .buckets
            .iter()
            .filter(|bucket| {
                outcomes
                    .iter()
                    .any(|o| o.unsupported.is_some() && o.plan.name == bucket.name)
            })
            .cloned()
            .collect();
        let second = pass(hub, target, &again, supports, context).await?;
        for outcome in &mut outcomes {
            if let Some(later) = second
                .iter()
                .find(|later| later.plan.name == outcome.plan.name)
            {
                *outcome = later.clone();
            }
        }
    }
    context.metrics.checked(
        &hub.namespace().unwrap_or_default(),
        &hub.name_any(),
        (context.clock)(),
    );
    Ok(outcomes)
}

async fn pass(
    hub: &mut HubStorage,
    target: &Target,
    buckets: &[Declared],
    supports: Supports,
    context: &Context,
) -> Result<Vec<BucketOutcome>, HubError> {
    let remembered = status::remembered(hub, buckets);
    let mut planned = Vec::with_capacity(buckets.len());
    for declared in buckets {
        let observed =
            observe::bucket(target.store.as_ref(), &declared.bucket, &target.owner).await;
        let remembered = remembered.get(&declared.name).cloned().unwrap_or_default();
        planned.push(observed.map(|observed| {
            plan::plan_bucket(declared, &observed, &remembered, &target.owner, supports)
        }));
    }
    let pending = apply::pending(planned.iter().flatten(), &remembered, (context.clock)());
    status::record_intents(hub, &pending, &target.location, context).await?;

    let mut outcomes = Vec::with_capacity(buckets.len());
    for (declared, plan) in buckets.iter().zip(planned) {
        let before = remembered
            .get(&declared.name)
            .and_then(|remembered| remembered.intent.as_ref());
        outcomes.push(match plan {
            Ok(plan) => {
                let intent = pending.get(&declared.name).map(|pending| &pending.intent);
                apply::bucket(hub, target, plan, intent, context).await
            }
            Err(error) => BucketOutcome::unobserved(declared, target, &error, before),
        });
    }
    Ok(outcomes)
}
