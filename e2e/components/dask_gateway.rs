//! dask-gateway beside [`super::hub::HUB`]: the server, which users' notebooks ask for clusters, and
//! the controller, which makes the pods. `e2e/hub/dask_gateway_config.py` says what they do.

use std::path::PathBuf;

use anyhow::Result;
use async_trait::async_trait;
use tokio::process::Command;

use super::hub::{HUB, Keys, account, image};
use super::python;
use crate::checkout::Checkout;
use crate::commands::{printed, run_with_input};
use crate::component::Component;
use crate::files;
use crate::process::Launch;
use crate::running;
use crate::site::Site;

const CONFIG: &str = "e2e/hub/dask_gateway_config.py";
const MANIFESTS: &str = "e2e/hub/dask-gateway.yaml";
const ENVIRONMENT: &str = "dask-gateway-python";
const REQUIREMENTS: &str = "e2e/hub/dask-gateway.txt";

/// The port through which clients reach the server and the schedulers of their clusters.
pub const PUBLIC_PORT: &str = "dask-gateway-proxy";

/// The service account of each is called like its component.
const SERVER: &str = "dask-gateway";
const CONTROLLER: &str = "dask-gateway-controller";

/// The server, with dask-gateway's own proxy as its child.
pub struct Server;

/// The controller.
pub struct Controller;

#[async_trait(?Send)]
impl Component for Server {
    fn name(&self) -> &'static str {
        SERVER
    }

    fn needs(&self) -> &'static [&'static str] {
        &["hub"]
    }

    fn ports(&self) -> &'static [&'static str] {
        &[SERVER, PUBLIC_PORT]
    }

    async fn build(&self, site: &Site) -> Result<()> {
        python::environment(site, ENVIRONMENT, REQUIREMENTS).await
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        apply_manifests(&site.checkout).await?;
        launch(site, SERVER, &[]).await.map(Some)
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        // Through the proxy, which has no route before the server has told it.
        let url = format!("http://{}/api/health", site.ports.address(PUBLIC_PORT)?);
        crate::http::get(&url, None).await.map(drop)
    }
}

#[async_trait(?Send)]
impl Component for Controller {
    fn name(&self) -> &'static str {
        CONTROLLER
    }

    fn needs(&self) -> &'static [&'static str] {
        &[SERVER]
    }

    fn ports(&self) -> &'static [&'static str] {
        &[CONTROLLER]
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        launch(site, CONTROLLER, &["kube-controller"])
            .await
            .map(Some)
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        crate::http::accepts(site.ports.address(CONTROLLER)?).await
    }
}

/// Both processes read the same configuration; each acts as the account of its own name.
async fn launch(site: &Site, name: &str, command: &[&str]) -> Result<Launch> {
    let folder = folder(&site.checkout);
    files::make_private_folder(&folder)?;
    let client = running::admin_client(&site.checkout).await?;
    let kubeconfig = account::kubeconfig(site, &client, HUB.namespace, name, &folder).await?;
    let address = |port| anyhow::Ok(site.ports.address(port)?.to_string());
    let config = site.checkout.path(CONFIG).display().to_string();
    let arguments = [
        &["-m", "dask_gateway_server"],
        command,
        &["--config", &config],
    ]
    .concat();
    let python = site.checkout.run(ENVIRONMENT).join("bin/python");
    Ok(Launch::new(python, arguments)
        .with_env("GATEWAY_NAMESPACE", HUB.namespace)
        .with_env("GATEWAY_IMAGE", image(site).await?)
        .with_env("GATEWAY_ADDRESS", address(SERVER)?)
        .with_env("GATEWAY_PROXY", address(PUBLIC_PORT)?)
        .with_env("GATEWAY_CONTROLLER", address(CONTROLLER)?)
        .with_env(
            "GATEWAY_HUB_API",
            format!("http://{}/hub/api", address(HUB.name)?),
        )
        .with_env("DASK_GATEWAY_INSTANCE", "e2e")
        .with_env(
            "DASK_GATEWAY_PROXY_TOKEN",
            Keys::ensure(&folder)?.proxy_token,
        )
        .with_input(site.checkout.path(CONFIG))
        .with_input(site.checkout.path(REQUIREMENTS))
        .with_env("KUBECONFIG", kubeconfig.display().to_string())
        .with_env("HOME", folder.display().to_string()))
}

/// Kinds and accounts; returns when the API server knows the kinds.
async fn apply_manifests(checkout: &Checkout) -> Result<()> {
    let manifests = std::fs::read(checkout.path(MANIFESTS))?;
    for arguments in [
        &["apply", "--server-side", "--force-conflicts", "-f", "-"][..],
        &[
            "wait",
            "--for=condition=Established",
            "--timeout=30s",
            "crd",
            "daskclusters.gateway.dask.org",
            "ingressroutes.traefik.io",
            "ingressroutetcps.traefik.io",
        ],
    ] {
        let mut kubectl = Command::new(checkout.run("bin/kubectl"));
        kubectl.args(arguments);
        let output = run_with_input(kubectl, &manifests).await?;
        printed(&output, &format!("kubectl {} {MANIFESTS}", arguments[0]))?;
    }
    Ok(())
}

fn folder(checkout: &Checkout) -> PathBuf {
    checkout.run(SERVER)
}
