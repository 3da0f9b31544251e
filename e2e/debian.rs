//! Programs that only Debian has: their packages are downloaded by apt and unpacked into the cache.
//! Nothing is installed on the machine.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::cache::Key;
use crate::commands::{printed, run_logged, run_with_input};
use crate::files;
use crate::progress::Step;
use crate::site::Site;

/// The packages, each as apt names it, unpacked into one folder. They are those of the release that
/// the machine runs, in the version that its apt knows now.
pub async fn unpacked(site: &Site, name: &str, packages: &[&str]) -> Result<PathBuf> {
    let mut key = Key::default();
    for package in packages {
        key = key.with(package, candidate(package).await?);
    }
    site.cache
        .entry(
            &site.progress,
            name,
            key,
            async |folder: &Path, step: &Step| {
                let downloads = folder.join("downloads");
                files::make_private_folder(&downloads)?;
                let mut apt = Command::new("apt-get");
                apt.current_dir(&downloads)
                    // Otherwise it tries to become the user _apt, who may not write here.
                    .args(["download", "--option=APT::Sandbox::User=root"])
                    .args(packages);
                let log = format!("build-{name}");
                run_logged(&site.checkout, &log, step, apt).await?;
                for package in std::fs::read_dir(&downloads)? {
                    let mut dpkg = Command::new("dpkg");
                    dpkg.arg("--extract").arg(package?.path()).arg(folder);
                    run_logged(&site.checkout, &log, step, dpkg).await?;
                }
                files::remove(&downloads)
            },
        )
        .await
}

/// Where the libraries of packages that were unpacked into `folder` are.
pub fn libraries(folder: &Path) -> PathBuf {
    folder.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH))
}

/// The same as a value of `LD_LIBRARY_PATH`. Some packages of Debian 12 still have theirs in `/lib`.
pub fn library_path(folder: &Path) -> String {
    let libraries = libraries(folder);
    let root = folder.join(format!("lib/{}-linux-gnu", std::env::consts::ARCH));
    format!("{}:{}", libraries.display(), root.display())
}

/// The packages of libraries that these packages need and that are not installed on this machine.
pub async fn missing_libraries(packages: &[&str]) -> Result<Vec<String>> {
    let mut apt = Command::new("apt-get");
    apt.env("LC_ALL", "C")
        .args(["install", "--simulate", "--no-install-recommends"])
        .args(packages);
    let output = run_with_input(apt, b"").await?;
    let said = printed(&output, &format!("apt-get install {}", packages.join(" ")))?;
    let names = said.lines().filter_map(|line| {
        let (name, _) = line.strip_prefix("Inst ")?.split_once(' ')?;
        name.starts_with("lib").then(|| name.to_owned())
    });
    Ok(names.collect())
}

/// The version that apt would install.
async fn candidate(package: &str) -> Result<String> {
    let output = Command::new("apt-cache")
        .args(["policy", package])
        .output()
        .await
        .with_context(|| format!("could not run apt-cache, and {package} comes from Debian"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let version = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "));
    match version {
        Some(version) if version != "(none)" => Ok(version.to_owned()),
        _ => bail!("apt knows no package {package:?}; run `apt-get update`"),
    }
}
