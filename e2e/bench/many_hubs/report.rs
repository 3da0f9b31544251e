//! What many hubs' measurements say, beside their budgets.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::observe::{Memory, mebibytes};
use super::super::table::Table;
use super::Options;
use crate::page::Part;

/// Where the table stands.
pub const PART: Part = Part {
    page: "docs/performance.md",
    begin: "<!-- begin: many hubs -->",
    end: "<!-- end: many hubs -->",
};

/// The budgets.
const RESIDENT_MIB: u64 = 32;
const PEAK_MIB: u64 = 48;
const READY_WITHIN: Duration = Duration::from_secs(2);

type OfProcesses = Vec<(&'static str, Memory)>;

/// What of a process's memory, in KiB.
type Field = fn(&Memory) -> u64;

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

/// Budgets beside what was measured.
pub fn table(circumstances: String, options: Options, measured: &Measured) -> Table {
    let Options { hubs, pods } = options;
    let mut table = Table::new(format!(
        "{circumstances} {hubs} HubStorages with two buckets each, {pods} pods of as many users, a check every minute."
    ));
    let memories: [(&str, u64, &OfProcesses, Field); 4] = [
        (
            "controller, resident at rest, after a restart",
            RESIDENT_MIB,
            &measured.restarted,
            |memory| memory.resident,
        ),
        (
            "controller, peak since that restart, first lists included",
            PEAK_MIB,
            &measured.after,
            |memory| memory.peak,
        ),
        (
            "controller, resident at rest, having seen everything come",
            RESIDENT_MIB,
            &measured.grown,
            |memory| memory.resident,
        ),
        (
            "controller, peak while everything came",
            PEAK_MIB,
            &measured.grown,
            |memory| memory.peak,
        ),
    ];
    for (what, most, processes, field) in memories {
        let kib = of(processes, "controller", field);
        let is_kept = kib <= most * 1024;
        table.budget(what, format!("≤ {most} MiB"), mebibytes(kib), is_kept);
    }
    for (what, field) in [
        (
            "serve, resident at rest",
            (|memory| memory.resident) as Field,
        ),
        ("serve, peak", |memory| memory.peak),
    ] {
        table.row(what, mebibytes(of(&measured.after, "serve-1", field)));
    }
    table.budget(
        format!("restart, until all {hubs} hubs were checked: writes"),
        "0",
        writes(&measured.restart_writes),
        measured.restart_writes.is_empty(),
    );
    table.row(
        format!("restart, until all {hubs} hubs were checked: time"),
        format!(
            "{}; checks are spread over one interval",
            seconds(measured.looked)
        ),
    );
    for (what, times) in [
        (
            "new HubStorage to Ready, median of 5".to_owned(),
            &measured.ready,
        ),
        (
            format!("the same while {hubs} checks are due"),
            &measured.ready_when_due,
        ),
    ] {
        let median = middle(times);
        table.budget(what, "≤ 2 s", seconds(median), median <= READY_WITHIN);
    }
    table.row(
        "… of which still due when it was Ready, median",
        middle(&measured.still_due).to_string(),
    );
    table.row(
        format!("{hubs} hubs from nothing to Ready"),
        format!("{}, to within 5 s", seconds(measured.created)),
    );
    table
}

fn of(processes: &OfProcesses, name: &str, field: Field) -> u64 {
    let found = processes.iter().find(|(of, _)| *of == name);
    found.map_or(0, |(_, memory)| field(memory))
}

fn writes(writes: &BTreeMap<String, u64>) -> String {
    if writes.is_empty() {
        return "0".to_owned();
    }
    let each = writes.iter().map(|(what, count)| format!("{count} {what}"));
    each.collect::<Vec<_>>().join(", ")
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
}
