//! What a process begins with, when all watches have listed what there is. Pure, but for chance.

use std::sync::Arc;
use std::time::Duration;

use hubstorage_core::api::HubStorage;
use kube::Resource;
use kube::runtime::reflector::ObjectRef;

use super::backoff::spread;
use super::hub;
use super::queue::Ask;
use super::runner::Awaited;

/// What is asked for at once, and what is due later.
pub struct Start<K: Resource<DynamicType = ()> + 'static> {
    /// In this order.
    pub at_once: Vec<(ObjectRef<K>, Ask)>,
    /// Checks, with the time until then.
    pub later: Vec<(ObjectRef<K>, Duration)>,
}

/// Everything is compared with the world at once, what somebody waits for first.
pub fn at_once<K>(objects: &[Arc<K>]) -> Start<K>
where
    K: Resource<DynamicType = ()> + Awaited,
{
    let ask = |object: &K| match object.is_awaited() {
        true => Ask::Change,
        false => Ask::Check,
    };
    Start {
        at_once: objects
            .iter()
            .map(|object| (ObjectRef::from_obj(object.as_ref()), ask(object)))
            .collect(),
        later: Vec::new(),
    }
}

/// The same, but that a hub that was in order is told anew from memory, and compared with its store
/// at any time within its `interval`: a restart neither asks a store for everything at once, nor lets
/// drift go unnoticed for longer than usual.
pub fn spread_out(
    hubs: &[Arc<HubStorage>],
    interval: impl Fn(&HubStorage) -> Option<Duration>,
) -> Start<HubStorage> {
    let mut start = at_once(hubs);
    for (hub, (key, ask)) in hubs.iter().zip(&mut start.at_once) {
        if let Some(interval) = interval(hub).filter(|_| hub::is_in_order(hub)) {
            *ask = Ask::News;
            start.later.push((key.clone(), spread(interval)));
        }
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const INTERVAL: Duration = Duration::from_secs(600);

    fn hub(name: &str, metadata: Value, status: Value) -> Arc<HubStorage> {
        let mut hub = json!({
            "apiVersion": "hubstorage.io/v1alpha1", "kind": "HubStorage",
            "metadata": {"name": name, "namespace": name, "generation": 2},
            "spec": {"providerRef": {"name": "store"}, "buckets": [{"name": "scratch"}]},
            "status": status,
        });
        json_patch::merge(&mut hub["metadata"], &metadata);
        Arc::new(serde_json::from_value(hub).unwrap())
    }

    fn status(observed: i64, buckets: &str) -> Value {
        let condition = |type_, status| {
            json!({
                "type": type_, "status": status, "reason": "Applied", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            })
        };
        json!({
            "observedGeneration": observed,
            "conditions": [condition("BucketsReady", buckets), condition("LifecycleApplied", "True")],
        })
    }

    /// What is asked for at once, and how many checks are later.
    fn asked(hub: Arc<HubStorage>, interval: Option<Duration>) -> (Ask, usize) {
        let start = spread_out(&[hub], |_| interval);
        (start.at_once[0].1, start.later.len())
    }

    #[test]
    fn a_hub_that_somebody_waits_for_goes_at_once() {
        let deleted = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        for hub in [
            hub("new", json!({}), json!(null)),
            hub("edited", json!({}), status(1, "True")),
            hub("deleted", deleted, status(2, "True")),
        ] {
            assert_eq!(
                asked(hub.clone(), Some(INTERVAL)),
                (Ask::Change, 0),
                "{hub:?}"
            );
        }
    }

    #[test]
    fn a_hub_that_was_not_in_order_is_checked_at_once() {
        for buckets in ["False", "Unknown"] {
            let hub = hub("earth", json!({}), status(2, buckets));
            assert_eq!(asked(hub, Some(INTERVAL)), (Ask::Check, 0), "{buckets}");
        }
        let hub = hub("without a provider", json!({}), status(2, "True"));
        assert_eq!(asked(hub, None), (Ask::Check, 0));
    }

    #[test]
    fn hubs_that_were_in_order_are_told_at_once_and_checked_all_over_one_interval() {
        let hubs: Vec<_> = (0..500)
            .map(|number| hub(&format!("hub-{number}"), json!({}), status(2, "True")))
            .collect();
        let start = spread_out(&hubs, |_| Some(INTERVAL));

        assert!(start.at_once.iter().all(|(_, ask)| *ask == Ask::News));
        assert_eq!(start.later.len(), hubs.len());
        for tenth in 0..10 {
            let from = INTERVAL * tenth / 10;
            let within = from..from + INTERVAL / 10;
            let due = start.later.iter().filter(|(_, due)| within.contains(due));
            // 50 on average; that it is none has a chance of 10⁻²³.
            assert!(due.count() > 0, "{within:?}");
        }
    }
}
