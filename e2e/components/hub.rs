//! JupyterHub with KubeSpawner, as a process on this machine, in the name of the service account
//! `hub` of its namespace. `e2e/hub/jupyterhub_config.py` says what it does.

use std::path::PathBuf;

use anyhow::Result;
use async_trait::async_trait;

pub mod account;
mod keys;
mod proxy;

pub use keys::Keys;
pub use proxy::Proxy;

use super::{dask_gateway, python};
use crate::checkout::Checkout;
use crate::component::Component;
use crate::files;
use crate::images;
use crate::process::Launch;
use crate::running;
use crate::site::Site;

const CONFIG: &str = "e2e/hub/jupyterhub_config.py";

/// What [`CONFIG`] loads.
const GROUPS: &str = "docs/examples/jupyterhub_groups.py";

/// One hub.
pub struct Hub {
    /// Of its component, its folder in `.run`, and the port of its API.
    pub name: &'static str,
    /// Where its pods are.
    pub namespace: &'static str,
    /// The way to it and to its users' servers.
    pub proxy: Proxy,
    /// In `e2e/hub/` with `.txt`, in `.run` the Python environment.
    environment: &'static str,
    /// Whether its users find dask-gateway.
    has_dask: bool,
    needs: &'static [&'static str],
    ports: &'static [&'static str],
}

/// JupyterHub 6 with KubeSpawner 7, in the namespace of docs/examples/hub.yaml.
pub const HUB: Hub = Hub {
    name: "hub",
    namespace: "earth",
    proxy: Proxy {
        name: "hub-proxy",
        hub: "hub",
        ports: &["hub-proxy", "hub-proxy-api"],
    },
    environment: "kubespawner-7",
    has_dask: true,
    needs: &["kube-controller-manager", "notebook-image", "hub-proxy"],
    ports: &["hub"],
};

/// JupyterHub 4 with KubeSpawner 6, as many hubs still run them.
pub const OLD_HUB: Hub = Hub {
    name: "old-hub",
    namespace: "e2e-old-hub",
    proxy: Proxy {
        name: "old-hub-proxy",
        hub: "old-hub",
        ports: &["old-hub-proxy", "old-hub-proxy-api"],
    },
    environment: "kubespawner-6",
    has_dask: false,
    needs: &["kube-controller-manager", "notebook-image", "old-hub-proxy"],
    ports: &["old-hub"],
};

impl Hub {
    fn requirements(&self) -> String {
        format!("e2e/hub/{}.txt", self.environment)
    }
}

/// The folder in `.run` of the hub called `name`, readable by its owner only.
fn folder(checkout: &Checkout, name: &str) -> PathBuf {
    checkout.run(name)
}

#[async_trait(?Send)]
impl Component for Hub {
    fn name(&self) -> &'static str {
        self.name
    }

    fn needs(&self) -> &'static [&'static str] {
        self.needs
    }

    fn ports(&self) -> &'static [&'static str] {
        self.ports
    }

    async fn build(&self, site: &Site) -> Result<()> {
        python::environment(site, self.environment, &self.requirements()).await
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        let folder = folder(&site.checkout, self.name);
        files::make_private_folder(&folder)?;
        let client = running::admin_client(&site.checkout).await?;
        account::ensure(&client, self.namespace).await?;
        let kubeconfig =
            account::kubeconfig(site, &client, self.namespace, account::ACCOUNT, &folder).await?;
        let keys = Keys::ensure(&folder)?;

        let python = format!("{}/bin/python", self.environment);
        let config = site.checkout.path(CONFIG).display().to_string();
        let launch = Launch::new(
            site.checkout.run(&python),
            ["-m", "jupyterhub", "--config", config.as_str()],
        );
        let dask_gateway = match self.has_dask {
            true => site.ports.address(dask_gateway::PUBLIC_PORT)?.to_string(),
            false => String::new(),
        };
        let url = |port| anyhow::Ok(format!("http://{}", site.ports.address(port)?));
        Ok(Some(
            launch
                .with_input(site.checkout.path(CONFIG))
                .with_input(site.checkout.path(GROUPS))
                .with_input(site.checkout.path(&self.requirements()))
                .with_env("HUB_NAMESPACE", self.namespace)
                .with_env("HUB_IMAGE", image(site).await?)
                .with_env("HUB_URL", url(self.name)?)
                .with_env("HUB_PROXY_URL", url(self.proxy.public())?)
                .with_env("HUB_PROXY_API", url(self.proxy.api())?)
                .with_env("HUB_DASK_GATEWAY", dask_gateway)
                .with_env("HUB_FOLDER", folder.display().to_string())
                .with_env("HUB_API_TOKEN", keys.api_token)
                .with_env("HUB_PASSWORD", keys.password)
                .with_env("HUB_COOKIE_SECRET", keys.cookie_secret)
                .with_env("CONFIGPROXY_AUTH_TOKEN", keys.proxy_token)
                .with_env("KUBECONFIG", kubeconfig.display().to_string())
                .with_env("HOME", folder.display().to_string()),
        ))
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        // Through the proxy: it knows the hub only once the hub has told it.
        let url = format!(
            "http://{}/hub/health",
            site.ports.address(self.proxy.public())?
        );
        crate::http::get(&url, None).await.map(drop)
    }
}

/// What user containers run.
pub(super) async fn image(site: &Site) -> Result<String> {
    Ok(images::notebook::build(site).await?.reference)
}
