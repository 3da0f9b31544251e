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
    // A test has a platform of its own in this one's folder, and may have been killed.
    for beside in checkout.all_beside()? {
        if Extent::of(&beside) == Some(Extent::Existing) && !up::anything_runs(checkout) {
            // What it had was in the cluster here, and went with it.
            stop_processes(&beside, progress).await?;
            up::forget(&beside)?;
        } else {
            Box::pin(take_down(&beside, progress)).await?;
        }
    }
    let running = stop_processes(checkout, progress).await?;
    let extent = Extent::of(checkout);
    let table = extent.map(components::table).unwrap_or_default();
    // Of a node that was never begun, as another checkout has one, there is nothing to clean up.
    let is_ours = extent != Some(Extent::Node) || node::is_claimed_by(checkout);
    let mut failures = Vec::new();
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
