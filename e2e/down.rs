//! `e2e down`: stops exactly what was started, the last first, and forgets it.

use std::cmp::Reverse;

use anyhow::{Context, Result, bail};

use crate::checkout::Checkout;
use crate::component::GRACE;
use crate::components::{self, node};
use crate::extent::Extent;
use crate::process::{self, Record};
use crate::progress::Progress;
use crate::up;

/// Stops the platform of this checkout. Logs stay.
pub async fn down(checkout: &Checkout) -> Result<()> {
    if !checkout.run("").exists() {
        eprintln!("nothing to stop");
        return Ok(());
    }
    let progress = Progress::default();
    let _lock = up::lock(checkout, &progress).await?;
    let stopped = take_down(checkout, &progress).await?;
    eprintln!("{stopped} processes stopped; logs stay in .run/logs");
    Ok(())
}

/// Does the work, for somebody who holds the lock. Returns how many processes it ended.
pub async fn take_down(checkout: &Checkout, progress: &Progress) -> Result<usize> {
    let mut failures = Vec::new();
    // A test has a platform of its own in this one's folder, and may have been killed.
    for beside in checkout.all_beside()? {
        if let Err(error) = take_down_beside(checkout, &beside, progress).await {
            failures.push(format!("{}: {error:#}", beside.root().display()));
        }
    }
    let running = stop_processes(checkout, progress).await?;
    let extent = Extent::of(checkout);
    let table = extent.map(components::table).unwrap_or_default();
    // Of a node that was never begun, as another checkout has one, there is nothing to clean up.
    let is_ours = extent != Some(Extent::Node) || node::is_claimed_by(checkout);
    for component in table.iter().rev().filter(|_| is_ours) {
        if let Err(error) = component.clean_up(checkout).await {
            failures.push(format!("cleaning up after {}: {error:#}", component.name()));
        }
    }
    // What is known of the platform stays, so that the next `down` can try again.
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    up::forget(checkout)?;
    Ok(running)
}

/// Takes down what a test has beside the platform of `checkout`.
async fn take_down_beside(
    checkout: &Checkout,
    beside: &Checkout,
    progress: &Progress,
) -> Result<()> {
    let api_server = Record::of(checkout, "kube-apiserver");
    let is_up = api_server.is_some_and(|record| record.is_alive());
    if Extent::of(beside) == Some(Extent::Existing) && !is_up {
        // The cluster that it used was the one here (tests/node_existing.rs), and all of it is gone.
        stop_processes(beside, progress).await?;
        return up::forget(beside);
    }
    Box::pin(take_down(beside, progress)).await.map(drop)
}

/// Ends the processes of the platform, and returns how many ran.
async fn stop_processes(checkout: &Checkout, progress: &Progress) -> Result<usize> {
    process::wait_for_launches(checkout).await?;
    let mut records = Record::all(checkout);
    // Users before what they use: an API server waits for its clients to go. A component that the
    // table does not know (any more) is used by nothing in it.
    let table = Extent::of(checkout)
        .map(components::table)
        .unwrap_or_default();
    let place = |name: &str| table.iter().position(|component| component.name() == name);
    records.sort_by_key(|record| Reverse(place(&record.name).unwrap_or(table.len())));
    let running = records.iter().filter(|record| record.is_alive()).count();
    for record in &records {
        let step = record
            .is_alive()
            .then(|| progress.step(&record.name, "stopping"));
        record.stop(checkout, GRACE).await?;
        if let Some(step) = step {
            step.done("stopped");
        }
    }
    Ok(running)
}

/// Stops the stores that only the contract suite needs, the last first.
pub async fn further_stores(checkout: &Checkout) -> Result<()> {
    let _lock = up::lock(checkout, &Progress::default()).await?;
    for store in components::further_stores().iter().rev() {
        if let Some(record) = Record::of(checkout, store.name()) {
            record.stop(checkout, GRACE).await?;
        }
    }
    Ok(())
}

/// Ends one component, to see what the others do without it.
pub async fn stop(checkout: &Checkout, name: &str) -> Result<()> {
    let record = Record::of(checkout, name);
    let record = record.with_context(|| format!("{name} does not run"))?;
    record.stop(checkout, GRACE).await
}
