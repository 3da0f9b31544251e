//! What is read of the processes, the API server and the store.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use hubstorage_e2e::commands::printed;
use hubstorage_e2e::{MinioUser, Platform, http};
use kube::Client;

/// Resident memory of a process, in KiB.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Now.
    pub resident: u64,
    /// The most it ever had.
    pub peak: u64,
}

impl Memory {
    /// Of the process with this id.
    pub fn of(pid: i32) -> Result<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/status"))?)
    }

    fn parse(status: &str) -> Result<Self> {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            number
                .and_then(|number| number.parse().ok())
                .with_context(|| format!("no {name} in /proc/PID/status"))
        };
        Ok(Self {
            resident: field("VmRSS:")?,
            peak: field("VmHWM:")?,
        })
    }
}

/// What was written to the API server so far, by resource. Leases are left out, since they are
/// renewed by design, and so are reviews, which write nothing.
pub async fn api_server_writes(client: &Client) -> Result<BTreeMap<String, u64>> {
    let request = ::http::Request::get("/metrics").body(Vec::new())?;
    let metrics = client.request_text(request).await?;
    let mut writes = BTreeMap::new();
    for sample in samples(&metrics, "apiserver_request_total") {
        let label = |name: &str| sample.labels.get(name).copied().unwrap_or_default();
        let is_read = ["GET", "LIST", "WATCH", "CONNECT"].contains(&label("verb"));
        let is_review = ["authentication.k8s.io", "authorization.k8s.io"].contains(&label("group"));
        if is_read || is_review || label("resource") == "leases" || !label("code").starts_with('2')
        {
            continue;
        }
        let mut what = format!("{} {}", label("verb"), label("resource"));
        if !label("subresource").is_empty() {
            what = format!("{what}/{}", label("subresource"));
        }
        *writes.entry(what).or_default() += sample.count();
    }
    Ok(writes)
}

/// What was written to the store so far, by call: those that it took.
pub async fn store_writes(platform: &Platform) -> Result<BTreeMap<String, u64>> {
    let key = platform.minio_key(MinioUser::Root)?;
    let ask = ["admin", "prometheus", "metrics", "local", "cluster"];
    let output = platform.mc(&key, None, &ask).await?;
    let metrics = printed(&output, "mc admin prometheus metrics")?;
    let mut writes: BTreeMap<String, u64> = BTreeMap::new();
    let is_write = |api: &str| {
        ["put", "delete", "make", "copy", "create", "complete"]
            .iter()
            .any(|verb| api.starts_with(verb))
    };
    for sample in samples(&metrics, "minio_s3_requests_total") {
        if let Some(api) = sample.labels.get("api").filter(|api| is_write(api)) {
            *writes.entry(format!("store: {api}")).or_default() += sample.count();
        }
    }
    for refused in [
        "minio_s3_requests_4xx_errors_total",
        "minio_s3_requests_5xx_errors_total",
    ] {
        for sample in samples(&metrics, refused) {
            let api = sample.labels.get("api").copied().unwrap_or_default();
            if let Some(count) = writes.get_mut(&format!("store: {api}")) {
                *count = count.saturating_sub(sample.count());
            }
        }
    }
    Ok(writes)
}

/// When the controller compared each hub with the store, by the metrics of the process that runs
/// now: namespace and Unix time.
pub async fn checks(platform: &Platform) -> Result<Vec<(String, u64)>> {
    let url = format!("{}/metrics", platform.health_endpoint("controller")?);
    let metrics = http::get(&url, None).await?;
    let name = "hubstorage_controller_last_check_timestamp_seconds";
    Ok(samples(&metrics, name)
        .filter_map(|sample| {
            let namespace = sample.labels.get("namespace")?;
            namespace
                .starts_with("e2e-bench-")
                .then(|| ((*namespace).to_owned(), sample.count()))
        })
        .collect())
}

/// One line of metrics in Prometheus' text format.
struct Sample<'a> {
    labels: BTreeMap<&'a str, &'a str>,
    value: f64,
}

impl Sample<'_> {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counters and Unix times are whole, positive and small"
    )]
    fn count(&self) -> u64 {
        self.value as u64
    }
}

/// The samples of one metric. Values of labels that hold a comma or a quote are not needed here.
fn samples<'a>(metrics: &'a str, name: &'a str) -> impl Iterator<Item = Sample<'a>> {
    metrics.lines().filter_map(move |line| {
        let (labels, value) = line
            .strip_prefix(name)?
            .strip_prefix('{')?
            .split_once('}')?;
        let labels = labels.split(',').filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            Some((name, value.trim_matches('"')))
        });
        Some(Sample {
            labels: labels.collect(),
            value: value.trim().parse().ok()?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_kib() {
        let status = "Name:\thubstorage\nVmHWM:\t   40960 kB\nVmRSS:\t   30720 kB\n";
        let memory = Memory::parse(status).unwrap();
        assert_eq!((memory.resident, memory.peak), (30720, 40960));
        assert!(Memory::parse("Name:\tzombie\n").is_err());
    }

    #[test]
    fn samples_are_those_of_the_one_metric() {
        let metrics = "# HELP calls Calls\ncalls{api=\"put\",code=\"200\"} 3\ncalls{api=\"get\"} 1e3\n\
                       calls_failed{api=\"put\"} 7\ncalls 9\n";
        let found: Vec<_> = samples(metrics, "calls")
            .map(|sample| (sample.labels["api"], sample.count()))
            .collect();
        assert_eq!(found, [("put", 3), ("get", 1000)]);
    }
}
