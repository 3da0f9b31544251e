//! `hubstorage-agent`, on loopback. It has no identity of its own: no kubeconfig.

use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;

use super::installation::AGENTS;
use super::{forwarder, operator};
use crate::component::Component;
use crate::files;
use crate::process::Launch;
use crate::site::Site;

/// The agent.
pub struct Agent;

/// Written by the controller: the CA by which the broker is known.
const CA_CONFIG_MAP: (&str, &str) = (AGENTS, "hubstorage-ca");

#[async_trait(?Send)]
impl Component for Agent {
    fn name(&self) -> &'static str {
        "agent"
    }

    fn needs(&self) -> &'static [&'static str] {
        &["controller", "forwarder"]
    }

    fn ports(&self) -> &'static [&'static str] {
        &["agent", "agent-metrics"]
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        let ca = site.checkout.run("broker-ca.crt");
        files::write_private(&ca, broker_ca(site).await?)?;
        let mut arguments = vec![
            format!("--listen={}", site.ports.address("agent")?),
            format!("--broker-url={}", forwarder::broker_url(site)?),
            format!("--broker-ca={}", ca.display()),
            format!("--metrics-listen={}", site.ports.address("agent-metrics")?),
        ];
        arguments.extend(operator::logs().map(|level| format!("--log-level={level}")));
        let program = operator::program(&site.checkout, "hubstorage-agent");
        Ok(Some(Launch::new(program, arguments)))
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        operator::ready(site, "agent-metrics").await
    }
}

/// In a cluster the kubelet mounts this ConfigMap into the agent's pod.
async fn broker_ca(site: &Site) -> Result<String> {
    let (namespace, name) = CA_CONFIG_MAP;
    let client = crate::running::admin_client(&site.checkout).await?;
    let config_maps: Api<ConfigMap> = Api::namespaced(client, namespace);
    let appears = async {
        loop {
            let found = config_maps.get_opt(name).await?;
            if let Some(ca) = found.and_then(|map| map.data?.remove("ca.crt")) {
                return Ok::<_, kube::Error>(ca);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let appeared = tokio::time::timeout(Duration::from_secs(30), appears).await;
    let missing = || {
        format!("the controller wrote no ConfigMap {namespace}/{name} with key ca.crt within 30 s")
    };
    Ok(appeared.with_context(missing)??)
}
