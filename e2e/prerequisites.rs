//! What must be installed before the harness can do the rest. The check itself is a script,
//! because it must also work where there is no Rust yet.

use std::fmt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::checkout::Checkout;

/// Something is missing; the script has said what.
#[derive(Debug)]
pub struct Missing;

impl fmt::Display for Missing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("install what is named above, then try again")
    }
}

impl std::error::Error for Missing {}

/// Checks, and names each missing or too old tool in one line on standard error.
pub fn check(checkout: &Checkout) -> Result<()> {
    let script = checkout.path("e2e/prerequisites.sh");
    let status = Command::new(&script)
        .status()
        .with_context(|| format!("could not run {}", script.display()))?;
    if status.success() {
        Ok(())
    } else {
        Err(Missing.into())
    }
}
