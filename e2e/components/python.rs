//! Python with the libraries that user code imports. Not a process: tests run it.

use std::path::Path;

use anyhow::{Context, Result};
use async_trait::async_trait;
use tokio::process::Command;

use crate::cache::Key;
use crate::commands::run_logged;
use crate::component::Component;
use crate::process::Launch;
use crate::progress::Step;
use crate::site::Site;

/// The virtual environment.
pub struct Python;

const INTERPRETER: &str = "python3.11";

#[async_trait(?Send)]
impl Component for Python {
    fn name(&self) -> &'static str {
        "python"
    }

    async fn build(&self, site: &Site) -> Result<()> {
        environment(site, "python", "e2e/python/requirements.txt").await
    }

    async fn start(&self, _site: &Site) -> Result<Option<Launch>> {
        Ok(None)
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        site.require("python/bin/python")
    }
}

/// The virtual environment `.run/NAME` with the packages of a requirements file of the checkout.
pub async fn environment(site: &Site, name: &str, requirements: &str) -> Result<()> {
    let requirements = site.checkout.path(requirements);
    let version = Command::new(INTERPRETER)
        .args(["-c", "import sys; print(sys.base_prefix, sys.version)"])
        .output()
        .await
        .with_context(|| format!("could not run {INTERPRETER}"))?;
    let key = Key::default()
        .with("python", version.stdout)
        .with_file(&requirements)?;
    let log = format!("build-{name}");
    let environment = site
        .cache
        .entry(
            &site.progress,
            name,
            key,
            async |folder: &Path, step: &Step| {
                let mut venv = Command::new(INTERPRETER);
                venv.args(["-m", "venv"]).arg(folder);
                run_logged(&site.checkout, &log, step, venv).await?;
                // The scripts in bin/ name the folder that is about to be renamed; the
                // interpreter does not, so everything is run by it.
                let mut pip = Command::new(folder.join("bin/python"));
                pip.args(["-m", "pip", "install", "--no-input", "--requirement"])
                    .arg(&requirements);
                run_logged(&site.checkout, &log, step, pip).await
            },
        )
        .await?;
    site.link(name, &environment)
}
