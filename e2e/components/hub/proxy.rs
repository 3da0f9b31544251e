//! configurable-http-proxy, which leads browsers to the hub and to the servers of users.

use std::path::Path;

use anyhow::{Context, Result};
use async_trait::async_trait;
use tokio::process::Command;

use super::{Keys, folder};
use crate::cache::Key;
use crate::commands::run_logged;
use crate::component::Component;
use crate::process::Launch;
use crate::progress::Step;
use crate::site::Site;

/// What npm reads, in `e2e/hub/proxy/`.
const MANIFESTS: [&str; 2] = ["package.json", "package-lock.json"];

const SCRIPT: &str = "hub-proxy/node_modules/configurable-http-proxy/bin/configurable-http-proxy";

/// The proxy of one hub.
#[derive(Clone, Copy)]
pub struct Proxy {
    pub(super) name: &'static str,
    /// The name of the hub that it belongs to.
    pub(super) hub: &'static str,
    /// For everybody, and for the hub alone, which sets the routes.
    pub(super) ports: &'static [&'static str; 2],
}

impl Proxy {
    /// The name of the port through which people and tests reach the hub and all servers.
    pub fn public(&self) -> &'static str {
        self.ports[0]
    }

    /// The name of the port on which the hub sets the routes.
    pub(super) fn api(&self) -> &'static str {
        self.ports[1]
    }
}

#[async_trait(?Send)]
impl Component for Proxy {
    fn name(&self) -> &'static str {
        self.name
    }

    fn ports(&self) -> &'static [&'static str] {
        self.ports
    }

    async fn build(&self, site: &Site) -> Result<()> {
        let mut key = Key::default();
        for manifest in MANIFESTS {
            key = key.with_file(&site.checkout.path(&format!("e2e/hub/proxy/{manifest}")))?;
        }
        let folder = site
            .cache
            .entry(
                &site.progress,
                "hub-proxy",
                key,
                async |folder: &Path, step: &Step| {
                    for manifest in MANIFESTS {
                        let from = site.checkout.path(&format!("e2e/hub/proxy/{manifest}"));
                        std::fs::copy(&from, folder.join(manifest))
                            .with_context(|| from.display().to_string())?;
                    }
                    let mut npm = Command::new("npm");
                    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
                        .current_dir(folder);
                    run_logged(&site.checkout, "build-hub-proxy", step, npm).await
                },
            )
            .await?;
        site.link("hub-proxy", &folder)?;
        site.link("bin/node", &node().await?)
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        let public = site.ports.address(self.public())?;
        let api = site.ports.address(self.api())?;
        let keys = Keys::ensure(&folder(&site.checkout, self.hub))?;
        let arguments = [
            site.checkout.run(SCRIPT).display().to_string(),
            format!("--ip={}", public.ip()),
            format!("--port={}", public.port()),
            format!("--api-ip={}", api.ip()),
            format!("--api-port={}", api.port()),
            // Its own page for a server that does not answer is the hub's.
            format!(
                "--error-target=http://{}/hub/error",
                site.ports.address(self.hub)?
            ),
        ];
        let launch = Launch::new(site.checkout.run("bin/node"), arguments);
        Ok(Some(
            launch.with_env("CONFIGPROXY_AUTH_TOKEN", keys.proxy_token),
        ))
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        let public = site.ports.address(self.public())?;
        crate::http::get(&format!("http://{public}/_chp_healthz"), None)
            .await
            .map(drop)
    }
}

/// Where Node itself is: processes of the platform have no PATH in which to look for it.
async fn node() -> Result<std::path::PathBuf> {
    let output = Command::new("node")
        .args(["-p", "process.execPath"])
        .output()
        .await
        .context("could not run node")?;
    Ok(String::from_utf8(output.stdout)?.trim().into())
}
