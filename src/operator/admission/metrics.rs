//! What the webhook counts.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// How a review ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Outcome {
    /// The pod was given what its hub declares.
    Injected,
    /// The pod was stamped and given nothing.
    StampedOnly,
    /// The pod is nobody's.
    NotAUser,
    /// The claim asks for another size now, if it is not there already.
    ClaimResized,
    /// The claim is let in as it is.
    ClaimKept,
    /// The review could not be read.
    Malformed,
    /// The webhook has just started.
    NotReady,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// Seconds. 99 of 100 reviews have to be answered within 0.3 ms, and the API server gives up after a
/// second.
const BOUNDS: [f64; 14] = [
    25e-6, 50e-6, 100e-6, 200e-6, 300e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 50e-3, 0.1, 0.5, 1.0,
];

/// What the webhook counts.
#[derive(Debug, Clone)]
pub struct Metrics {
    reviews: Family<Labels, Counter>,
    duration: Histogram,
    unreadable: Family<KindLabel, Gauge>,
}

impl Metrics {
    /// Shows them in `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            reviews: Family::default(),
            duration: Histogram::new(BOUNDS),
            unreadable: Family::default(),
        };
        let registry = registry.sub_registry_with_prefix("hubstorage_admission");
        registry.register(
            "reviews",
            "Pods and claims that the API server asked about, by what came of it",
            metrics.reviews.clone(),
        );
        registry.register_with_unit(
            "duration",
            "Time from a review that was read to its answer",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        registry.register(
            "unreadable_objects",
            "Objects that this version cannot read; the pods of their hubs are given nothing",
            metrics.unreadable.clone(),
        );
        metrics
    }

    pub(super) fn unreadable(&self, kind: &'static str, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.unreadable
            .get_or_create(&KindLabel { kind })
            .set(count);
    }

    pub(super) fn answered(&self, outcome: Outcome, took: Duration) {
        self.reviews.get_or_create(&Labels { outcome }).inc();
        if !matches!(outcome, Outcome::Malformed | Outcome::NotReady) {
            self.duration.observe(took.as_secs_f64());
        }
    }
}
