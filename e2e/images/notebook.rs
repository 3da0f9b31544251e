//! The notebook image: Debian, Python, and what a scientist's code imports.
//!
//! Nothing of the machine gets into it. Packages are fetched on the machine, with its own settings of
//! apt and pip, and installed in the new root without a network. Whatever is mounted there is mounted
//! in a namespace of the process that does it, and gone with that process, however it ends.

use std::path::Path;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use super::archive::{Runs, Tree};
use super::{Image, image};
use crate::cache::Key;
use crate::commands::run_logged;
use crate::debian;
use crate::progress::Step;
use crate::site::Site;

/// The release, and with it Python 3.11, for which the requirements are pinned.
const SUITE: &str = "bookworm";

/// What is installed besides Debian's smallest system.
const PACKAGES: &str = "python3,python3-venv,ca-certificates,git";

/// Python of the same version on the machine: it chooses the wheels that fit.
const PYTHON: &str = "python3.11";

const REQUIREMENTS: &str = "e2e/python/notebook-requirements.txt";

/// Runs in the new root.
const FURNISH: &str = include_str!("notebook.sh");

const LOG: &str = "build-image-notebook";

/// Builds the image, in three to five minutes. Needs root, for chroot.
pub async fn build(site: &Site) -> Result<Image> {
    let make = || made(site);
    site.images.notebook.get_or_try_init(make).await.cloned()
}

async fn made(site: &Site) -> Result<Image> {
    let requirements = site.checkout.path(REQUIREMENTS);
    let key = Key::default()
        .with("suite", SUITE)
        .with("packages", PACKAGES)
        .with("furnish", FURNISH)
        .with_file(&requirements)?;
    let runs = Runs {
        user: "1000:100".to_owned(),
        entrypoint: Vec::new(),
        cmd: vec!["jupyterhub-singleuser".to_owned()],
        env: [
            "PATH=/opt/notebook/bin:/usr/local/bin:/usr/bin:/bin",
            "HOME=/home/jovyan",
            "LANG=C.UTF-8",
        ]
        .map(str::to_owned)
        .to_vec(),
        working_dir: "/home/jovyan".to_owned(),
    };
    let collect = async |folder: &Path, step: &Step| {
        if !rustix::process::geteuid().is_root() {
            bail!("the notebook image is made in a chroot: run this as root");
        }
        let (root, wheels) = (folder.join("root"), folder.join("wheels"));
        let venv = folder.join("venv");
        step.now("debootstrap, and pip wheel");
        tokio::try_join!(
            install_debian(site, step, &root),
            fetch_wheels(site, step, &venv, &requirements, &wheels),
        )?;
        std::fs::copy(&requirements, wheels.join("requirements.txt"))?;
        std::fs::rename(&wheels, root.join("wheels"))?;
        step.now("pip install");
        let mut furnish = in_namespaces_of_its_own(&["--net"]);
        furnish
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .arg("chroot")
            .arg(&root)
            .args(["sh", "-euc", FURNISH]);
        run_logged(&site.checkout, LOG, step, furnish).await?;
        Tree::of_folder(&root)
    };
    image(site, "notebook", key, runs, collect).await
}

async fn install_debian(site: &Site, step: &Step, root: &Path) -> Result<()> {
    let unpacked = debian::unpacked(site, "debootstrap", &["debootstrap"]).await?;
    let mut debootstrap = in_namespaces_of_its_own(&[]);
    debootstrap
        .env("DEBOOTSTRAP_DIR", unpacked.join("usr/share/debootstrap"))
        .arg("sh")
        .arg(unpacked.join("usr/sbin/debootstrap"))
        .arg("--variant=minbase")
        .arg(format!("--include={PACKAGES}"))
        .arg(SUITE)
        .arg(root)
        .arg(mirror().await?);
    run_logged(&site.checkout, LOG, step, debootstrap).await
}

/// Where the machine's own apt gets this release from.
async fn mirror() -> Result<String> {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI)"])
        .args(["Created-By: Packages", &format!("Codename: {SUITE}")])
        .output()
        .await
        .context("could not run apt-get")?;
    let mirrors = String::from_utf8(output.stdout).context("apt-get indextargets")?;
    let mirror = mirrors.lines().next().with_context(|| {
        format!("apt has no repository of Debian {SUITE}: add one to /etc/apt/sources.list, and run `apt-get update`")
    })?;
    Ok(mirror.to_owned())
}

/// Every required package as a wheel, so that the new root needs neither a network nor a compiler.
async fn fetch_wheels(
    site: &Site,
    step: &Step,
    environment: &Path,
    requirements: &Path,
    wheels: &Path,
) -> Result<()> {
    let mut venv = Command::new(PYTHON);
    venv.args(["-m", "venv"]).arg(environment);
    run_logged(&site.checkout, LOG, step, venv).await?;
    let mut pip = Command::new(environment.join("bin/python"));
    pip.args(["-m", "pip", "wheel", "--no-input", "--no-deps"])
        .arg("--requirement")
        .arg(requirements)
        .arg("--wheel-dir")
        .arg(wheels);
    run_logged(&site.checkout, LOG, step, pip).await
}

/// A command whose mounts are its own, and whose processes end with it.
fn in_namespaces_of_its_own(more: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command
        .args([
            "--mount",
            "--propagation=private",
            "--pid",
            "--fork",
            "--kill-child",
        ])
        .args(more)
        .arg("--");
    command
}
