//! etcd: where the API server keeps everything.

use anyhow::Result;
use async_trait::async_trait;

use super::{build, healthy, launch};
use crate::component::Component;
use crate::process::Launch;
use crate::site::Site;

/// etcd.
pub struct Etcd;

#[async_trait(?Send)]
impl Component for Etcd {
    fn name(&self) -> &'static str {
        "etcd"
    }

    fn ports(&self) -> &'static [&'static str] {
        &["etcd", "etcd-peer"]
    }

    async fn build(&self, site: &Site) -> Result<()> {
        build(site).await
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        let client = format!("https://{}", site.ports.address("etcd")?);
        let peer = format!("https://{}", site.ports.address("etcd-peer")?);
        let data = site.checkout.run("data/etcd");
        let (ca, certificate, key) = (
            site.pki("ca.crt"),
            site.pki("etcd.crt"),
            site.pki("etcd.key"),
        );
        let flags = vec![
            "--name=local".to_owned(),
            format!("--data-dir={}", data.display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=local={peer}"),
            "--client-cert-auth".to_owned(),
            format!("--trusted-ca-file={ca}"),
            format!("--cert-file={certificate}"),
            format!("--key-file={key}"),
            "--peer-client-cert-auth".to_owned(),
            format!("--peer-trusted-ca-file={ca}"),
            format!("--peer-cert-file={certificate}"),
            format!("--peer-key-file={key}"),
            // Nothing here has to survive a power cut, and syncing costs most of the time.
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ];
        Ok(Some(launch(site, "etcd", flags)))
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        healthy(site, "etcd", "/health").await
    }
}
