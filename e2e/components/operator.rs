//! The operator's binaries: built by cargo, run from a copy in `.run`, so that a build does not
//! change what runs, and so that two checkouts can share a target folder.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::checkout::Checkout;
use crate::commands::{cargo, run_logged};
use crate::extent::Extent;
use crate::files;
use crate::process::Launch;
use crate::site::Site;

/// Package and binary have the same name.
const BINARIES: [&str; 2] = ["hubstorage", "hubstorage-agent"];

/// What the Dockerfile builds for a release.
const RELEASE: [&str; 3] = [
    "--locked",
    "--package=hubstorage",
    "--package=hubstorage-agent",
];

/// The profile in which both binaries are built: for pods as for a release, since sizes and speeds
/// are looked at there, else that of the tests, which is there already. `HUBSTORAGE_PROFILE` chooses
/// another.
pub fn profile(extent: Extent) -> String {
    let usual = match extent {
        Extent::Node => "release",
        Extent::ControlPlane | Extent::Stores | Extent::Existing => "dev",
    };
    std::env::var("HUBSTORAGE_PROFILE").unwrap_or_else(|_| usual.to_owned())
}

/// The environment variable that, set to a level, makes what is started now log everything from there
/// on, instead of what is usual.
pub const LOGS: &str = "HUBSTORAGE_LOGS";

/// The level that [`LOGS`] asks for.
pub fn logs() -> Option<String> {
    std::env::var(LOGS).ok()
}

/// Builds both binaries.
pub async fn build(site: &Site) -> Result<()> {
    let profile = profile(site.extent);
    let (folder, what) = match profile.as_str() {
        // The whole workspace, so that cargo chooses the same features as for the tests, and compiles
        // every dependency once.
        "dev" => ("debug", ["--workspace", "--bins"].as_slice()),
        "release" => ("release", RELEASE.as_slice()),
        other => bail!("HUBSTORAGE_PROFILE={other:?} is unknown; it is dev or release"),
    };
    let step = site.progress.step("build operator", "cargo build");
    let mut command = cargo();
    command
        .current_dir(site.checkout.root())
        .args(["build", "--profile", &profile])
        .args(what);
    run_logged(&site.checkout, "build-operator", &step, command).await?;
    let target = target_folder(&site.checkout).await?.join(folder);
    files::make_private_folder(&site.checkout.run("bin"))?;
    for binary in BINARIES {
        files::copy_if_changed(&target.join(binary), &program(&site.checkout, binary))?;
    }
    step.done(&format!("built ({profile})"));
    Ok(())
}

/// The copy that runs.
pub fn program(checkout: &Checkout, binary: &str) -> PathBuf {
    checkout.run("bin").join(binary)
}

/// A process of the operator: nothing in its environment but KUBECONFIG, and the level of its log where
/// one is asked for.
pub fn launch(site: &Site, role: &str, kubeconfig: &str) -> Launch {
    let config = site
        .checkout
        .run("operator")
        .join(kubeconfig)
        .display()
        .to_string();
    let launch =
        Launch::new(program(&site.checkout, "hubstorage"), [role]).with_env("KUBECONFIG", config);
    match logs() {
        Some(level) => launch.with_env("RUST_LOG", level),
        None => launch,
    }
}

/// Asks `/readyz` on the port called `name`.
pub async fn ready(site: &Site, name: &str) -> Result<()> {
    let url = format!("http://{}/readyz", site.ports.address(name)?);
    crate::http::get(&url, None).await.map(drop)
}

async fn target_folder(checkout: &Checkout) -> Result<PathBuf> {
    let output = cargo()
        .current_dir(checkout.root())
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .await
        .context("could not run cargo")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let folder = metadata["target_directory"]
        .as_str()
        .context("cargo metadata names no target folder")?;
    Ok(folder.into())
}
