//! `VendingReady`: whether the store issues sessions with the vending identity. Pure.
//!
//! `hubstorage serve` alone has that identity; what it found stands in `status.vending` of each HubStorage. From
//! there this tells it twice: of the hub, whose users get nothing, and of the StorageProvider, where the keys are.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr as _;

use hubstorage_core::api::{
    BucketVending, ConditionStatus, ConditionType, HubStorage, IsolationVerdict, Reason,
    StorageProvider, Verdict, condition,
};
use hubstorage_core::roles::session_role;
use kube::ResourceExt as _;
use kube::runtime::reflector::Store;

use super::Step;
use super::step::{REFUSED, not_reached};
use crate::guard::GuardState;

use ConditionStatus::{False, True, Unknown};
use ConditionType::VendingReady;

/// What serve found out about the provider, the hub's role and its grants as they are now, not as they once were: a
/// bucket that grants nothing any more is tried no more.
pub fn probes<'h>(hub: &'h HubStorage, provider: &StorageProvider) -> Vec<&'h BucketVending> {
    let vending = hub.status.iter().flat_map(|status| &status.vending);
    let probes = vending.flat_map(|vending| &vending.buckets);
    let Ok(role) = session_role(hub, provider) else {
        return Vec::new();
    };
    let id = role.and_then(|role| role.id);
    let is_granting = |name: &str| {
        let mut buckets = hub.spec.buckets.iter();
        buckets.any(|bucket| bucket.name == name && bucket.grants_something())
    };
    let is_current = |probe: &&BucketVending| {
        provider.is_still(&probe.provider_uid, probe.provider_generation)
            && probe.role_id == id
            && is_granting(&probe.name)
    };
    probes.filter(is_current).collect()
}

/// Of a hub whose reconcile ended in `step`: whether its users get credentials for every bucket that grants
/// something. Nothing where none is to be vended.
pub fn of_hub(
    hub: &HubStorage,
    step: &Step,
    provider: &StorageProvider,
    guard: &GuardState,
) -> Option<Verdict> {
    let granting = hub.spec.buckets.iter().filter(|b| b.grants_something());
    let granting: BTreeSet<&str> = granting.map(|bucket| bucket.name.as_str()).collect();
    if granting.is_empty() || !provider.vends() {
        return None;
    }
    let verdict = |status, reason: Reason, message: String| {
        Some(Verdict::new(VendingReady, status, reason, message))
    };
    if REFUSED.contains(&step.reason()) {
        return Some(not_reached(VendingReady, step));
    }
    if let GuardState::Missing { .. } = guard {
        let message = "nothing is vended; IsolationReady says why".to_owned();
        return verdict(False, Reason::GuardMissing, message);
    }
    let found = probes(hub, provider);
    if let Some((reason, message)) = told(&found) {
        return verdict(False, reason, message);
    }
    let tried: BTreeSet<&str> = found.iter().map(|probe| probe.name.as_str()).collect();
    let untried: Vec<&str> = granting.difference(&tried).copied().collect();
    // What keeps the hub from having a bucket keeps it from being tried, too.
    if !untried.is_empty() && *step != Step::Done {
        return Some(not_reached(VendingReady, step));
    }
    if !untried.is_empty() {
        let message = format!("not tried yet: {}", untried.join(", "));
        return verdict(Unknown, Reason::ProbePending, message);
    }
    let tried: Vec<&str> = tried.into_iter().collect();
    let message = format!("credentials are issued for {}", tried.join(", "));
    verdict(True, Reason::Applied, message)
}

/// What keeps users from credentials: the first reason, and whatever was found for it, each with its buckets.
fn told(found: &[&BucketVending]) -> Option<(Reason, String)> {
    let mut troubles: BTreeMap<(Reason, String), Vec<&str>> = BTreeMap::new();
    for probe in found {
        if let Some(trouble) = trouble(probe) {
            troubles.entry(trouble).or_default().push(&probe.name);
        }
    }
    let (first, _) = troubles.first_key_value()?;
    let reason = first.0;
    let words: Vec<String> = troubles
        .iter()
        .map(|((_, message), buckets)| format!("{}: {message}", buckets.join(", ")))
        .collect();
    Some((reason, words.join("; ")))
}

/// What one try found that keeps users from credentials.
fn trouble(probe: &BucketVending) -> Option<(Reason, String)> {
    let reason = probe.reason.as_deref().map(Reason::from_str);
    let reason = reason.map(|known| known.unwrap_or(Reason::ProbeInconclusive));
    match (probe.verdict, reason) {
        (IsolationVerdict::Leaks, _) => {
            let message = "nothing is vended; IsolationReady of the HubStorage says why".to_owned();
            Some((Reason::ProbeLeaks, message))
        }
        (IsolationVerdict::Unknown, reason) => {
            let reason = reason.unwrap_or(Reason::ProbeInconclusive);
            Some((reason, format!("nothing is vended; {}", probe.message)))
        }
        (IsolationVerdict::Isolated, Some(reason)) => {
            let message = format!(
                "no new credentials are issued, and those that were are good until their end; {}",
                probe.message
            );
            Some((reason, message))
        }
        (IsolationVerdict::Isolated, None) => None,
    }
}

/// Whether the broker issues for this hub at all. Whether its namespace may use the provider, its status tells.
fn counts(hub: &HubStorage) -> bool {
    let conditions = hub.status.as_ref().map_or(&[][..], |s| &s.conditions);
    let stalled = condition(conditions, ConditionType::Stalled);
    let is_refused = stalled.is_some_and(|stalled| {
        let refused = REFUSED.iter().map(Reason::to_string);
        stalled.status == "True" && refused.into_iter().any(|reason| reason == stalled.reason)
    });
    hub.metadata.deletion_timestamp.is_none() && !is_refused
}

/// Of a provider: what was found for any of its hubs. Nothing where it vends nothing.
pub fn of_provider(provider: &StorageProvider, hubs: &Store<HubStorage>) -> Option<Verdict> {
    if !provider.vends() {
        return None;
    }
    let name = provider.name_any();
    let hubs = hubs.state_filter(|hub| hub.spec.provider_ref.name == name && counts(hub));
    let found = hubs.iter().flat_map(|hub| {
        let probes = probes(hub, provider).into_iter();
        probes.map(move |probe| (hub, probe))
    });
    let found: Vec<_> = found.collect();
    let troubles: BTreeSet<(Reason, String)> = found
        .iter()
        .filter_map(|(hub, probe)| {
            let (reason, message) = trouble(probe)?;
            let namespace = hub.namespace().unwrap_or_default();
            let of = format!("HubStorage {namespace}/{}: ", hub.name_any());
            Some((reason, of + &message))
        })
        .collect();
    // One that stands is told for as long as it is true of any hub: status is not rewritten with every hub
    // that meets the same trouble.
    let conditions = provider.status.as_ref().map_or(&[][..], |s| &s.conditions);
    let stands = condition(conditions, VendingReady).and_then(|before| {
        let mut troubles = troubles.iter();
        troubles.find(|(reason, message)| {
            (reason.to_string().as_str(), message) == (&before.reason, &before.message)
        })
    });
    Some(match stands.or(troubles.first()) {
        Some((reason, message)) => Verdict::new(VendingReady, False, *reason, message),
        None if found.is_empty() => {
            let message = "no HubStorage uses it yet for which it was tried";
            Verdict::new(VendingReady, Unknown, Reason::ProbePending, message)
        }
        None => {
            let message = "sessions are issued with the vending identity";
            Verdict::new(VendingReady, True, Reason::Applied, message)
        }
    })
}
