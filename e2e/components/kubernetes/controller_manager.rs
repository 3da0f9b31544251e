//! kube-controller-manager: service accounts, garbage collection, namespaces and the rest.

use anyhow::Result;
use async_trait::async_trait;

use super::{healthy, launch, serving_flags};
use crate::component::Component;
use crate::extent::Extent;
use crate::kubeconfig::{self, Identity};
use crate::process::Launch;
use crate::site::Site;

/// The controller manager.
pub struct ControllerManager;

const NAME: &str = "kube-controller-manager";

#[async_trait(?Send)]
impl Component for ControllerManager {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self) -> &'static [&'static str] {
        &["kube-apiserver"]
    }

    fn ports(&self) -> &'static [&'static str] {
        &[NAME]
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        let config = site
            .checkout
            .run("kubernetes/controller-manager.kubeconfig");
        kubeconfig::write(site, &config, &Identity::Certificate(NAME))?;
        let mut flags = serving_flags(site, NAME)?;
        flags.extend([
            format!("--kubeconfig={}", config.display()),
            "--leader-elect=false".to_owned(),
            "--use-service-account-credentials".to_owned(),
            format!("--root-ca-file={}", site.pki("ca.crt")),
            "--profiling=false".to_owned(),
        ]);
        if site.extent != Extent::Node {
            // No kubelet reports for the node `paper`: this controller would taint it as
            // unreachable, and the next would delete its pods.
            let all_but = "--controllers=*,-node-lifecycle-controller,-taint-eviction-controller";
            flags.push(all_but.to_owned());
        }
        Ok(Some(launch(site, NAME, flags)))
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        healthy(site, NAME, "/healthz").await
    }
}
