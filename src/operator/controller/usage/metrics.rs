//! How full homes are, as metrics: those of which a node has told lately.

use std::fmt;
use std::sync::Arc;

use hubstorage_core::homes::VolumeUsage;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::Usage;

/// Reads what is in memory when somebody asks: thousands of homes have no second place there.
pub struct HomeMetrics(pub Arc<Usage>);

impl fmt::Debug for HomeMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HomeMetrics")
    }
}

type Figure = fn(&VolumeUsage) -> u64;

impl Collector for HomeMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let figures: [(&str, &str, Figure); 2] = [
            ("home_used", "Used by a mounted home", VolumeUsage::used),
            (
                "home_capacity",
                "Size of the file system of a mounted home",
                VolumeUsage::capacity,
            ),
        ];
        let known = self.0.locked();
        for (name, help, figure) in figures {
            let mut metric =
                encoder.encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Gauge)?;
            for (namespace, claim, usage) in known.measurements.claims() {
                let labels = [("namespace", namespace), ("claim", claim)];
                let family = metric.encode_family(&labels)?;
                let bytes = i64::try_from(figure(usage)).unwrap_or(i64::MAX);
                ConstGauge::new(bytes).encode(family)?;
            }
        }
        Ok(())
    }
}
