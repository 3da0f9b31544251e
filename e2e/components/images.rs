//! The images that pods run, made without an engine and given to the container runtime. Not
//! processes.

use anyhow::Result;
use async_trait::async_trait;

use super::node::ctr;
use super::operator;
use crate::component::Component;
use crate::images::{self, Image};
use crate::process::Launch;
use crate::site::Site;

/// What the operator runs, and what holds every pod.
pub struct OperatorImages;

/// What user pods run. By itself, as it takes longest.
pub struct NotebookImage;

impl OperatorImages {
    async fn all(site: &Site) -> Result<[Image; 3]> {
        Ok([
            images::pause::build(site).await?,
            images::operator::operator(site).await?,
            images::operator::agent(site).await?,
        ])
    }
}

#[async_trait(?Send)]
impl Component for OperatorImages {
    fn name(&self) -> &'static str {
        "operator-images"
    }

    fn needs(&self) -> &'static [&'static str] {
        &["containerd"]
    }

    async fn build(&self, site: &Site) -> Result<()> {
        operator::build(site).await?;
        Self::all(site).await.map(drop)
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        for image in Self::all(site).await? {
            import(site, &image).await?;
        }
        Ok(None)
    }

    async fn ready(&self, _site: &Site) -> Result<()> {
        Ok(())
    }
}

#[async_trait(?Send)]
impl Component for NotebookImage {
    fn name(&self) -> &'static str {
        "notebook-image"
    }

    fn needs(&self) -> &'static [&'static str] {
        &["containerd"]
    }

    async fn build(&self, site: &Site) -> Result<()> {
        images::notebook::build(site).await.map(drop)
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        import(site, &images::notebook::build(site).await?).await?;
        Ok(None)
    }

    async fn ready(&self, _site: &Site) -> Result<()> {
        Ok(())
    }
}

/// Gives an image to the runtime, unless it has it: what a reference names never changes.
async fn import(site: &Site, image: &Image) -> Result<()> {
    let there = ctr(&site.checkout, &["images", "list", "--quiet"]).await?;
    if there.lines().any(|line| line == image.reference) {
        return Ok(());
    }
    let step = site.progress.step("import", &image.reference);
    let archive = image.archive.display().to_string();
    ctr(&site.checkout, &["images", "import", &archive]).await?;
    step.done(&image.reference);
    Ok(())
}
