//! The tables: what was measured, beside its budget; printed and kept in `docs/performance.md`.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use hubstorage_e2e::components::{minio, operator};
use hubstorage_e2e::{Extent, Platform};
use kube::Client;

use crate::page::today;

/// One part's table.
pub struct Table {
    about: String,
    rows: Vec<Row>,
}

struct Row {
    what: String,
    budget: String,
    measured: String,
}

impl Table {
    /// An empty one, below a sentence on where and with what it was measured.
    pub fn new(about: String) -> Self {
        Self {
            about,
            rows: Vec::new(),
        }
    }

    /// Something that has no budget, and is there to understand the rest by.
    pub fn row(&mut self, what: impl Into<String>, measured: impl Into<String>) {
        self.rows.push(Row {
            what: what.into(),
            budget: String::new(),
            measured: measured.into(),
        });
    }

    /// Something that has a budget, and whether it is kept.
    pub fn budget(
        &mut self,
        what: impl Into<String>,
        budget: impl Into<String>,
        measured: impl Into<String>,
        is_kept: bool,
    ) {
        let mut measured = measured.into();
        if !is_kept {
            measured += ", **missed**";
        }
        self.rows.push(Row {
            what: what.into(),
            budget: budget.into(),
            measured,
        });
    }

    /// As Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "{}\n\n| what | budget | measured |\n|---|---|---|\n",
            self.about
        );
        for Row {
            what,
            budget,
            measured,
        } in &self.rows
        {
            _ = writeln!(text, "| {what} | {budget} | {measured} |");
        }
        text
    }
}

/// Day, machine, versions, how both sides were built, and how busy the machine was before.
pub async fn circumstances(platform: &Platform, client: &Client) -> Result<String> {
    let kubernetes = client.apiserver_version().await?.git_version;
    let cores = std::thread::available_parallelism()?;
    let profile = operator::profile(Extent::of(&platform.checkout).context("the extent")?);
    let harness = if cfg!(debug_assertions) {
        "; what sends the requests is **not optimised**, and slower than what it measures"
    } else {
        ""
    };
    Ok(format!(
        "{}, {cores} cores shared with Kubernetes {kubernetes}, MinIO {} and what sends the requests; the operator as \
         host processes, built as {profile}{harness}. Load average before it began: {}.",
        today(),
        minio::version(),
        load_average()?,
    ))
}

/// Of the last minute (proc_loadavg(5)).
fn load_average() -> Result<String> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    let first = text.split_whitespace().next();
    Ok(first.context("/proc/loadavg is empty")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_that_is_missed_says_so() {
        let mut table = Table::new("Here.".to_owned());
        table.row("requests", "100");
        table.budget("rate", "≥ 5", "6", true);
        table.budget("time", "≤ 1 s", "2 s", false);

        assert_eq!(
            table.markdown(),
            "Here.\n\n| what | budget | measured |\n|---|---|---|\n\
             | requests |  | 100 |\n| rate | ≥ 5 | 6 |\n| time | ≤ 1 s | 2 s, **missed** |\n"
        );
    }
}
