//! The images that pods run, made without an engine and given to the container runtime. Not a
//! process.

use anyhow::Result;
use async_trait::async_trait;

use super::node::ctr;
use super::operator;
use crate::component::Component;
use crate::images::{self, Image};
use crate::process::Launch;
use crate::site::Site;

/// The images.
pub struct Images;

/// All of them, each found in the cache or made.
async fn all(site: &Site) -> Result<Vec<Image>> {
    Ok(vec![
        images::pause::build(site).await?,
        images::operator::operator(site).await?,
        images::operator::agent(site).await?,
    ])
}

#[async_trait(?Send)]
impl Component for Images {
    fn name(&self) -> &'static str {
        "images"
    }

    fn needs(&self) -> &'static [&'static str] {
        &["containerd"]
    }

    async fn build(&self, site: &Site) -> Result<()> {
        operator::build(site).await?;
        all(site).await.map(drop)
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        let there = ctr(&site.checkout, &["images", "list", "--quiet"]).await?;
        for image in all(site).await? {
            if !there.lines().any(|line| line == image.reference) {
                let archive = image.archive.display().to_string();
                let step = site
                    .progress
                    .step("images", &format!("importing {}", image.reference));
                ctr(&site.checkout, &["images", "import", &archive]).await?;
                step.done(&format!("imported {}", image.reference));
            }
        }
        Ok(None)
    }

    async fn ready(&self, _site: &Site) -> Result<()> {
        Ok(())
    }
}
