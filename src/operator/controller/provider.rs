//! One reconcile of a StorageProvider: does the endpoint answer, and does it take the keys.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hubstorage_core::api::{
    Capability, CapabilityStatus, ConditionStatus, ConditionType, Reason, StorageProvider, Verdict,
    update_conditions,
};
use kube::api::{Patch, PatchParams};
use kube::core::Duration as KubeDuration;
use kube::runtime::controller::Action as Requeue;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;

use super::step::not_ready;
use super::{ApiFailure, Context, FIELD_MANAGER, OUTDATED, Step};

/// The field manager of what hubs find out about a store.
const CAPABILITIES_MANAGER: &str = "hubstorage-controller-capabilities";

/// Shortest and default interval of drift checks; the CRD has the same two.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(5);
const DEFAULT_INTERVAL: Duration = Duration::from_secs(600);

/// How often the hubs of a provider are compared with the store.
pub fn drift_check_interval(provider: &StorageProvider) -> Duration {
    let parsed = provider.spec.drift_check_interval.parse::<KubeDuration>();
    parsed.map_or(DEFAULT_INTERVAL, |interval| {
        Duration::from(interval).max(SHORTEST_INTERVAL)
    })
}

/// The API server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("the API server failed at writing the status of StorageProvider {name}: {source}")]
pub struct ProviderError {
    name: String,
    source: ApiFailure,
}

/// Keeps the status of a provider true.
///
/// # Errors
/// [`ProviderError`] if status cannot be written; the store's failures end in a condition.
pub async fn reconcile(
    provider: Arc<StorageProvider>,
    context: Arc<Context>,
) -> Result<Requeue, ProviderError> {
    let started = Instant::now();
    let key = ObjectRef::from_obj(provider.as_ref());
    if provider.metadata.deletion_timestamp.is_some() {
        return Ok(Requeue::await_change());
    }
    let step = match context.connect.store(&provider).await {
        Ok(store) => store
            .check_access()
            .await
            .map_or_else(|error| Step::from(&error), |_| Step::Done),
        Err(error) => Step::from(&error),
    };
    let written = write_status(&provider, &step, &context).await;
    match written.map_err(ApiFailure::from) {
        Ok(()) => {}
        Err(failure) if failure.is_outdated() => return Ok(Requeue::requeue(OUTDATED)),
        Err(source) => {
            let name = provider.name_any();
            return Err(ProviderError { name, source });
        }
    }

    context
        .metrics
        .reconciled("StorageProvider", step.reason(), started.elapsed());
    let interval = drift_check_interval(&provider);
    Ok(Requeue::requeue(step.pause(
        key,
        &context.provider_backoff,
        interval,
    )))
}

fn verdicts(step: &Step) -> Vec<Verdict> {
    use ConditionStatus::True;
    use ConditionType::{Ready, Reconciling, Stalled};
    match step {
        Step::Done => vec![Verdict::new(
            Ready,
            True,
            Reason::Ready,
            "the endpoint answers and accepts the keys",
        )],
        Step::Wait { reason, message } => not_ready(Reconciling, *reason, message),
        Step::Stalled { reason, message } => not_ready(Stalled, *reason, message),
    }
}

async fn write_status(
    provider: &StorageProvider,
    step: &Step,
    context: &Context,
) -> Result<(), kube::Error> {
    let before = provider.status.clone().unwrap_or_default();
    let generation = provider.metadata.generation.unwrap_or_default();
    let now = (context.clock)();
    let conditions = update_conditions(&before.conditions, verdicts(step), generation, now);
    if conditions == before.conditions && generation == before.observed_generation {
        return Ok(());
    }
    let status = json!({"observedGeneration": generation, "conditions": conditions});
    apply_status(provider, FIELD_MANAGER, status, context).await?;
    context
        .events
        .transition(&provider.object_ref(&()), &before.conditions, &conditions)
        .await;
    Ok(())
}

/// Remembers what a store cannot do, for as long as the provider's spec stays: so that it is not
/// asked again at every look, nor after a restart.
///
/// # Errors
/// If the API server does not take it.
pub async fn record_lacking(
    provider: &StorageProvider,
    lacking: &BTreeSet<Capability>,
    context: &Context,
) -> Result<(), kube::Error> {
    let observed_generation = provider.metadata.generation.unwrap_or_default();
    let known = provider.status.iter().flat_map(|s| &s.capabilities);
    let known = known
        .filter(|known| known.observed_generation == observed_generation && !known.supported)
        .map(|known| known.name);
    // All of them: what is left out of an apply is taken away.
    let lacking: BTreeSet<Capability> = known.chain(lacking.iter().copied()).collect();
    let capabilities: Vec<CapabilityStatus> = lacking
        .into_iter()
        .map(|name| CapabilityStatus {
            name,
            supported: false,
            observed_generation,
        })
        .collect();
    let status = json!({"capabilities": capabilities});
    apply_status(provider, CAPABILITIES_MANAGER, status, context).await
}

async fn apply_status(
    provider: &StorageProvider,
    manager: &str,
    status: serde_json::Value,
    context: &Context,
) -> Result<(), kube::Error> {
    let document = json!({
        "apiVersion": StorageProvider::api_version(&()),
        "kind": StorageProvider::kind(&()),
        "metadata": {"uid": provider.metadata.uid, "resourceVersion": provider.metadata.resource_version},
        "status": status,
    });
    let api: Api<StorageProvider> = Api::all(context.client.clone());
    let params = PatchParams::apply(manager).force();
    api.patch_status(&provider.name_any(), &params, &Patch::Apply(document))
        .await
        .map(drop)
}
