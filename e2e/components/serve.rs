//! `hubstorage serve`, two replicas of it behind the forwarder.

use anyhow::Result;
use async_trait::async_trait;

use super::{forwarder, operator};
use crate::component::Component;
use crate::process::Launch;
use crate::site::Site;

/// One replica.
pub struct Serve {
    name: &'static str,
    /// Webhook, broker, health.
    ports: &'static [&'static str; 3],
}

/// The first replica.
pub const SERVE_1: Serve = Serve {
    name: "serve-1",
    ports: &["serve-1-webhook", "serve-1-broker", "serve-1-health"],
};

/// The second replica.
pub const SERVE_2: Serve = Serve {
    name: "serve-2",
    ports: &["serve-2-webhook", "serve-2-broker", "serve-2-health"],
};

#[async_trait(?Send)]
impl Component for Serve {
    fn name(&self) -> &'static str {
        self.name
    }

    fn needs(&self) -> &'static [&'static str] {
        &["installation", "kube-controller-manager"]
    }

    fn ports(&self) -> &'static [&'static str] {
        self.ports
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        let [webhook, broker, health] = *self.ports;
        let mut launch = operator::launch(site, "serve", "serve.kubeconfig");
        launch.arguments.extend([
            format!("--webhook-listen={}", site.ports.address(webhook)?),
            format!("--broker-listen={}", site.ports.address(broker)?),
            format!("--health-listen={}", site.ports.address(health)?),
            format!("--webhook-url={}", forwarder::webhook_url(site)?),
            format!("--broker-url={}", forwarder::broker_url(site)?),
        ]);
        Ok(Some(launch))
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        operator::ready(site, self.ports[2]).await
    }
}
