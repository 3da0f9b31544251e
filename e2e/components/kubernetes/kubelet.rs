//! The kubelet of the one node, in the mount namespace of its container runtime.

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use serde_json::json;

use crate::component::Component;
use crate::components::node::{
    CGROUP_ROOT, CLUSTER_DOMAIN, WORKER, beside_containerd, containerd_socket,
};
use crate::extent::NODE_ADDRESS;
use crate::files;
use crate::kubeconfig::{self, Identity};
use crate::process::Launch;
use crate::site::Site;

/// The kubelet.
pub struct Kubelet;

const NAME: &str = "kubelet";

#[async_trait(?Send)]
impl Component for Kubelet {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self) -> &'static [&'static str] {
        &["kube-apiserver", "containerd", "operator-images"]
    }

    fn ports(&self) -> &'static [&'static str] {
        &[NAME, "kubelet-health"]
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        let run = |name: &str| site.checkout.run(name).display().to_string();
        let config = site.checkout.run("kubernetes/kubelet.kubeconfig");
        kubeconfig::write(site, &config, &Identity::Certificate(NAME))?;
        let settings = site.checkout.run("kubernetes/kubelet.yaml");
        files::write_private(&settings, serde_yaml::to_string(&configuration(site)?)?)?;
        let flags = vec![
            NAME.to_owned(),
            format!("--config={}", settings.display()),
            format!("--kubeconfig={}", config.display()),
            format!("--hostname-override={WORKER}"),
            format!("--node-ip={NODE_ADDRESS}"),
            format!("--root-dir={}", run("kubelet")),
        ];
        let launch = beside_containerd(&site.checkout, &site.checkout.run("bin/platform"), flags)?;
        let launch = launch.with_input(settings);
        Ok(Some(
            launch.with_env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        ))
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        let health = format!("http://{}/healthz", site.ports.address("kubelet-health")?);
        crate::http::get(&health, None).await?;
        let nodes: Api<Node> = Api::all(crate::running::admin_client(&site.checkout).await?);
        let node = nodes
            .get(WORKER)
            .await
            .with_context(|| format!("node {WORKER}"))?;
        let conditions = node.status.and_then(|status| status.conditions);
        let ready = conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == "Ready");
        match ready {
            Some(ready) if ready.status == "True" => Ok(()),
            Some(ready) => bail!("{}", ready.message.as_deref().unwrap_or("not Ready")),
            None => bail!("it has not said how it is"),
        }
    }
}

fn configuration(site: &Site) -> Result<serde_json::Value> {
    let port = |name: &str| site.ports.get(name);
    Ok(json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "port": port(NAME)?,
        "healthzBindAddress": NODE_ADDRESS,
        "healthzPort": port("kubelet-health")?,
        "tlsCertFile": site.pki("kubelet.crt"),
        "tlsPrivateKeyFile": site.pki("kubelet.key"),
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": site.pki("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": format!("unix://{}", containerd_socket(&site.checkout).display()),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": CGROUP_ROOT,
        // Machines without version 2 of control groups are good enough for tests.
        "failCgroupV1": false,
        "failSwapOn": false,
        "enforceNodeAllocatable": [],
        // A full disk is the business of whoever owns the machine.
        "evictionHard": {"imagefs.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%"},
        "imageGCHighThresholdPercent": 100,
        "clusterDNS": [NODE_ADDRESS],
        "clusterDomain": CLUSTER_DOMAIN,
        "podLogsDir": site.checkout.run("logs/pods"),
        // Several users' servers start at once, from images that are there.
        "serializeImagePulls": false,
        "registryPullQPS": 0,
        "maxPods": 110,
        // Chains that nothing here uses, and that nobody would remove.
        "makeIPTablesUtilChains": false,
        // A volume that grows, and how full it is, are seen within seconds rather than minutes.
        "syncFrequency": "10s",
        "volumeStatsAggPeriod": "10s",
    }))
}
