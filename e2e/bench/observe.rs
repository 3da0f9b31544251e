//! What is read of the processes, the API server and the store.

use std::collections::BTreeMap;
use std::time::Duration;

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

/// KiB, in MiB with one decimal.
pub fn mebibytes(kib: u64) -> String {
    format!("{}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024)
}

/// Processor time that a process has used so far, in its own code and for it in the kernel.
pub fn processor_time(pid: i32) -> Result<Duration> {
    parse_processor_time(&std::fs::read_to_string(format!("/proc/{pid}/stat"))?)
        .context("no times in /proc/PID/stat")
}

/// proc_pid_stat(5): the second field is the command in parentheses and may itself hold spaces and
/// parentheses; utime is field 14, stime field 15. Both in the kernel's USER_HZ, which is 100 on all
/// architectures that this runs on.
fn parse_processor_time(stat: &str) -> Option<Duration> {
    let (_, after_command) = stat.rsplit_once(") ")?;
    let mut fields = after_command.split(' ').skip(14 - 3);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis(10 * (user + system)))
}

/// A histogram of durations in a process's metrics: how many were within each bound.
pub struct Histogram(Vec<(Duration, u64)>);

impl Histogram {
    /// As a process of the operator shows it now.
    pub async fn of(platform: &Platform, component: &str, name: &str) -> Result<Self> {
        let url = format!("{}/metrics", platform.health_endpoint(component)?);
        Ok(Self::parse(&http::get(&url, None).await?, name))
    }

    fn parse(metrics: &str, name: &str) -> Self {
        let name = format!("{name}_bucket");
        let buckets = samples(metrics, &name).filter_map(|sample| {
            let bound: f64 = sample.labels.get("le")?.parse().ok()?;
            let bound = Duration::try_from_secs_f64(bound).unwrap_or(Duration::MAX);
            Some((bound, sample.count()))
        });
        Self(buckets.collect())
    }

    /// The bound within which so large a part of those were that came after `before`.
    pub fn bound(&self, before: &Self, part: f64) -> Option<Duration> {
        let come = |at: usize| {
            let was = before.0.get(at).map_or(0, |(_, count)| *count);
            let (bound, is) = self.0.get(at)?;
            Some((*bound, is.saturating_sub(was)))
        };
        let (_, all) = come(self.0.len().checked_sub(1)?)?;
        if all == 0 {
            return None;
        }
        #[allow(
            clippy::cast_precision_loss,
            reason = "counts of requests are far below 2^52"
        )]
        let is_within = |count: u64| count as f64 >= part * all as f64;
        (0..self.0.len())
            .filter_map(come)
            .find(|(_, count)| is_within(*count))
            .map(|(bound, _)| bound)
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
        assert_eq!(mebibytes(memory.resident + 512), "30.5 MiB");
    }

    #[test]
    fn processor_time_is_that_in_user_and_in_kernel_mode() {
        let fields = (4..=13).map(|field| field.to_string());
        let fields = fields.collect::<Vec<_>>().join(" ");
        let stat = format!("7 (a) b (c)) S {fields} 150 50 1 2 20");

        assert_eq!(parse_processor_time(&stat), Some(Duration::from_secs(2)));
    }

    #[test]
    fn of_a_histogram_counts_what_came_since() {
        let metrics = |counts: [u64; 3]| {
            let bounds = ["2.5e-5", "5e-5", "+Inf"];
            let lines = bounds.iter().zip(counts);
            let lines =
                lines.map(|(bound, count)| format!("took_bucket{{le=\"{bound}\"}} {count}\n"));
            Histogram::parse(&lines.collect::<String>(), "took")
        };
        let (before, after) = (metrics([0, 0, 50]), metrics([90, 99, 150]));

        let bound = |part| after.bound(&before, part);
        assert_eq!(bound(0.9), Some(Duration::from_micros(25)));
        assert_eq!(bound(0.99), Some(Duration::from_micros(50)));
        assert_eq!(bound(1.0), Some(Duration::MAX));
        assert_eq!(before.bound(&before, 0.99), None);
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
