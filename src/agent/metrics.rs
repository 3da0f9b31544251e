//! What the agent counts.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds in seconds; the last is the limit of the SDKs' patience.
const LATENCIES: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.6, 2.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// All metrics, registered.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<OutcomeLabel, Counter>,
    latency: Histogram,
    /// Connections of SDKs that are open.
    pub(crate) connections: Gauge,
    /// Connections of SDKs that found no room.
    pub(crate) dropped: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("hubstorage_agent");
        let requests = Family::default();
        let latency = Histogram::new(LATENCIES);
        let connections = Gauge::default();
        let dropped = Counter::default();
        registry.register(
            "requests",
            "Requests for credentials by outcome: Vended, BrokerRefused (4xx), BrokerFailed (5xx), or the code of the agent's own refusal",
            Clone::clone(&requests),
        );
        registry.register(
            "request_duration_seconds",
            "Time from a request that may be forwarded to its answer",
            latency.clone(),
        );
        registry.register(
            "connections",
            "Open connections of SDKs",
            connections.clone(),
        );
        registry.register(
            "connections_dropped",
            "Connections closed at once because the peer or the agent had too many",
            dropped.clone(),
        );
        Self {
            registry,
            requests,
            latency,
            connections,
            dropped,
        }
    }

    /// One request came to its end.
    pub(crate) fn count(&self, outcome: &'static str) {
        self.requests.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// One forwarded request took so long.
    pub(crate) fn time(&self, latency: Duration) {
        self.latency.observe(latency.as_secs_f64());
    }

    /// OpenMetrics text, which Prometheus reads.
    pub(crate) fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
