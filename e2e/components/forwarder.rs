//! The forwarder before the two replicas of `serve`, as a process of its own: what a Service is in
//! a cluster. See [`crate::forward`].

use anyhow::Result;
use async_trait::async_trait;

use super::this_program;
use crate::component::Component;
use crate::process::Launch;
use crate::site::Site;

/// The forwarder.
pub struct Forwarder;

/// Where the API server reaches the webhook.
pub fn webhook_url(site: &Site) -> Result<String> {
    Ok(format!(
        "https://{}",
        site.ports.address("forwarder-webhook")?
    ))
}

/// Where the agent reaches the broker.
pub fn broker_url(site: &Site) -> Result<String> {
    Ok(format!(
        "https://{}",
        site.ports.address("forwarder-broker")?
    ))
}

#[async_trait(?Send)]
impl Component for Forwarder {
    fn name(&self) -> &'static str {
        "forwarder"
    }

    fn ports(&self) -> &'static [&'static str] {
        &["forwarder-webhook", "forwarder-broker"]
    }

    async fn build(&self, site: &Site) -> Result<()> {
        this_program(site).map(drop)
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        let mut arguments = vec!["forward".to_owned()];
        for port in ["webhook", "broker"] {
            arguments.push(format!(
                "--route={}={},{}",
                site.ports.address(&format!("forwarder-{port}"))?,
                site.ports.address(&format!("serve-1-{port}"))?,
                site.ports.address(&format!("serve-2-{port}"))?,
            ));
        }
        Ok(Some(Launch::new(this_program(site)?, arguments)))
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        for port in self.ports() {
            crate::http::accepts(site.ports.address(port)?).await?;
        }
        Ok(())
    }
}
