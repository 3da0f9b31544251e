//! CoreDNS: the names of Services, for pods and for processes of this machine.

use anyhow::Result;
use async_trait::async_trait;

use super::CLUSTER_DOMAIN;
use crate::component::Component;
use crate::extent::NODE_ADDRESS;
use crate::files;
use crate::go;
use crate::kubeconfig::{self, Identity};
use crate::process::Launch;
use crate::site::Site;

/// The name server.
pub struct CoreDns;

const NAME: &str = "coredns";
const SOURCE: &str = "e2e/coredns";

#[async_trait(?Send)]
impl Component for CoreDns {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self) -> &'static [&'static str] {
        &["kube-apiserver"]
    }

    fn ports(&self) -> &'static [&'static str] {
        &["coredns-ready"]
    }

    async fn build(&self, site: &Site) -> Result<()> {
        let key = go::key()
            .await?
            .with_files_in(&site.checkout.path(SOURCE))?;
        let built = go::built(site, NAME, key, SOURCE, go::LDFLAGS, &[]).await?;
        site.link("bin/coredns", &built.join(NAME))
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        let config = site.checkout.run("kubernetes/coredns.kubeconfig");
        kubeconfig::write(site, &config, &Identity::Certificate(NAME))?;
        let corefile = site.checkout.run("coredns/Corefile");
        files::make_private_folder(&site.checkout.run("coredns"))?;
        let text = format!(
            "{CLUSTER_DOMAIN}:53 {{\n\
             \tbind {NODE_ADDRESS}\n\
             \terrors\n\
             \tready {}\n\
             \tkubernetes {{\n\t\tkubeconfig {}\n\t}}\n\
             \tcache 5\n\
             }}\n",
            site.ports.address("coredns-ready")?,
            config.display(),
        );
        files::write_private(&corefile, text)?;
        let arguments = ["-conf".to_owned(), corefile.display().to_string()];
        let launch = Launch::new(site.checkout.run("bin/coredns"), arguments);
        Ok(Some(launch.with_input(corefile)))
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        let url = format!("http://{}/ready", site.ports.address("coredns-ready")?);
        crate::http::get(&url, None).await.map(drop)
    }
}
