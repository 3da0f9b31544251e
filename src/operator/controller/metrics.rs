//! What the controller counts. Labels come from closed sets: reasons, kinds, operations.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use hubstorage_core::api::Reason;
use hubstorage_core::plan::Deed;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::usage::HomeMetrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcileLabels {
    kind: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabels {
    action: &'static str,
    reason: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HubLabels {
    namespace: String,
    name: String,
}

/// What the controller counts.
#[derive(Clone)]
pub struct Metrics {
    reconciles: Family<ReconcileLabels, Counter>,
    duration: Family<KindLabel, Histogram>,
    actions: Family<ActionLabels, Counter>,
    checked: Family<HubLabels, Gauge<f64, AtomicU64>>,
    kubelets: Family<OutcomeLabel, Counter>,
    leader: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            reconciles: Family::default(),
            // 1 ms (nothing to do, all from memory) to 32 s (a store that hangs to its time-out).
            duration: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.001, 2.0, 16))
            }),
            actions: Family::default(),
            checked: Family::default(),
            kubelets: Family::default(),
            leader: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Registers everything under the prefix `hubstorage_controller`.
    pub fn register(&self, homes: HomeMetrics, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("hubstorage_controller");
        registry.register_collector(Box::new(homes));
        registry.register(
            "reconciles",
            "Reconciles by kind and resulting reason",
            self.reconciles.clone(),
        );
        registry.register_with_unit(
            "reconcile_duration",
            "Time a reconcile took",
            Unit::Seconds,
            self.duration.clone(),
        );
        registry.register(
            "actions",
            "Changes to a store by what was done, why (DriftCorrected: somebody had changed it) and outcome",
            self.actions.clone(),
        );
        registry.register_with_unit(
            "last_check_timestamp",
            "When a hub was last compared with its store, as Unix time",
            Unit::Seconds,
            self.checked.clone(),
        );
        registry.register(
            "kubelet_requests",
            "Kubelets that were asked how full homes are, by outcome",
            self.kubelets.clone(),
        );
        registry.register("leader", "1 while this replica leads", self.leader.clone());
    }

    /// A reconcile ended.
    pub fn reconciled(&self, kind: &'static str, reason: Reason, took: Duration) {
        let reason = reason.into();
        self.reconciles
            .get_or_create(&ReconcileLabels { kind, reason })
            .inc();
        self.duration
            .get_or_create(&KindLabel { kind })
            .observe(took.as_secs_f64());
    }

    /// An action was tried.
    pub fn action(&self, action: &impl Deed, succeeded: bool) {
        self.count(action.verb(), action.reason(), succeeded);
    }

    /// A bucket was deleted with its hub.
    pub fn deleted(&self) {
        self.count("DeleteBucket", Reason::BucketDeleted, true);
    }

    /// A kubelet was asked how full homes are.
    pub fn kubelet(&self, succeeded: bool) {
        let outcome = outcome(succeeded);
        self.kubelets.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    fn count(&self, action: &'static str, reason: Reason, succeeded: bool) {
        let outcome = outcome(succeeded);
        let reason = reason.into();
        let labels = ActionLabels {
            action,
            reason,
            outcome,
        };
        self.actions.get_or_create(&labels).inc();
    }

    /// A hub was compared with its store.
    pub fn checked(&self, namespace: &str, name: &str, at: jiff::Timestamp) {
        let labels = HubLabels {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        #[allow(
            clippy::cast_precision_loss,
            reason = "Unix seconds fit into a double until the year 285 million"
        )]
        self.checked
            .get_or_create(&labels)
            .set(at.as_second() as f64);
    }

    /// A hub is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.checked.remove(&HubLabels {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        });
    }

    /// Whether this replica leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }
}

fn outcome(succeeded: bool) -> &'static str {
    if succeeded { "success" } else { "failure" }
}
