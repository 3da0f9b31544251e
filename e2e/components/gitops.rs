//! What GitOps tools make of an object, by their own libraries. Not a process: tests run it.

use anyhow::Result;
use async_trait::async_trait;

use crate::component::Component;
use crate::go;
use crate::process::Launch;
use crate::site::Site;

/// The program.
pub struct GitOps;

const NAME: &str = "gitops";
const SOURCE: &str = "e2e/gitops";

#[async_trait(?Send)]
impl Component for GitOps {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn build(&self, site: &Site) -> Result<()> {
        let key = go::key()
            .await?
            .with_files_in(&site.checkout.path(SOURCE))?;
        let built = go::built(site, NAME, key, SOURCE, go::LDFLAGS, &[]).await?;
        site.link("bin/gitops", &built.join(NAME))
    }

    async fn start(&self, _site: &Site) -> Result<Option<Launch>> {
        Ok(None)
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        site.require("bin/gitops")
    }
}
