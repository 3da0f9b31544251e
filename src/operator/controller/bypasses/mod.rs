//! Which ways users' pods have to the store besides what is vended: what their specs and service accounts
//! say ([`look`]), and whether a metadata service gives them credentials ([`trial`]).
//!
//! A reconciler of its own, which asks the API server only. What it finds is kept in memory and told by the
//! hub's `IsolationReady`; after a restart what stood there stands until somebody has looked again.

mod look;
mod trial;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::channel::mpsc;
use hubstorage_core::api::{ConditionType, HubStorage, Mode, Reason, condition};
use hubstorage_core::bypass::Bypass;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;

use super::backoff::jittered;
use super::queue::Ask;
use super::runner::Wake;
use super::{ApiFailure, Context, Requeue, provider};

pub use trial::{MetadataService, TRIAL_POD, TRIAL_ROLE};

/// How long a trial pod is given until somebody looks at it again.
const TRIAL_LOOK: Duration = Duration::from_secs(3);

/// Where no provider has an interval of its own; its default.
const INTERVAL: Duration = Duration::from_secs(600);

/// The API server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("the API server failed at {what}: {source}")]
pub struct BypassError {
    what: String,
    source: ApiFailure,
}

impl BypassError {
    fn at(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |error| Self {
            what,
            source: error.into(),
        }
    }
}

/// What was found of one hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What its users' pods have.
    pub bypasses: BTreeSet<Bypass>,
    /// What the metadata service gives them, as it was last found; none while it is tried for the first time.
    pub metadata: Option<MetadataService>,
    /// Their service accounts, and whether a pod has a token of the account for the API server.
    accounts: BTreeMap<String, bool>,
    /// Whether the last servers that ran had something of their own, and none has run since.
    is_suspect: bool,
}

/// The rights of a service account, when they were asked for.
type AskedRights = (Vec<&'static str>, Timestamp);

/// What was found of every hub, and whom to tell of it.
pub struct Bypasses {
    found: Mutex<HashMap<ObjectRef<HubStorage>, Found>>,
    /// By namespace and name of the account.
    rights: Mutex<HashMap<(String, String), AskedRights>>,
    news: mpsc::UnboundedSender<Wake<HubStorage>>,
}

/// Whose status is to tell something new.
pub type News = mpsc::UnboundedReceiver<Wake<HubStorage>>;

impl Bypasses {
    /// Nothing was found yet.
    pub fn new() -> (Self, News) {
        let (news, receiver) = mpsc::unbounded();
        let bypasses = Self {
            found: Mutex::default(),
            rights: Mutex::default(),
            news,
        };
        (bypasses, receiver)
    }

    /// What was found of this hub by this process; `None` before somebody has looked.
    pub fn of(&self, hub: &ObjectRef<HubStorage>) -> Option<Found> {
        locked(&self.found).get(hub).cloned()
    }

    fn forget(&self, hub: &ObjectRef<HubStorage>) {
        locked(&self.found).remove(hub);
    }

    /// Rights in this namespace are asked for anew: somebody waits for what they come to.
    fn forget_rights(&self, namespace: &str) {
        locked(&self.rights).retain(|(of, _), _| of != namespace);
    }

    fn remember(&self, hub: ObjectRef<HubStorage>, found: Found) {
        let before = locked(&self.found).insert(hub.clone(), found.clone());
        if before.as_ref() != Some(&found) {
            // Its reader ends with the process.
            _ = self.news.unbounded_send(Wake::One(hub, Ask::News));
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks for the bypasses of one hub; `is_awaited`, if somebody edited it or asked for a check.
///
/// # Errors
/// [`BypassError`] names what the API server did not tell; what was found before stands.
pub async fn reconcile(
    hub: Arc<HubStorage>,
    is_awaited: bool,
    context: Arc<Context>,
) -> Result<Requeue, BypassError> {
    let key = ObjectRef::from_obj(hub.as_ref());
    let namespace = hub.namespace().unwrap_or_default();
    let counts = context.counts(&hub);
    let is_going = hub.metadata.deletion_timestamp.is_some();
    if is_going || !counts || hub.spec.mode == Mode::Paused {
        context.bypasses.forget(&key);
        return Ok(Requeue::await_change());
    }
    if is_awaited {
        context.bypasses.forget_rights(&namespace);
    }
    let provider = context.provider(&hub.spec.provider_ref.name);
    let interval = provider.map_or(INTERVAL, |provider| {
        provider::drift_check_interval(&provider)
    });
    let later = Requeue::after(jittered(interval));
    let pods = look::pods(&hub, &namespace, &context).await?;
    let before = context.bypasses.of(&key);
    let is_empty = pods.accounts.is_empty();
    if is_empty && before.is_none() && is_told(&hub) {
        // What was found before this process began stands: nobody is there to find anything else by.
        return Ok(later);
    }
    let mut bypasses = pods.bypasses;
    let accounts = match &before {
        // Accounts are there without pods, too, and the next server runs as one of them.
        Some(before) if is_empty => before.accounts.clone(),
        _ => pods.accounts,
    };
    for (account, has_token) in &accounts {
        bypasses.extend(look::identities(&namespace, account, &context).await?);
        if *has_token {
            bypasses.extend(look::rights(&namespace, account, &context).await?);
        }
    }
    let is_suspect = is_empty
        && before.as_ref().is_some_and(|before| {
            before.is_suspect || before.bypasses.iter().any(Bypass::is_of_pods)
        });
    let metadata = match &before {
        Some(_) if is_suspect => MetadataService::Untried(
            "no server of a user runs, by which to see whether what the last ones had is gone"
                .to_owned(),
        ),
        // Nobody is there who could reach anything.
        Some(Found {
            metadata: Some(known),
            ..
        }) if is_empty && known.is_known() => known.clone(),
        _ => trial::conduct(&hub, &namespace, pods.like.as_ref(), &context).await?,
    };
    let is_under_way = metadata == MetadataService::UnderWay;
    // While it is tried again, what was found last stands.
    let metadata = match is_under_way {
        true => before.and_then(|before| before.metadata),
        false => Some(metadata),
    };
    let found = Found {
        bypasses,
        metadata,
        accounts,
        is_suspect,
    };
    context.bypasses.remember(key, found);
    Ok(match is_under_way {
        true => Requeue::after(TRIAL_LOOK),
        false => later,
    })
}

/// Whether status tells what a look like this found out.
fn is_told(hub: &HubStorage) -> bool {
    told_by_looking(hub).is_some_and(|(_, reason)| reason != Reason::MetadataServiceUntried)
}

/// `IsolationReady` as status has it, and its reason, if that is one that only a look at users' pods gives.
pub fn told_by_looking(hub: &HubStorage) -> Option<(&Condition, Reason)> {
    use Reason::{
        CloudIdentityOnPods, Isolated, MetadataServiceReachable, MetadataServiceUntried,
        NodeReachable, ServiceAccountPrivileged,
    };
    let found_by_looking = [
        CloudIdentityOnPods,
        ServiceAccountPrivileged,
        NodeReachable,
        MetadataServiceReachable,
        MetadataServiceUntried,
        Isolated,
    ];
    let conditions = hub.status.as_ref().map_or(&[][..], |s| &s.conditions);
    let told = condition(conditions, ConditionType::IsolationReady)?;
    let mut reasons = found_by_looking.into_iter();
    let reason = reasons.find(|reason| reason.to_string() == told.reason)?;
    Some((told, reason))
}
