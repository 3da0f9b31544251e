//! kube-scheduler: binds pods that name no node to `paper`.

use anyhow::Result;
use async_trait::async_trait;

use super::{healthy, launch, serving_flags};
use crate::component::Component;
use crate::kubeconfig::{self, Identity};
use crate::process::Launch;
use crate::site::Site;

/// The scheduler.
pub struct Scheduler;

const NAME: &str = "kube-scheduler";

#[async_trait(?Send)]
impl Component for Scheduler {
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
        let config = site.checkout.run("kubernetes/scheduler.kubeconfig");
        kubeconfig::write(site, &config, &Identity::Certificate(NAME))?;
        let mut flags = serving_flags(site, NAME)?;
        flags.extend([
            format!("--kubeconfig={}", config.display()),
            "--leader-elect=false".to_owned(),
            "--profiling=false".to_owned(),
        ]);
        Ok(Some(launch(site, NAME, flags)))
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        healthy(site, NAME, "/healthz").await
    }
}
