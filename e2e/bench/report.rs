//! The table, printed and kept in `docs/benchmarks.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result};
use hubstorage_e2e::Extent;
use hubstorage_e2e::Platform;
use hubstorage_e2e::checkout::Checkout;
use hubstorage_e2e::components::{minio, operator};
use kube::Client;

use super::Options;
use super::observe::Memory;
use crate::page::{Part, today};

/// Where the table stands.
const PART: Part = Part {
    page: "docs/benchmarks.md",
    begin: "<!-- begin: many hubs -->",
    end: "<!-- end: many hubs -->",
};

type OfProcesses = Vec<(&'static str, Memory)>;

/// What was measured.
pub struct Measured {
    /// From the first namespace until every hub was Ready.
    pub created: Duration,
    /// Memory of the processes that saw everything come.
    pub grown: OfProcesses,
    /// Writes from the restart until every hub was checked and nothing more was written.
    pub restart_writes: BTreeMap<String, u64>,
    /// Memory at that time.
    pub restarted: OfProcesses,
    /// From the restart until every hub was checked.
    pub looked: Duration,
    /// New hubs: the time until Ready.
    pub ready: Vec<Duration>,
    /// The same, begun when the checks of all other hubs were due.
    pub ready_when_due: Vec<Duration>,
    /// How many of those were still due when the new hub was Ready.
    pub still_due: Vec<usize>,
    /// Memory at the end.
    pub after: OfProcesses,
}

/// The report of one run.
pub struct Report {
    where_: String,
    options: Options,
    measured: Measured,
}

impl Report {
    /// What was measured, where and with what.
    pub async fn of(
        platform: &Platform,
        client: &Client,
        options: Options,
        measured: Measured,
    ) -> Result<Self> {
        let kubernetes = client.apiserver_version().await?.git_version;
        let cores = std::thread::available_parallelism()?;
        let profile = operator::profile(Extent::of(&platform.checkout).context("the extent")?);
        let where_ = format!(
            "{}, {cores} cores shared with Kubernetes {kubernetes} and MinIO {}; the operator as host processes, \
             built as {profile}. {} HubStorages with two buckets each, {} pods of as many users, a check every minute.",
            today(),
            minio::version(),
            options.hubs,
            options.pods,
        );
        Ok(Self {
            where_,
            options,
            measured,
        })
    }

    /// Budgets beside what was measured, as Markdown.
    pub fn table(&self) -> String {
        let measured = &self.measured;
        let hubs = self.options.hubs;
        let mut rows = vec![
            (
                "controller, resident at rest, after a restart".to_owned(),
                "≤ 32 MiB",
                of(&measured.restarted, "controller", |memory| memory.resident),
            ),
            (
                "controller, peak since that restart, first lists included".to_owned(),
                "≤ 48 MiB",
                of(&measured.after, "controller", |memory| memory.peak),
            ),
            (
                "controller, resident at rest, having seen everything come".to_owned(),
                "≤ 32 MiB",
                of(&measured.grown, "controller", |memory| memory.resident),
            ),
            (
                "controller, peak while everything came".to_owned(),
                "≤ 48 MiB",
                of(&measured.grown, "controller", |memory| memory.peak),
            ),
            (
                "serve, resident at rest".to_owned(),
                "",
                of(&measured.after, "serve-1", |memory| memory.resident),
            ),
            (
                "serve, peak".to_owned(),
                "",
                of(&measured.after, "serve-1", |memory| memory.peak),
            ),
            (
                format!("restart, until all {hubs} hubs were checked: writes"),
                "0",
                writes(&measured.restart_writes),
            ),
            (
                format!("restart, until all {hubs} hubs were checked: time"),
                "one interval",
                seconds(measured.looked),
            ),
            (
                "new HubStorage to Ready, median of 5".to_owned(),
                "≤ 2 s",
                median(&measured.ready),
            ),
            (
                format!("the same while {hubs} checks are due"),
                "≤ 2 s",
                median(&measured.ready_when_due),
            ),
            (
                "… of which still due when it was Ready, median".to_owned(),
                "",
                middle(&measured.still_due).to_string(),
            ),
            (
                format!("{hubs} hubs from nothing to Ready"),
                "",
                format!("{}, to within 5 s", seconds(measured.created)),
            ),
        ];
        let mut table = format!(
            "{}\n\n| what | budget | measured |\n|---|---|---|\n",
            self.where_
        );
        for (what, budget, measured) in rows.drain(..) {
            _ = writeln!(table, "| {what} | {budget} | {measured} |");
        }
        table
    }

    /// Puts the table into the page, in place of the last one.
    pub fn write(&self, checkout: &Checkout) -> Result<()> {
        PART.write(checkout, &self.table())
    }
}

fn of(processes: &OfProcesses, name: &str, field: impl Fn(&Memory) -> u64) -> String {
    let found = processes.iter().find(|(of, _)| *of == name);
    found.map_or_else(String::new, |(_, memory)| {
        let kib = field(memory);
        format!("{}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024)
    })
}

fn writes(writes: &BTreeMap<String, u64>) -> String {
    if writes.is_empty() {
        return "0".to_owned();
    }
    let each = writes.iter().map(|(what, count)| format!("{count} {what}"));
    each.collect::<Vec<_>>().join(", ")
}

fn median(times: &[Duration]) -> String {
    seconds(middle(times))
}

fn middle<T: Ord + Copy + Default>(of: &[T]) -> T {
    let mut sorted = of.to_vec();
    sorted.sort();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_told_one_by_one() {
        let counted = BTreeMap::from([("PATCH hubstorages/status".to_owned(), 2)]);
        assert_eq!(writes(&counted), "2 PATCH hubstorages/status");
        assert_eq!(writes(&BTreeMap::new()), "0");
    }

    #[test]
    fn memory_is_shown_in_mib() {
        let memory = Memory {
            resident: 30 * 1024 + 512,
            peak: 0,
        };
        let of_one = vec![("controller", memory)];
        assert_eq!(
            of(&of_one, "controller", |memory| memory.resident),
            "30.5 MiB"
        );
    }
}
