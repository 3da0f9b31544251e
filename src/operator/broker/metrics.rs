//! What the broker counts. Labels come from closed sets, or are names of hubs and their buckets.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BucketLabels {
    namespace: String,
    hub: String,
    bucket: String,
}

/// What the broker counts.
#[derive(Clone)]
pub struct Metrics {
    answers: Family<CodeLabel, Counter>,
    duration: Histogram,
    issued: Family<OutcomeLabel, Counter>,
    probes: Family<OutcomeLabel, Counter>,
    probed: Family<BucketLabels, Gauge<f64, AtomicU64>>,
    leader: Gauge,
}

impl Metrics {
    /// Registers everything under the prefix `hubstorage_broker`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            answers: Family::default(),
            // 0.25 ms (all from memory) to 2 s (more than any answer takes).
            duration: Histogram::new(exponential_buckets(0.000_25, 2.0, 14)),
            issued: Family::default(),
            probes: Family::default(),
            probed: Family::default(),
            leader: Gauge::default(),
        };
        let registry = registry.sub_registry_with_prefix("hubstorage_broker");
        registry.register(
            "answers",
            "Requests for credentials by outcome: Cached, New, or the code of the refusal",
            metrics.answers.clone(),
        );
        registry.register_with_unit(
            "answer_duration",
            "Time an answer took",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        registry.register(
            "issued",
            "Calls to stores for a credential, by outcome",
            metrics.issued.clone(),
        );
        registry.register(
            "probes",
            "Isolation probes by what they found",
            metrics.probes.clone(),
        );
        registry.register_with_unit(
            "last_probe_timestamp",
            "When a bucket was last probed, as Unix time",
            Unit::Seconds,
            metrics.probed.clone(),
        );
        registry.register(
            "probe_leader",
            "1 while this replica probes",
            metrics.leader.clone(),
        );
        metrics
    }

    pub(super) fn answered(&self, code: &'static str, took: Duration) {
        self.answers.get_or_create(&CodeLabel { code }).inc();
        self.duration.observe(took.as_secs_f64());
    }

    pub(super) fn issued(&self, succeeded: bool) {
        let outcome = if succeeded { "success" } else { "failure" };
        self.issued.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(super) fn probed(
        &self,
        namespace: &str,
        hub: &str,
        bucket: &str,
        outcome: &'static str,
        now: Timestamp,
    ) {
        self.probes.get_or_create(&OutcomeLabel { outcome }).inc();
        let labels = BucketLabels {
            namespace: namespace.into(),
            hub: hub.into(),
            bucket: bucket.into(),
        };
        self.probed
            .get_or_create(&labels)
            .set(now.as_duration().as_secs_f64());
    }

    pub(super) fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }
}
