//! User pods that the webhook did not see: which they are, and the event on each.
//!
//! The pod itself is not written to: the missing stamp is the mark, and RBAC could not narrow a
//! right to annotate pods to those.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use hubstorage_core::api::{ConditionType, HubStorage, condition};
use hubstorage_core::injection::{UserPods, is_missed};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::ObjectRef;

use crate::controller::Context;
use crate::guard::GuardState;

/// How long the API server keeps an event (its `--event-ttl`, by default).
const EVENTS_LIVE: SignedDuration = SignedDuration::from_hours(1);

/// A user's pod that was missed.
pub type MissedPod = PartialObjectMeta<Pod>;

/// The UIDs of missed pods with an event, by hub.
#[derive(Debug, Default)]
pub struct Told(Mutex<HashMap<ObjectRef<HubStorage>, HashSet<String>>>);

impl Told {
    /// What was told of a hub; nothing, from here on.
    pub fn forget(&self, hub: &ObjectRef<HubStorage>) -> HashSet<String> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(hub).unwrap_or_default()
    }

    fn remember(&self, hub: ObjectRef<HubStorage>, told: HashSet<String>) {
        if !told.is_empty() {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.insert(hub, told);
        }
    }
}

/// The pods of `hub` that were missed, in the order of their names.
pub fn pods(hub: &HubStorage, context: &Context) -> Vec<MissedPod> {
    let namespace = hub.namespace().unwrap_or_default();
    let Ok(sources) = UserPods::of(hub, &namespace) else {
        return Vec::new();
    };
    let unstamped = context
        .stores
        .pods
        .state_filter(|pod| pod.namespace() == namespace && !pod.is_stamped());
    let unstamped = unstamped.iter().map(|pod| pod.unpacked());
    let mut missed: Vec<MissedPod> = unstamped
        .filter(|pod| is_missed(&pod.metadata, &sources))
        .collect();
    missed.sort_by_cached_key(|pod| pod.name_any());
    missed
}

/// Names of the users' pods of `hub` that were stamped before the guard was in force: whoever stamped them.
pub fn older_than_guard(hub: &HubStorage, guard: &GuardState, context: &Context) -> Vec<String> {
    let namespace = hub.namespace().unwrap_or_default();
    let (GuardState::InForce { since }, Ok(sources)) = (guard, UserPods::of(hub, &namespace))
    else {
        return Vec::new();
    };
    let older = context.stores.pods.state_filter(|pod| {
        pod.namespace() == namespace && pod.is_stamped() && pod.is_older_than(*since)
    });
    let older = older.iter().map(|pod| pod.unpacked());
    let users = older.filter(|pod| {
        let is_users = sources.iter().any(|source| source.selects(pod.labels()));
        is_users && pod.metadata.deletion_timestamp.is_none()
    });
    users.map(|pod| pod.name_any()).collect()
}

/// Publishes one event on each of `missed`, before status tells of them.
pub async fn tell(hub: &HubStorage, missed: &[MissedPod], context: &Context) {
    let key = ObjectRef::from_obj(hub);
    let before = context.told.forget(&key);
    let conditions = hub.status.as_ref().map_or(&[][..], |s| &s.conditions);
    let injection = condition(conditions, ConditionType::InjectionReady);
    let in_status = injection.is_some_and(|injection| injection.status == "False");
    let now = (context.clock)();

    let mut told = HashSet::new();
    for pod in missed {
        let uid = pod.uid().unwrap_or_default();
        // Events do not outlive a restart by long, status does: what it told of was told then.
        if in_status && age(pod, now) >= EVENTS_LIVE {
            continue;
        }
        if before.contains(&uid) || context.events.not_injected(pod, hub).await {
            told.insert(uid);
        }
    }
    context.told.remember(key, told);
}

fn age(pod: &MissedPod, now: Timestamp) -> SignedDuration {
    let created = pod.creation_timestamp().map_or(now, |created| created.0);
    now.duration_since(created)
}
