//! Step 4, the heart: what this pod may have. No client, no clock, no async.
//!
//! Everything is decided anew for each request from what the watches have seen. What is not
//! known is refused: no stamp, no guard, no verdict of the probe, no credential.

mod denied;
mod user;

use std::collections::BTreeSet;
use std::sync::Arc;

use hubstorage_core::api::{
    Bucket, BucketVending, ConditionType, HubStorage, HubUser, IsolationVerdict, Reason,
    StorageProvider, condition,
};
use hubstorage_core::hubs::hub_of_namespace;
use hubstorage_core::names::{
    BucketName, BucketNamePattern, Groups, Prefix, Username, hub_user_name,
};
use hubstorage_core::policies::Reach;
use hubstorage_core::roles::{RoleMissing, session_role};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use kube::core::DeserializeGuard;

use super::issuer::{Issuer, vending_secret};
use super::pods::LivePod;
use crate::guard::GuardState;

pub use denied::Denied;
pub use user::servers_needed;

/// What the decision is made from; the watches, or a test.
pub trait World {
    /// The HubStorage objects of a namespace.
    fn hubs(&self, namespace: &str) -> Vec<Arc<DeserializeGuard<HubStorage>>>;
    /// A StorageProvider.
    fn provider(&self, name: &str) -> Option<Arc<DeserializeGuard<StorageProvider>>>;
    /// Users' pods of a namespace.
    fn pods(&self, namespace: &str) -> Vec<LivePod>;
    /// A HubUser.
    fn user(&self, namespace: &str, name: &str) -> Option<Arc<DeserializeGuard<HubUser>>>;
    /// Name of a HubUser that suspends this user of a hub.
    fn suspended(&self, namespace: &str, hub: &str, user: &Username) -> Option<String>;
    /// resourceVersion of a Secret in `hubstorage-vending`; `None` if there is none.
    fn vending_secret(&self, name: &str) -> Option<String>;
    /// Whether stamps, usernames and groups can be trusted.
    fn guard(&self) -> GuardState;
}

/// A user, and what they may have.
#[derive(Debug, Clone, PartialEq)]
pub struct Grantee {
    /// The user.
    pub user: Username,
    /// Their prefix in every bucket of the hub.
    pub prefix: Prefix,
    /// What they reach.
    pub reaches: Vec<Reach>,
    /// Name of the HubStorage.
    pub hub: String,
    /// UID of the HubStorage.
    pub hub_uid: String,
    /// Name of the HubUser, whether it exists or not.
    pub hub_user: String,
    /// The provider that issues.
    pub provider: StorageProvider,
    /// With what it issues, and was tried.
    pub issuer: Issuer,
}

/// What the user of this pod may have, where those of [`servers_needed`] that run are `servers`. The answer is one
/// of this moment's: which of them count is decided again.
///
/// # Errors
/// [`Denied`] with the first reason for nothing.
pub fn authorise(
    pod: &ObjectMeta,
    servers: &[LivePod],
    world: &impl World,
) -> Result<Grantee, Denied> {
    let namespace = pod.namespace.as_deref().unwrap_or_default();
    let hubs = world.hubs(namespace);
    let hub = hub_that_counts(&hubs, namespace)?;
    refuse_hub_that_may_not(hub)?;
    let sources = user::sources(hub, namespace)?;
    let (user, source) = user::recognise(pod, hub, &sources)?;
    let prefix =
        Prefix::of(&user, hub.spec.users.prefix_scheme).map_err(|error| Denied::PrefixUnsafe {
            cause: error.to_string(),
        })?;
    let guard = world.guard();
    refuse_older_than_guard(pod, &guard)?;
    let hub_user = hub_user_name(&hub.name_any(), &user);
    refuse_suspended(world, namespace, &hub.name_any(), &hub_user, &user)?;
    let needed = user::Needed::by(source, &user, hub, &sources, &guard);
    let groups = user::groups(pod, source, needed.as_ref(), servers)?;
    let provider = provider_of(world, hub)?;
    refuse_nothing_to_vend(hub, &provider)?;
    let issuer = issuer(world, hub, &provider)?;
    let reaches = reaches(hub, &provider, &issuer, &prefix, &groups)?;
    Ok(Grantee {
        user,
        prefix,
        reaches,
        hub: hub.name_any(),
        hub_uid: hub.uid().unwrap_or_default(),
        hub_user,
        provider,
        issuer,
    })
}

/// Whether anything is declared for a namespace at all; asked before anything costs.
///
/// # Errors
/// [`Denied::NoHubStorage`] if not.
pub fn refuse_without_hub(namespace: &str, world: &impl World) -> Result<(), Denied> {
    match world.hubs(namespace).is_empty() {
        true => Err(no_hub_storage(namespace)),
        false => Ok(()),
    }
}

fn no_hub_storage(namespace: &str) -> Denied {
    Denied::NoHubStorage {
        namespace: namespace.to_owned(),
    }
}

fn hub_that_counts<'h>(
    hubs: &'h [Arc<DeserializeGuard<HubStorage>>],
    namespace: &str,
) -> Result<&'h HubStorage, Denied> {
    // One that cannot be read may be the one that counts.
    let readable: Vec<&HubStorage> = hubs
        .iter()
        .map(|hub| {
            hub.0
                .as_ref()
                .map_err(|error| unreadable("HubStorage", &error.metadata, &error.error))
        })
        .collect::<Result<_, _>>()?;
    hub_of_namespace(&readable)
        .copied()
        .ok_or_else(|| no_hub_storage(namespace))
}

fn unreadable(kind: &str, metadata: &ObjectMeta, cause: &str) -> Denied {
    let name = metadata.name.clone().unwrap_or_default();
    Denied::ObjectUnreadable {
        object: format!("{kind} {name}"),
        cause: cause.to_owned(),
    }
}

fn refuse_hub_that_may_not(hub: &HubStorage) -> Result<(), Denied> {
    if hub.metadata.deletion_timestamp.is_some() {
        return Err(Denied::HubStorageDeleting {
            hub: hub.name_any(),
        });
    }
    // Namespaces' labels are the controller's to read; it says what follows from them.
    let conditions = hub
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let not_allowed = condition(conditions, ConditionType::Stalled).filter(|stalled| {
        stalled.status == "True" && stalled.reason == Reason::NamespaceNotAllowed.to_string()
    });
    match not_allowed {
        Some(stalled) => Err(Denied::HubStorageNotAllowed {
            hub: hub.name_any(),
            why: stalled.message.clone(),
        }),
        None => Ok(()),
    }
}

fn refuse_older_than_guard(pod: &ObjectMeta, guard: &GuardState) -> Result<(), Denied> {
    let since = match guard {
        GuardState::InForce { since } => *since,
        GuardState::Missing { why } => return Err(Denied::GuardMissing { why: why.clone() }),
    };
    // In whole seconds, rounded down: a pod of the same second counts as older.
    let created = pod
        .creation_timestamp
        .as_ref()
        .map_or(Timestamp::MIN, |time| time.0);
    if created < since {
        Err(Denied::PodOlderThanGuard { created, since })
    } else {
        Ok(())
    }
}

/// A user is suspended by any HubUser that says so, whatever it is called: admins need not know the name
/// that the operator would give it.
fn refuse_suspended(
    world: &impl World,
    namespace: &str,
    hub: &str,
    hub_user: &str,
    user: &Username,
) -> Result<(), Denied> {
    if let Some(found) = world.user(namespace, hub_user)
        && let Err(error) = &found.0
    {
        return Err(unreadable("HubUser", &error.metadata, &error.error));
    }
    match world.suspended(namespace, hub, user) {
        None => Ok(()),
        Some(hub_user) => Err(Denied::UserSuspended {
            user: user.to_string(),
            hub_user,
        }),
    }
}

fn provider_of(world: &impl World, hub: &HubStorage) -> Result<StorageProvider, Denied> {
    let name = &hub.spec.provider_ref.name;
    let found = world
        .provider(name)
        .ok_or_else(|| Denied::ProviderNotFound {
            provider: name.clone(),
            hub: hub.name_any(),
        })?;
    let provider = found
        .0
        .as_ref()
        .map_err(|error| unreadable("StorageProvider", &error.metadata, &error.error))?;
    if !provider.vends() {
        return Err(Denied::VendingNotConfigured {
            provider: name.clone(),
        });
    }
    Ok(provider.clone())
}

/// With what is vended: the version of the keys' Secret as it is now, and the role.
fn issuer(
    world: &impl World,
    hub: &HubStorage,
    provider: &StorageProvider,
) -> Result<Issuer, Denied> {
    let version = |secret: &str| {
        let found = world.vending_secret(secret);
        found.ok_or_else(|| Denied::VendingSecretMissing {
            secret: secret.to_owned(),
            provider: provider.name_any(),
        })
    };
    let missing = |RoleMissing| Denied::RoleMissing {
        hub: hub.name_any(),
    };
    Ok(Issuer {
        secret_version: vending_secret(provider).map(version).transpose()?,
        role: session_role(hub, provider).map_err(missing)?,
    })
}

/// Refuses a hub that grants nothing, or none of whose buckets is there: with what it would be vended does
/// not matter then.
fn refuse_nothing_to_vend(hub: &HubStorage, provider: &StorageProvider) -> Result<(), Denied> {
    let granting = hub.spec.buckets.iter();
    let granting: Vec<&Bucket> = granting.filter(|b| b.grants_something()).collect();
    if granting.is_empty() {
        return Err(Denied::NothingGranted {
            hub: hub.name_any(),
        });
    }
    let missing = |bucket: &&Bucket| {
        let why = bucket_in_store(hub, provider, &bucket.name).err()?;
        Some(format!("bucket {}: {why}", bucket.name))
    };
    let why: Vec<String> = granting.iter().filter_map(missing).collect();
    match why.len() == granting.len() {
        true => Err(Denied::NothingVendable {
            hub: hub.name_any(),
            why,
        }),
        false => Ok(()),
    }
}

/// What the grants come to, in buckets that exist and were seen to hold users apart.
fn reaches(
    hub: &HubStorage,
    provider: &StorageProvider,
    issuer: &Issuer,
    prefix: &Prefix,
    groups: &Groups,
) -> Result<Vec<Reach>, Denied> {
    let is_in = |group: &str| groups.have(group);
    let granting = hub.spec.buckets.iter().filter(|b| b.grants_to(is_in));
    let mut granting = granting.peekable();
    if granting.peek().is_none() {
        return Err(Denied::NothingGrantedToUser {
            hub: hub.name_any(),
            groups: groups.to_string(),
        });
    }
    let mut reaches = BTreeSet::new();
    let mut why = Vec::new();
    for declared in granting {
        match vendable(hub, provider, issuer, &declared.name) {
            Ok(bucket) => reaches.extend(declared.reaches(&bucket, prefix, is_in)),
            Err(reason) => why.push(format!("bucket {}: {reason}", declared.name)),
        }
    }
    if reaches.is_empty() {
        return Err(Denied::NothingVendable {
            hub: hub.name_any(),
            why,
        });
    }
    Ok(reaches.into_iter().collect())
}

/// The bucket's name in the store, if credentials may be issued for it.
fn vendable(
    hub: &HubStorage,
    provider: &StorageProvider,
    issuer: &Issuer,
    name: &str,
) -> Result<BucketName, String> {
    let bucket = bucket_in_store(hub, provider, name)?;
    let verdict = verdict(hub, provider, issuer, name, &bucket)
        .ok_or("whether the store holds users apart is still being tried")?;
    match verdict.verdict {
        IsolationVerdict::Isolated => Ok(bucket),
        IsolationVerdict::Leaks => Err(format!(
            "the store does not hold users apart ({})",
            verdict.message
        )),
        IsolationVerdict::Unknown => Err(format!(
            "whether the store holds users apart could not be tried ({})",
            verdict.message
        )),
    }
}

/// The name in the store of a bucket that exists, was seen to be ours at the store that the
/// provider points to now, and is one that the provider lets hubs claim.
///
/// # Errors
/// Why there is none, for people.
pub(super) fn bucket_in_store(
    hub: &HubStorage,
    provider: &StorageProvider,
    name: &str,
) -> Result<BucketName, String> {
    let provider_name = provider.name_any();
    let s3 = provider.spec.s3.as_ref();
    let store = s3
        .ok_or_else(|| format!("StorageProvider {provider_name} has no spec.s3"))?
        .store();
    let status = hub.status.as_ref();
    let existing = status.and_then(|status| {
        status
            .existing_buckets(&store)
            .find(|bucket| bucket.name == name)
    });
    let found = existing.ok_or_else(|| {
        let known = status.and_then(|status| status.buckets.iter().find(|b| b.name == name));
        match known {
            None => "it does not exist yet".to_owned(),
            // Written before the bucket is created: whose it is will be known after.
            Some(known) if known.creation.is_some() => "it is being created".to_owned(),
            Some(_) => format!("it has not been seen yet at {store}, where StorageProvider {provider_name} points now"),
        }
    })?;
    let bucket = BucketName::parse(&found.bucket_name).map_err(|error| error.to_string())?;
    let allows = |pattern: &String| BucketNamePattern::new(pattern).allows(&bucket);
    if !provider.spec.bucket_names.iter().any(allows) {
        return Err(format!(
            "spec.bucketNames of StorageProvider {provider_name} does not allow {bucket}"
        ));
    }
    Ok(bucket)
}

/// What the probe found about exactly this bucket at exactly this provider, with exactly these
/// keys and this role.
pub(super) fn verdict<'h>(
    hub: &'h HubStorage,
    provider: &StorageProvider,
    issuer: &Issuer,
    name: &str,
    bucket: &BucketName,
) -> Option<&'h BucketVending> {
    let vending = hub.status.as_ref()?.vending.as_ref()?;
    vending.buckets.iter().find(|found| {
        found.name == name
            && found.bucket_name == bucket.as_str()
            && provider.is_still(&found.provider_uid, found.provider_generation)
            && issuer.is_of(found)
    })
}

#[cfg(test)]
mod tests;
