//! Everything a component needs to know about where it is brought up.

use std::path::Path;

use anyhow::{Context, Result};
use tokio::sync::Semaphore;

use crate::cache::Cache;
use crate::checkout::Checkout;
use crate::extent::Extent;
use crate::files;
use crate::http::Tls;
use crate::images::Made;
use crate::ports::Ports;
use crate::progress::Progress;

/// One checkout, its ports, and what several components share.
pub struct Site {
    /// The checkout.
    pub checkout: Checkout,
    /// How much of the platform is brought up.
    pub extent: Extent,
    /// What was built.
    pub cache: Cache,
    /// The ports of every component.
    pub ports: Ports,
    /// Where progress is shown.
    pub progress: Progress,
    /// The images that were made.
    pub images: Made,
    /// Go builds use all cores and a lot of memory each: one at a time.
    pub go: Semaphore,
}

impl Site {
    /// A site with these ports.
    pub fn new(
        checkout: Checkout,
        extent: Extent,
        ports: Ports,
        progress: Progress,
    ) -> Result<Self> {
        Ok(Self {
            checkout,
            extent,
            cache: Cache::open()?,
            ports,
            progress,
            images: Made::default(),
            go: Semaphore::new(1),
        })
    }

    /// Makes `.run/NAME` a link to something in the cache, so that tests find it.
    pub fn link(&self, name: &str, target: &Path) -> Result<()> {
        let link = self.checkout.run(name);
        if let Some(folder) = link.parent() {
            files::make_private_folder(folder)?;
        }
        files::link(target, &link)
    }

    /// Fails if there is no `.run/NAME`.
    pub fn require(&self, name: &str) -> Result<()> {
        let path = self.checkout.run(name);
        std::fs::metadata(&path)
            .map(drop)
            .with_context(|| path.display().to_string())
    }

    /// A file of the cluster's certificates and keys, as text for a command line.
    pub fn pki(&self, name: &str) -> String {
        self.checkout
            .run("kubernetes/pki")
            .join(name)
            .display()
            .to_string()
    }

    /// The cluster's CA and the admin's client certificate, to ask components for their health.
    pub fn tls(&self) -> Result<Tls> {
        Tls::load(&self.checkout.run("kubernetes/pki"), "admin")
            .context("the cluster's certificates")
    }
}
