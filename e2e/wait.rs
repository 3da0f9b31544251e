//! Waiting for what happens by itself.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often is looked.
const LOOKS_EVERY: Duration = Duration::from_millis(100);

/// Looks until `holds`; after `patience` an error that says what was awaited. It bounds a hang, and
/// measures nothing.
pub async fn until(
    what: &str,
    patience: Duration,
    holds: impl AsyncFn() -> Result<bool>,
) -> Result<()> {
    until_looking(LOOKS_EVERY, what, patience, holds).await
}

/// The same, looking at other intervals: where a look costs those who are looked at something.
pub async fn until_looking(
    every: Duration,
    what: &str,
    patience: Duration,
    holds: impl AsyncFn() -> Result<bool>,
) -> Result<()> {
    let began = Instant::now();
    while !holds().await? {
        if began.elapsed() > patience {
            bail!("waited {} s in vain for {what}", patience.as_secs());
        }
        tokio::time::sleep(every).await;
    }
    Ok(())
}
