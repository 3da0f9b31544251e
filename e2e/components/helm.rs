//! Helm from its Go module, by which people install the operator. Not a process: tests run it.

use std::path::Path;

use anyhow::{Context, Result};
use async_trait::async_trait;
use tokio::process::Command;

use super::kubernetes::go_version;
use crate::cache::Key;
use crate::commands::run_logged;
use crate::component::Component;
use crate::process::Launch;
use crate::progress::Step;
use crate::site::Site;

/// The program.
pub struct Helm;

const NAME: &str = "helm";

/// The last release as a module.
const MODULE: &str = "helm.sh/helm/v4";
const VERSION: &str = "v4.3.1";

const LDFLAGS: &str = "-s -w";

#[async_trait(?Send)]
impl Component for Helm {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn build(&self, site: &Site) -> Result<()> {
        let key = Key::default()
            .with("go", go_version().await?)
            .with("ldflags", LDFLAGS)
            .with(MODULE, VERSION);
        let built = site
            .cache
            .entry(
                &site.progress,
                NAME,
                key,
                async |folder: &Path, step: &Step| {
                    step.now("waiting for another Go build");
                    let _turn = site.go.acquire().await?;
                    step.now("go install");
                    let mut go = Command::new("go");
                    go.env("CGO_ENABLED", "0")
                        .env("GOBIN", folder)
                        .args(["install", "-trimpath", "-ldflags", LDFLAGS])
                        .arg(format!("{MODULE}/cmd/helm@{VERSION}"));
                    run_logged(&site.checkout, "build-helm", step, go).await
                },
            )
            .await?;
        site.link("bin/helm", &built.join(NAME))
    }

    async fn start(&self, _site: &Site) -> Result<Option<Launch>> {
        Ok(None)
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        let helm = site.checkout.run("bin/helm");
        std::fs::metadata(&helm)
            .map(drop)
            .with_context(|| helm.display().to_string())
    }
}
