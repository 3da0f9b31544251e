//! Which parts of the installation run, as their own objects in the cluster say: the Service of
//! `hubstorage serve`, and the DaemonSet of the agents.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use hubstorage_core::api::{AGENTS_NAMESPACE, SYSTEM_NAMESPACE};
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::informer::Informer;
use crate::manifests::{AGENTS, SERVE_SERVICE};
use crate::pulse::{Cadence, Pulses};

/// What has come or gone is told when it has lasted for so long: a node that joins has its agent
/// within seconds, an agent that is replaced is away for one, and each change is a write to every
/// hub.
const SETTLING: Duration = Duration::from_secs(15);

/// Which parts run. The default: all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parts {
    /// Whether the Service of `hubstorage serve` has no endpoint that is ready. Says nothing where
    /// the webhook is not called at that Service.
    pub serve_is_gone: bool,
    /// What is wrong with the agents; nothing is where no DaemonSet of ours runs them.
    pub agents: Option<AgentsGap>,
}

/// What is wrong with the agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentsGap {
    /// They do not run on all nodes that they are for.
    Missing {
        /// Nodes with an agent that is available.
        on: i32,
        /// Nodes that should have one.
        of: i32,
    },
    /// The DaemonSet selects no node.
    NoNode,
    /// Nobody has looked at the DaemonSet as it is now.
    Unobserved,
    /// The parts could not be watched yet.
    Unwatched,
}

impl Parts {
    fn of(slices: &[Arc<EndpointSlice>], agents: Option<&DaemonSet>) -> Self {
        let mut endpoints = slices
            .iter()
            .flat_map(|slice| slice.endpoints.iter().flatten());
        Self {
            // Unknown is to be taken for ready (`EndpointConditions`, discovery.k8s.io/v1).
            serve_is_gone: !endpoints.any(|endpoint| {
                let conditions = endpoint.conditions.as_ref();
                conditions.and_then(|known| known.ready).unwrap_or(true)
            }),
            agents: agents.and_then(AgentsGap::of),
        }
    }
}

impl AgentsGap {
    fn of(agents: &DaemonSet) -> Option<Self> {
        let observed = agents.status.as_ref();
        let is_current =
            |status: &&DaemonSetStatus| status.observed_generation >= agents.metadata.generation;
        let Some(status) = observed.filter(is_current) else {
            return Some(Self::Unobserved);
        };
        let (on, of) = (
            status.number_available.unwrap_or_default(),
            status.desired_number_scheduled,
        );
        match of {
            0 => Some(Self::NoNode),
            _ if on < of => Some(Self::Missing { on, of }),
            _ => None,
        }
    }
}

/// Follows the parts until `stop`. Before the first look, they are [`AgentsGap::Unwatched`].
///
/// Needs list and watch on EndpointSlices in `hubstorage-system`, and on the one DaemonSet in
/// `hubstorage-agents`.
pub fn watch(
    client: &Client,
    cadence: &Cadence,
    pulses: &Pulses,
    stop: CancellationToken,
) -> watch::Receiver<Parts> {
    let slices = Informer::within(client, SYSTEM_NAMESPACE, cadence, pulses)
        .labelled(&format!("kubernetes.io/service-name={SERVE_SERVICE}"));
    // RBAC allows the watch for this name only.
    let agents = Informer::within(client, AGENTS_NAMESPACE, cadence, pulses).named(AGENTS);
    let (sender, receiver) = watch::channel(Parts {
        serve_is_gone: false,
        agents: Some(AgentsGap::Unwatched),
    });
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = follow(slices, agents, sender) => {}
        }
    });
    receiver
}

async fn follow(
    slices: Informer<EndpointSlice>,
    agents: Informer<DaemonSet>,
    state: watch::Sender<Parts>,
) {
    let (slices, slice_changes) = slices.reflected();
    let (agents, agent_changes) = agents.reflected();
    let mut changes = std::pin::pin!(futures::stream::select(
        slice_changes.map(drop),
        agent_changes.map(drop),
    ));
    let both = async {
        _ = slices.wait_until_ready().await;
        _ = agents.wait_until_ready().await;
    };
    tokio::select! {
        () = both => {}
        () = changes.by_ref().for_each(async |()| {}) => return,
    }
    let look = || Parts::of(&slices.state(), agents.state().first().map(AsRef::as_ref));
    let mut settled = Settled::at(look());
    loop {
        state.send_if_modified(|before| {
            let changed = *before != settled.told;
            if changed {
                tracing::info!(parts = ?settled.told, "parts of the installation");
                *before = settled.told;
            }
            changed
        });
        let due = settled.due();
        let settling = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            change = changes.next() => if change.is_none() { return },
            () = settling => {}
        }
        settled.see(look(), Instant::now());
    }
}

/// What is told, which follows what is seen when that has lasted.
struct Settled {
    told: Parts,
    /// Since when what is seen is not what is told.
    differs_since: Option<Instant>,
}

impl Settled {
    /// The first look is told at once: a restart must not take back what was told before.
    fn at(told: Parts) -> Self {
        Self {
            told,
            differs_since: None,
        }
    }

    fn see(&mut self, seen: Parts, now: Instant) {
        if seen == self.told {
            self.differs_since = None;
            return;
        }
        // From the first difference on, not from the last: numbers that keep changing are told too.
        let since = *self.differs_since.get_or_insert(now);
        if now >= since + SETTLING {
            *self = Self::at(seen);
        }
    }

    /// When to look again although nothing changes.
    fn due(&self) -> Option<Instant> {
        self.differs_since.map(|since| since + SETTLING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn slices(ready: &[Value]) -> Vec<Arc<EndpointSlice>> {
        let slice = |ready: &Value| {
            let slice = json!({
                "addressType": "IPv4",
                "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}],
            });
            Arc::new(serde_json::from_value(slice).unwrap())
        };
        ready.iter().map(slice).collect()
    }

    fn agents(status: Value) -> DaemonSet {
        serde_json::from_value(json!({"metadata": {"generation": 2}, "status": status})).unwrap()
    }

    fn gap(observed: i64, available: i32, desired: i32) -> Option<AgentsGap> {
        let status = json!({
            "observedGeneration": observed, "numberAvailable": available,
            "desiredNumberScheduled": desired, "currentNumberScheduled": desired,
            "numberReady": available, "numberMisscheduled": 0,
        });
        Parts::of(&[], Some(&agents(status))).agents
    }

    #[test]
    fn serve_is_there_while_one_endpoint_is_ready() {
        for (ready, is_gone) in [
            (vec![], true),
            (vec![json!(false), json!(false)], true),
            (vec![json!(false), json!(true)], false),
            (vec![Value::Null], false),
        ] {
            let parts = Parts::of(&slices(&ready), None);
            assert_eq!(parts.serve_is_gone, is_gone, "{ready:?}");
        }
    }

    #[test]
    fn agents_that_no_daemon_set_of_ours_runs_are_not_spoken_of() {
        assert_eq!(Parts::of(&[], None).agents, None);
    }

    #[test]
    fn agents_on_all_their_nodes_leave_no_gap() {
        assert_eq!(gap(2, 3, 3), None);
    }

    #[test]
    fn a_node_without_an_agent_is_a_gap() {
        assert_eq!(gap(2, 2, 3), Some(AgentsGap::Missing { on: 2, of: 3 }));
        assert_eq!(gap(2, 0, 0), Some(AgentsGap::NoNode));
    }

    #[test]
    fn a_status_of_an_older_spec_is_not_believed() {
        assert_eq!(gap(1, 3, 3), Some(AgentsGap::Unobserved));
        let without = Parts::of(&[], Some(&agents(Value::Null)));
        assert_eq!(without.agents, Some(AgentsGap::Unobserved));
    }

    const GONE: Parts = Parts {
        serve_is_gone: true,
        agents: None,
    };

    #[test]
    fn what_lasts_is_told_when_it_has_lasted() {
        let start = Instant::now();
        let mut settled = Settled::at(Parts::default());
        settled.see(GONE, start);
        assert_eq!(settled.told, Parts::default());
        assert_eq!(settled.due(), Some(start + SETTLING));
        settled.see(GONE, start + SETTLING);
        assert_eq!(settled.told, GONE);
        assert_eq!(settled.due(), None);
    }

    #[test]
    fn what_passes_is_never_told() {
        let start = Instant::now();
        let mut settled = Settled::at(Parts::default());
        for second in [0, 10, 20, 30, 40] {
            let seen = match second % 20 {
                0 => GONE,
                _ => Parts::default(),
            };
            settled.see(seen, start + Duration::from_secs(second));
            assert_eq!(settled.told, Parts::default());
        }
    }

    #[test]
    fn what_keeps_changing_is_told_as_it_is_when_it_has_lasted() {
        let start = Instant::now();
        let mut settled = Settled::at(Parts::default());
        let missing = |on| Parts {
            agents: Some(AgentsGap::Missing { on, of: 9 }),
            ..Parts::default()
        };
        for second in 0..=15 {
            let on = i32::try_from(second % 9).unwrap();
            settled.see(missing(on), start + Duration::from_secs(second));
        }
        assert_eq!(settled.told, missing(6));
    }
}
