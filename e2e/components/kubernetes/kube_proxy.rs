//! kube-proxy: the addresses of Services, for pods and for processes of this machine.

use anyhow::Result;
use async_trait::async_trait;
use tokio::process::Command;

use crate::checkout::Checkout;
use crate::commands::printed;
use crate::component::Component;
use crate::components::node::{POD_NETWORK, WORKER};
use crate::debian;
use crate::files;
use crate::kubeconfig::{self, Identity};
use crate::process::Launch;
use crate::site::Site;

/// The proxy.
pub struct KubeProxy;

const NAME: &str = "kube-proxy";

/// `nft` and the libraries that it needs beside those of every Debian.
const PACKAGES: [&str; 6] = [
    "nftables",
    "libnftables1",
    "libnftnl11",
    "libmnl0",
    "libjansson4",
    "libedit2",
];

#[async_trait(?Send)]
impl Component for KubeProxy {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self) -> &'static [&'static str] {
        // It looks for its node at intervals that double, for half a minute in all.
        &["kube-apiserver", "kubelet"]
    }

    fn ports(&self) -> &'static [&'static str] {
        &["kube-proxy-health", "kube-proxy-metrics"]
    }

    async fn build(&self, site: &Site) -> Result<()> {
        let debian = debian::unpacked(site, "nftables", &PACKAGES).await?;
        files::make_private_folder(&site.checkout.run("bin"))?;
        let script = format!(
            "#!/bin/sh\nLD_LIBRARY_PATH='{}' exec '{}' \"$@\"\n",
            debian::libraries(&debian).display(),
            debian.join("usr/sbin/nft").display(),
        );
        files::write_executable(&nft(&site.checkout), script)
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        let config = site.checkout.run("kubernetes/kube-proxy.kubeconfig");
        kubeconfig::write(site, &config, &Identity::Certificate(NAME))?;
        let address = |name: &str| site.ports.address(name);
        let flags = [
            NAME.to_owned(),
            format!("--kubeconfig={}", config.display()),
            format!("--hostname-override={WORKER}"),
            "--proxy-mode=nftables".to_owned(),
            format!("--cluster-cidr={POD_NETWORK}"),
            // The kernel's own settings are left as they are.
            "--conntrack-max-per-core=0".to_owned(),
            "--conntrack-min=0".to_owned(),
            "--conntrack-tcp-timeout-established=0s".to_owned(),
            "--conntrack-tcp-timeout-close-wait=0s".to_owned(),
            format!("--healthz-bind-address={}", address("kube-proxy-health")?),
            format!("--metrics-bind-address={}", address("kube-proxy-metrics")?),
        ];
        let launch = Launch::new(site.checkout.run("bin/platform"), flags);
        let path = format!("{}:/usr/sbin:/usr/bin", site.checkout.run("bin").display());
        Ok(Some(launch.with_env("PATH", path)))
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        // Not /healthz, which also asks whether the node takes pods.
        let url = format!("http://{}/livez", site.ports.address("kube-proxy-health")?);
        crate::http::get(&url, None).await.map(drop)
    }

    async fn clean_up(&self, checkout: &Checkout) -> Result<()> {
        let nft = nft(checkout);
        if !nft.exists() {
            return Ok(());
        }
        // The last one is that of tests, which may have been killed.
        for table in ["ip kube-proxy", "ip6 kube-proxy", "ip hubstorage-e2e"] {
            // Also of a table that is not there: `destroy` is newer than this nft.
            let rules = format!("add table {table}; delete table {table}");
            let output = Command::new(&nft).arg(rules).output().await?;
            printed(&output, &format!("nft delete table {table}"))?;
        }
        Ok(())
    }
}

fn nft(checkout: &Checkout) -> std::path::PathBuf {
    checkout.run("bin/nft")
}
