//! Programs in Go, built one at a time into the cache.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::cache::Key;
use crate::commands::run_logged;
use crate::progress::Step;
use crate::site::Site;

/// Without symbols and debugging information, for what no debugger looks at: half the size.
pub const LDFLAGS: &str = "-s -w";

/// Each package is named as it is compiled: progress shows it.
const NAMES_PACKAGES: &str = "-v";

/// The beginning of a key: the toolchain that builds.
pub async fn key() -> Result<Key> {
    let output = Command::new("go")
        .args(["env", "GOVERSION", "GOOS", "GOARCH"])
        .output()
        .await;
    let version = output.context("could not run go")?.stdout;
    Ok(Key::default().with("go", version))
}

/// `go install` of released packages, `MODULE/PACKAGE@VERSION`, with `flags`. Returns the entry of
/// the cache, in which the programs are by their names.
pub async fn installed(
    site: &Site,
    name: &str,
    key: Key,
    flags: &[&str],
    packages: &[String],
) -> Result<PathBuf> {
    let make = async |folder: &Path, step: &Step| {
        run(site, step, name, |go| {
            go.env("GOBIN", folder)
                .args(["install", "-trimpath", NAMES_PACKAGES])
                .args(flags)
                .args(packages);
        })
        .await
    };
    site.cache.entry(&site.progress, name, key, make).await
}

/// `go build` of the module in the checkout's folder `source`, with `ldflags`, and of `more` packages
/// that it requires. Returns the entry of the cache, in which each program has the name of its
/// package's folder, or that of the module.
pub async fn built(
    site: &Site,
    name: &str,
    key: Key,
    source: &str,
    ldflags: &str,
    more: &[&str],
) -> Result<PathBuf> {
    let make = async |folder: &Path, step: &Step| {
        build(site, step, name, source, ldflags, folder, more).await
    };
    site.cache.entry(&site.progress, name, key, make).await
}

/// The same into `output`, a file or a folder, which may be part of something larger that is kept.
pub async fn build(
    site: &Site,
    step: &Step,
    name: &str,
    source: &str,
    ldflags: &str,
    output: &Path,
    more: &[&str],
) -> Result<()> {
    run(site, step, name, |go| {
        go.current_dir(site.checkout.path(source))
            .args([
                "build",
                "-trimpath",
                NAMES_PACKAGES,
                "-ldflags",
                ldflags,
                "-o",
            ])
            .arg(output)
            .arg(".")
            .args(more);
    })
    .await
}

/// Runs `go` when no other build does: each takes all cores and a lot of memory.
async fn run(
    site: &Site,
    step: &Step,
    name: &str,
    arguments: impl FnOnce(&mut Command),
) -> Result<()> {
    step.now("waiting for another Go build");
    let _turn = site.go.acquire().await?;
    step.now("go");
    let mut go = Command::new("go");
    go.env("CGO_ENABLED", "0");
    arguments(&mut go);
    run_logged(&site.checkout, &format!("build-{name}"), step, go).await
}
