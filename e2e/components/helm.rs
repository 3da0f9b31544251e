//! Helm from its Go module, by which people install the operator. Not a process: tests run it.

use anyhow::Result;
use async_trait::async_trait;

use crate::component::Component;
use crate::go;
use crate::process::Launch;
use crate::site::Site;

/// The program.
pub struct Helm;

const NAME: &str = "helm";

/// The last release as a module.
const MODULE: &str = "helm.sh/helm/v4";
const VERSION: &str = "v4.3.1";

#[async_trait(?Send)]
impl Component for Helm {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn build(&self, site: &Site) -> Result<()> {
        let key = go::key()
            .await?
            .with("ldflags", go::LDFLAGS)
            .with(MODULE, VERSION);
        let package = format!("{MODULE}/cmd/helm@{VERSION}");
        let flags = ["-ldflags", go::LDFLAGS];
        let built = go::installed(site, NAME, key, &flags, &[package]).await?;
        site.link("bin/helm", &built.join(NAME))
    }

    async fn start(&self, _site: &Site) -> Result<Option<Launch>> {
        Ok(None)
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        site.require("bin/helm")
    }
}
