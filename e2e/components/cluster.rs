//! The cluster that somebody else runs. Not a process.

use anyhow::Result;
use async_trait::async_trait;

use super::installation::SYSTEM;
use super::kubernetes;
use crate::checkout::Checkout;
use crate::component::Component;
use crate::existing;
use crate::process::Launch;
use crate::running;
use crate::site::Site;

/// The cluster, as far as it is ours.
pub struct Cluster;

#[async_trait(?Send)]
impl Component for Cluster {
    fn name(&self) -> &'static str {
        "cluster"
    }

    async fn build(&self, site: &Site) -> Result<()> {
        kubernetes::build(site).await
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        // First of all: whoever has this one has the installation.
        existing::make_namespace(&site.checkout, SYSTEM).await?;
        Ok(None)
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        let client = running::admin_client(&site.checkout).await?;
        client.apiserver_version().await?;
        Ok(())
    }

    async fn clean_up(&self, checkout: &Checkout) -> Result<()> {
        existing::remove(checkout).await
    }
}
