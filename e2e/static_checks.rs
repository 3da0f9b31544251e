//! What can be said about the code without running it: each check counts as one test.

use std::path::Path;

use anyhow::{Result, bail};
use tokio::process::Command;

use crate::cache::{Cache, Key};
use crate::checkout::Checkout;
use crate::commands::{cargo, run_logged};
use crate::files;
use crate::progress::{Progress, Step};
use crate::tally::Tally;

/// cargo-deny's version; it is installed into the cache.
const CARGO_DENY: &str = "0.20.2";

/// Runs all checks.
pub async fn run(checkout: &Checkout) -> Result<Tally> {
    let fmt = passes(checkout, "rustfmt", &["fmt", "--all", "--check"]).await?;
    let lints = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ];
    let clippy = passes(checkout, "clippy", &lints).await?;
    let deny = verdict("cargo deny", cargo_deny(checkout).await);
    Ok([fmt, clippy, deny].into_iter().sum())
}

async fn passes(checkout: &Checkout, name: &str, arguments: &[&str]) -> Result<Tally> {
    let mut command = cargo();
    let status = command
        .current_dir(checkout.root())
        .args(arguments)
        .status()
        .await?;
    let outcome = if status.success() {
        Ok(())
    } else {
        Err(anyhow::anyhow!("cargo {}", arguments.join(" ")))
    };
    Ok(verdict(name, outcome))
}

fn verdict(name: &str, outcome: Result<()>) -> Tally {
    match outcome {
        Ok(()) => {
            println!("{name} ... ok");
            Tally::PASSED
        }
        Err(error) => {
            println!("{name} ... FAILED: {error:#}");
            Tally::FAILED
        }
    }
}

/// Bans, licences and sources. Advisories need a database that is not part of a registry.
async fn cargo_deny(checkout: &Checkout) -> Result<()> {
    files::make_private_folder(&checkout.run("logs"))?;
    let rustc = Command::new("rustc")
        .arg("--version")
        .output()
        .await?
        .stdout;
    let key = Key::default()
        .with("cargo-deny", CARGO_DENY)
        .with("profile", "dev")
        .with("rustc", rustc);
    let installed = Cache::open()?
        .entry(
            &Progress::default(),
            "cargo-deny",
            key,
            async |folder: &Path, step: &Step| {
                let mut install = cargo();
                install
                    .current_dir(folder)
                    // Unoptimised: it runs for two seconds, and compiles in a fifth of the time.
                    .args([
                        "install",
                        "--debug",
                        "--locked",
                        "--version",
                        CARGO_DENY,
                        "--root",
                    ])
                    .arg(folder)
                    .arg("cargo-deny");
                run_logged(checkout, "build-cargo-deny", step, install).await
            },
        )
        .await?;
    let mut command = Command::new(installed.join("bin/cargo-deny"));
    let status = command
        .current_dir(checkout.root())
        .args([
            "deny",
            "--workspace",
            "check",
            "bans",
            "licenses",
            "sources",
        ])
        .status()
        .await?;
    if !status.success() {
        bail!("cargo deny check bans licenses sources");
    }
    Ok(())
}
