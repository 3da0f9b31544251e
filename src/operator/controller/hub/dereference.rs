//! From references to what they refer to. Everything comes from memory (the watches), but the
//! connection, which may read a Secret.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hubstorage_cloud::{ObjectStore, RoleStore};
use hubstorage_core::api::{
    Bucket, ConditionType, HubStorage, InsecureTransport, PolicyVerdict, Reason, S3Provider,
    StorageProvider, condition,
};
use hubstorage_core::injection::UserPods;
use hubstorage_core::lifecycle::effects;
use hubstorage_core::names::BucketNamePattern;
use hubstorage_core::plan::{Declared, Owner};
use hubstorage_core::settings::DeclaredSettings;
use hubstorage_core::supports::Supports;
use kube::ResourceExt as _;
use kube::core::{Selector, SelectorExt as _};
use kube::runtime::reflector::ObjectRef;

use super::claims::{self, Taken};
use crate::controller::provider::drift_check_interval;
use crate::controller::step::REFUSED;
use crate::controller::{Context, Step};
use crate::providers::ConnectError;

/// Everything a reconcile needs, checked: from here on nothing is looked up by name.
pub struct Target {
    /// The provider.
    pub provider: Arc<StorageProvider>,
    /// The connection to its store, for buckets that are ours to keep.
    pub store: Arc<dyn ObjectStore>,
    /// The same for buckets that somebody else keeps.
    pub store_of_others: Arc<dyn ObjectStore>,
    /// The same for the roles of hubs.
    pub roles: Arc<dyn RoleStore>,
    /// Which store that is, as it stands in status.
    pub location: String,
    /// Whose the buckets are.
    pub owner: Owner,
    /// The buckets that are declared.
    pub buckets: Vec<Declared>,
    /// Those that another hub claimed first, and why they are refused.
    pub taken: BTreeMap<String, Taken>,
    /// What the store can do, as far as it is known.
    pub supports: Supports,
    /// When to look again.
    pub drift_check_interval: Duration,
}

/// Looks up everything that `hub` refers to.
///
/// # Errors
/// The step that the reconcile ends with: which reference does not hold, and the way out.
pub async fn target(hub: &HubStorage, context: &Context) -> Result<Target, Step> {
    only_one_in_namespace(hub, context)?;
    let provider = provider(hub, context)?;
    let owner = super::owner(hub, context);
    let location = unmoved(hub, &provider)?;
    let buckets = declared(hub, &provider, &owner)?;
    pods_can_be_told(hub, &owner.namespace)?;
    policies_fit(hub, &provider, &buckets)?;
    let side = context
        .connect
        .managing(&provider)
        .await
        .map_err(|error| Step::from(&error))?;
    let supports = Supports::ALL.without_all(provider.lacks());
    let drift_check_interval = drift_check_interval(&provider);
    let taken = claims::taken(hub, &buckets, &location, context);
    Ok(Target {
        provider,
        store: side.ours,
        store_of_others: side.others,
        roles: side.roles,
        location,
        owner,
        buckets,
        taken,
        supports,
        drift_check_interval,
    })
}

/// Which store the provider is, if the hub's buckets are there: data does not move with an
/// endpoint, and empty buckets under the old names would look like a loss.
fn unmoved(hub: &HubStorage, provider: &StorageProvider) -> Result<String, Step> {
    let name = provider.name_any();
    let Some(s3) = &provider.spec.s3 else {
        return Err(Step::from(&ConnectError::Unsupported { provider: name }));
    };
    let store = s3.store();
    let buckets = hub.status.iter().flat_map(|status| &status.buckets);
    let elsewhere = buckets
        .filter(|bucket| bucket.creation.is_none())
        .find(|bucket| bucket.store != store);
    let role = hub.status.iter().find_map(|status| status.role.as_ref());
    if let Some(role) = role.filter(|role| role.store != store) {
        return Err(Step::stalled(
            Reason::ProviderMoved,
            format!(
                "role {} is at {}, and StorageProvider {name} is at {store} now; nothing is done there. Change the provider \
                 back, or make a new provider and a new HubStorage",
                role.name, role.store
            ),
        ));
    }
    match elsewhere {
        None => Ok(store),
        Some(bucket) => Err(Step::stalled(
            Reason::ProviderMoved,
            format!(
                "bucket {} is at {}, and StorageProvider {name} is at {store} now; nothing is done there. Change the \
                 provider back, or make a new provider and a new HubStorage and copy the data",
                bucket.bucket_name, bucket.store
            ),
        )),
    }
}

/// A selector that cannot be evaluated selects nobody, in webhook and broker alike.
fn pods_can_be_told(hub: &HubStorage, namespace: &str) -> Result<(), Step> {
    UserPods::of(hub, namespace)
        .map(drop)
        .map_err(|error| Step::stalled(Reason::InvalidConfiguration, error.to_string()))
}

/// Buckets that are named where the policy is too long.
const NAMED: usize = 3;

/// A policy that is too long is refused here, for whoever may come, and not when somebody with
/// a long name or in other groups asks for credentials.
fn policies_fit(
    hub: &HubStorage,
    provider: &StorageProvider,
    declared: &[Declared],
) -> Result<(), Step> {
    let in_store = |bucket: &Bucket| {
        let mut declared = declared.iter();
        let declared = declared.find(|declared| declared.name == bucket.name);
        declared.map(|declared| declared.bucket.clone())
    };
    let stalled = |why: String| {
        let longest = hub.spec.longest_in_policy(in_store).into_iter();
        let longest = longest.take(NAMED).map(|(name, shorter)| {
            format!("without bucket {name} it is shorter by {shorter} characters")
        });
        let longest: Vec<String> = longest.collect();
        let message = format!("spec.buckets[].grants: {why}; {}", longest.join(", "));
        Err(Step::stalled(Reason::InvalidConfiguration, message))
    };
    let policy = match hub.spec.policy_of_longest_user(in_store) {
        Ok(Some(policy)) => policy,
        Ok(None) => return Ok(()),
        Err(error) => return stalled(error.to_string()),
    };
    // What the store said when it was asked for a session with it.
    let vending = hub.status.iter().find_map(|status| status.vending.as_ref());
    let trial = vending.and_then(|vending| vending.policy.as_ref());
    let refused = trial.filter(|trial| trial.verdict == PolicyVerdict::Refused);
    match refused.filter(|trial| trial.is_of(&policy, provider)) {
        Some(trial) => stalled(format!(
            "some user could be granted more than fits into a session: {}",
            trial.message
        )),
        None => Ok(()),
    }
}

/// Why a hub counts for nothing, whatever its mode: another one was first, or its namespace may not use the
/// provider. From memory.
pub fn refusal(hub: &HubStorage, context: &Context) -> Option<Step> {
    let found = only_one_in_namespace(hub, context).and_then(|()| provider(hub, context).map(drop));
    found.err().filter(|step| REFUSED.contains(&step.reason()))
}

fn only_one_in_namespace(hub: &HubStorage, context: &Context) -> Result<(), Step> {
    let namespace = hub.namespace().unwrap_or_default();
    match context.hub_of(&namespace) {
        // Not in the watch's memory yet: then it is certainly not the older one.
        Some(first) if first.uid() != hub.uid() => Err(Step::stalled(
            Reason::SecondHubStorage,
            format!(
                "HubStorage {} was in namespace {} first, and a namespace has one; this one changes nothing. Delete \
                 one of the two",
                first.name_any(),
                namespace
            ),
        )),
        _ => Ok(()),
    }
}

fn provider(hub: &HubStorage, context: &Context) -> Result<Arc<StorageProvider>, Step> {
    let name = &hub.spec.provider_ref.name;
    let provider = context.provider(name).ok_or_else(|| {
        // The reference is immutable once there is a bucket.
        let or = match hub.status.as_ref().is_some_and(|s| !s.buckets.is_empty()) {
            true => "",
            false => ", or correct the name",
        };
        Step::stalled(
            Reason::ProviderNotFound,
            format!("spec.providerRef.name: there is no StorageProvider {name}. Create it{or}"),
        )
    })?;
    let namespace = hub.namespace().unwrap_or_default();
    let labels = namespace_labels(&namespace, context);
    let selector = Selector::try_from(provider.spec.namespaces.clone()).map_err(|error| {
        Step::stalled(
            Reason::InvalidConfiguration,
            format!("spec.namespaces of StorageProvider {name} is not a valid selector: {error}"),
        )
    })?;
    if !selector.matches(&labels) {
        return Err(Step::stalled(
            Reason::NamespaceNotAllowed,
            format!(
                "StorageProvider {name} is not for namespace {namespace}: its spec.namespaces wants {selector}. Label \
                 the namespace, or widen the selector"
            ),
        ));
    }
    let ready = condition(
        provider.status.as_ref().map_or(&[], |s| &s.conditions),
        ConditionType::Ready,
    );
    match ready {
        // What moved is moved for each of its hubs.
        Some(ready) if ready.reason == Reason::ProviderMoved.to_string() => {
            Err(Step::stalled(Reason::ProviderMoved, &ready.message))
        }
        Some(ready) if ready.status == "False" => Err(Step::retry(
            Reason::ProviderNotReady,
            format!(
                "StorageProvider {name} is not Ready ({}): {}",
                ready.reason, ready.message
            ),
        )),
        // Not looked at yet: the store itself will say what is wrong with it.
        _ => Ok(provider),
    }
}

fn namespace_labels(namespace: &str, context: &Context) -> BTreeMap<String, String> {
    let found = context.stores.namespaces.get(&ObjectRef::new(namespace));
    found
        .map(|namespace| namespace.labels().clone())
        .unwrap_or_default()
}

fn declared(
    hub: &HubStorage,
    provider: &StorageProvider,
    owner: &Owner,
) -> Result<Vec<Declared>, Step> {
    let mut buckets: Vec<Declared> = Vec::with_capacity(hub.spec.buckets.len());
    for bucket in &hub.spec.buckets {
        let declared = declared_bucket(hub, bucket, provider, owner)?;
        if let Some(first) = buckets.iter().find(|first| first.bucket == declared.bucket) {
            return Err(Step::stalled(
                Reason::BucketNameInvalid,
                format!(
                    "spec.buckets[{}].bucketName: {} is the bucket of spec.buckets[{}] already. Give each a bucket of \
                     its own",
                    declared.name, declared.bucket, first.name
                ),
            ));
        }
        buckets.push(declared);
    }
    Ok(buckets)
}

fn declared_bucket(
    hub: &HubStorage,
    bucket: &Bucket,
    provider: &StorageProvider,
    owner: &Owner,
) -> Result<Declared, Step> {
    let field = format!("spec.buckets[{}].bucketName", bucket.name);
    let name = owner
        .bucket_name(bucket)
        .map_err(|error| Step::stalled(Reason::BucketNameInvalid, format!("{field}: {error}")))?;
    let patterns = &provider.spec.bucket_names;
    if !patterns
        .iter()
        .any(|pattern| BucketNamePattern::new(pattern).allows(&name))
    {
        // The name is immutable once the bucket is there.
        let mut known = hub.status.iter().flat_map(|status| &status.buckets);
        let way_out = match known
            .any(|known| known.creation.is_none() && known.bucket_name == name.as_str())
        {
            true => "Add",
            false => "Choose another bucketName, or add",
        };
        return Err(Step::stalled(
            Reason::BucketNameNotAllowed,
            format!(
                "{field}: StorageProvider {} lets hubs claim {}, and {name} is none of them. {way_out} a pattern to its \
                 spec.bucketNames",
                provider.name_any(),
                patterns.join(", ")
            ),
        ));
    }
    let has_tls = provider.spec.s3.as_ref().is_some_and(S3Provider::has_tls);
    if bucket.insecure_transport == Some(InsecureTransport::Denied) && !has_tls {
        return Err(Step::stalled(
            Reason::InvalidConfiguration,
            format!(
                "spec.buckets[{}].insecureTransport: Denied would refuse every request, because the endpoint of \
                 StorageProvider {} has no https. Give it https, or set insecureTransport to Unmanaged",
                bucket.name,
                provider.name_any()
            ),
        ));
    }
    Ok(Declared {
        name: bucket.name.clone(),
        bucket: name,
        management: bucket.management,
        adoption: bucket.adoption,
        lifecycle: bucket.lifecycle.as_ref().map_or_else(Vec::new, effects),
        settings: DeclaredSettings::of(bucket, has_tls),
    })
}
