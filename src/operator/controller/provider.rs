//! One reconcile of a StorageProvider: does the endpoint answer, does it take the keys, and are
//! both those that its hubs' buckets are with.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hubstorage_core::api::{
    Capability, CapabilityStatus, ConditionStatus, ConditionType, HubStorage, Reason, S3Provider,
    StorageProvider, StorageProviderStatus, Verdict, check_request, condition, update_conditions,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::Duration as KubeDuration;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;

use super::apply_status::{Version, apply_status};
use super::step::not_ready;
use super::{ApiFailure, Context, FIELD_MANAGER, OUTDATED, Requeue, Step, vending};
use crate::providers::refuse_moved;

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
    let first = Home::of(&provider);
    let (step, home) = match look(&provider, &first, &context).await {
        Ok(now) => (Step::Done, first.or_now(now)),
        Err(step) => (step, first),
    };
    let written = match is_no_news(&provider, &step) {
        true => Ok(()),
        false => write_status(&provider, &step, home, &context).await,
    };
    if !is_written(&provider, written)? {
        return Ok(Requeue::after(OUTDATED));
    }

    context
        .metrics
        .reconciled("StorageProvider", step.reason(), started.elapsed());
    let interval = drift_check_interval(&provider);
    Ok(Requeue::after(step.pause(
        key,
        &context.provider_backoff,
        interval,
    )))
}

/// Brings up to date what changes without a look at the store: `VendingReady`, and what `Ready` says of what the
/// store cannot do. A provider that was never looked at is about to be, and is told as a whole then.
///
/// # Errors
/// [`ProviderError`] if status cannot be written.
pub async fn retell(
    provider: Arc<StorageProvider>,
    context: Arc<Context>,
) -> Result<Requeue, ProviderError> {
    let before = provider.status.clone().unwrap_or_default();
    let Some(ready) = condition(&before.conditions, ConditionType::Ready) else {
        return Ok(Requeue::as_before());
    };
    let is_ready = ready.status == "True";
    let mut told = match is_ready {
        true => verdicts(&provider, &Step::Done),
        false => Vec::new(),
    };
    told.extend(vending::of_provider(&provider, &context.stores.hubs));
    let now = (context.clock)();
    let told = update_conditions(&before.conditions, told, before.observed_generation, now);
    // Why it is not ready only a look can tell.
    let stands = before.conditions.iter().filter(|condition| {
        !is_ready && condition.type_ != ConditionType::VendingReady.to_string()
    });
    let conditions: Vec<Condition> = stands.cloned().chain(told).collect();
    if conditions != before.conditions {
        let status = StorageProviderStatus {
            conditions,
            ..before
        };
        // Where it is outdated, its newer version is on its way here, and is told then.
        is_written(&provider, write(&provider, status, &context).await)?;
    }
    Ok(Requeue::as_before())
}

/// Whether status was written, which it is not where the provider has changed since.
fn is_written(
    provider: &StorageProvider,
    written: Result<(), kube::Error>,
) -> Result<bool, ProviderError> {
    match written.map_err(ApiFailure::from) {
        Ok(()) => Ok(true),
        Err(failure) if failure.is_outdated() => Ok(false),
        Err(source) => {
            let name = provider.name_any();
            Err(ProviderError { name, source })
        }
    }
}

/// Where a provider was seen to be, as its status tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Home {
    store: Option<String>,
    account: Option<String>,
}

impl Home {
    fn of(provider: &StorageProvider) -> Self {
        let status = provider.status.clone().unwrap_or_default();
        Self {
            store: status.store,
            account: status.account,
        }
    }

    /// What was seen now; a store that does not say whose the keys are takes back nothing.
    fn or_now(self, now: Self) -> Self {
        let same_store = self.store == now.store;
        Self {
            store: now.store,
            account: now.account.or(self.account.filter(|_| same_store)),
        }
    }
}

/// Looks at the store, at no other than the first one while hubs have buckets there.
async fn look(provider: &StorageProvider, first: &Home, context: &Context) -> Result<Home, Step> {
    let mut asked = provider.clone();
    if !has_buckets(provider, first, context)
        && let Some(status) = &mut asked.status
    {
        (status.store, status.account) = (None, None);
    }
    let side = context.connect.managing(&asked).await;
    let store = side.map_err(|error| Step::from(&error))?.ours;
    let account = store.check_access().await;
    let account = account.map_err(|error| Step::from(&error))?;
    // An ambient identity may become another one without a new connection.
    refuse_moved(&asked, account.as_deref()).map_err(|error| Step::from(&error))?;
    let store = provider.spec.s3.as_ref().map(S3Provider::store);
    Ok(Home { store, account })
}

/// Whether any hub has a bucket or a role where this provider was first seen.
fn has_buckets(provider: &StorageProvider, first: &Home, context: &Context) -> bool {
    let Some(store) = &first.store else {
        return false;
    };
    let name = provider.name_any();
    let is_there = |hub: &HubStorage| {
        let status = hub.status.as_ref();
        hub.spec.provider_ref.name == name
            && status.is_some_and(|status| {
                let role = status.role.as_ref();
                status.existing_buckets(store).next().is_some()
                    || role.is_some_and(|role| role.store == *store)
            })
    };
    !context.stores.hubs.state_filter(is_there).is_empty()
}

/// A store that throttles does answer: what was found before stands, and its hubs are left alone.
fn is_no_news(provider: &StorageProvider, step: &Step) -> bool {
    let ready = provider.status.as_ref().is_some_and(|status| {
        let ready = condition(&status.conditions, ConditionType::Ready);
        Some(status.observed_generation) == provider.metadata.generation
            && ready.is_some_and(|ready| ready.status == "True")
    });
    ready && step.reason() == Reason::Throttled
}

fn verdicts(provider: &StorageProvider, step: &Step) -> Vec<Verdict> {
    use ConditionStatus::True;
    use ConditionType::{Ready, Reconciling, Stalled};
    match step {
        Step::Done => {
            let lacks: Vec<&str> = provider.lacks().map(Capability::words).collect();
            let but = match lacks.is_empty() {
                true => String::new(),
                false => format!("; it cannot {}", lacks.join(", ")),
            };
            let message = format!("the endpoint answers and accepts the keys{but}");
            vec![Verdict::new(Ready, True, Reason::Ready, message)]
        }
        Step::Wait { reason, message } => not_ready(Reconciling, *reason, message),
        Step::Stalled { reason, message } => not_ready(Stalled, *reason, message),
    }
}

async fn write_status(
    provider: &StorageProvider,
    step: &Step,
    home: Home,
    context: &Context,
) -> Result<(), kube::Error> {
    let before = provider.status.clone().unwrap_or_default();
    let generation = provider.metadata.generation.unwrap_or_default();
    let now = (context.clock)();
    let mut verdicts = verdicts(provider, step);
    verdicts.extend(vending::of_provider(provider, &context.stores.hubs));
    let conditions = update_conditions(&before.conditions, verdicts, generation, now);
    let answered = check_request(&provider.metadata)
        .map(str::to_owned)
        .or(before.last_handled_check_request.clone());
    let unchanged = conditions == before.conditions
        && generation == before.observed_generation
        && answered == before.last_handled_check_request
        && home == Home::of(provider);
    if unchanged {
        return Ok(());
    }
    let status = StorageProviderStatus {
        observed_generation: generation,
        conditions,
        store: home.store,
        account: home.account,
        last_handled_check_request: answered,
        capabilities: Vec::new(),
    };
    write(provider, status, context).await
}

/// Writes all of status but the capabilities, which are another manager's, and tells of conditions that have
/// changed.
async fn write(
    provider: &StorageProvider,
    status: StorageProviderStatus,
    context: &Context,
) -> Result<(), kube::Error> {
    let before = provider.status.as_ref().map_or(&[][..], |s| &s.conditions);
    let conditions = status.conditions.clone();
    let ours = StorageProviderStatus {
        capabilities: Vec::new(),
        ..status
    };
    let status = serde_json::to_value(ours).map_err(kube::Error::SerdeError)?;
    apply_as(provider, FIELD_MANAGER, status, context).await?;
    context
        .events
        .transition(&provider.object_ref(&()), before, &conditions)
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
    // The whole list is ours: what is left out of it is taken back.
    let lacking: BTreeSet<Capability> = provider.lacks().chain(lacking.iter().copied()).collect();
    let capabilities: Vec<CapabilityStatus> = lacking
        .into_iter()
        .map(|name| CapabilityStatus {
            name,
            supported: false,
            observed_generation,
        })
        .collect();
    let status = json!({"capabilities": capabilities});
    apply_as(provider, CAPABILITIES_MANAGER, status, context).await
}

async fn apply_as(
    provider: &StorageProvider,
    manager: &str,
    status: serde_json::Value,
    context: &Context,
) -> Result<(), kube::Error> {
    let api: Api<StorageProvider> = Api::all(context.client.clone());
    apply_status(&api, provider, Version::AsSeen, manager, status)
        .await
        .map(drop)
}
