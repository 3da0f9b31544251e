//! Python with the libraries that user code imports. Not a process: tests run it.
//!
//! Three environments. What the demo and most tests import is small and quickly there. Every kind of
//! client of a store is in one of its own, beside the Go builds that take longer; and clients as old as
//! they may be in a third, since one environment has one botocore.

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

/// A virtual environment.
pub struct Python {
    name: &'static str,
    requirements: &'static str,
}

/// What the user guide imports.
pub const USER_CODE: Python = Python {
    name: "python",
    requirements: "e2e/python/requirements.txt",
};

/// Every kind of client of a store.
pub const CLIENTS: Python = Python {
    name: "clients",
    requirements: "e2e/python/clients-requirements.txt",
};

/// Clients with a botocore of 2024.
pub const OLD_CLIENTS: Python = Python {
    name: "old-clients",
    requirements: "e2e/python/old-clients-requirements.txt",
};

const INTERPRETER: &str = "python3.11";

#[async_trait(?Send)]
impl Component for Python {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn build(&self, site: &Site) -> Result<()> {
        environment(site, self.name, self.requirements).await
    }

    async fn start(&self, _site: &Site) -> Result<Option<Launch>> {
        Ok(None)
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        site.require(&format!("{}/bin/python", self.name))
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
