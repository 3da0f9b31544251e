//! `hubstorage controller`, as its own service account.

use anyhow::Result;
use async_trait::async_trait;

use super::operator;
use crate::component::Component;
use crate::process::Launch;
use crate::site::Site;

const TRIAL_IMAGE: &str = "localhost/hubstorage/hubstorage:trial";

/// The controller.
pub struct Controller;

#[async_trait(?Send)]
impl Component for Controller {
    fn name(&self) -> &'static str {
        "controller"
    }

    fn needs(&self) -> &'static [&'static str] {
        &["installation", "kube-controller-manager"]
    }

    fn ports(&self) -> &'static [&'static str] {
        &["controller-health"]
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        let mut launch = operator::launch(site, "controller", "controller.kubeconfig");
        let health = site.ports.address("controller-health")?;
        launch.arguments.push(format!("--health-listen={health}"));
        // No kubelet pulls it: tests say what became of a trial pod.
        launch
            .arguments
            .push(format!("--trial-image={TRIAL_IMAGE}"));
        Ok(Some(launch))
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        operator::ready(site, "controller-health").await
    }
}
