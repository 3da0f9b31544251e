//! kube-apiserver.

use anyhow::Result;
use async_trait::async_trait;

use super::{healthy, launch, serving_flags};
use crate::component::Component;
use crate::extent::{Extent, NODE_ADDRESS};
use crate::kubeconfig::{self, Identity};
use crate::process::Launch;
use crate::site::Site;

/// The API server.
pub struct ApiServer;

/// The issuer of service account tokens, as most installers name it.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

#[async_trait(?Send)]
impl Component for ApiServer {
    fn name(&self) -> &'static str {
        "kube-apiserver"
    }

    fn needs(&self) -> &'static [&'static str] {
        &["etcd"]
    }

    fn ports(&self) -> &'static [&'static str] {
        &["kube-apiserver"]
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        let admin = kubeconfig::admin_path(&site.checkout);
        kubeconfig::write(site, &admin, &Identity::Certificate("admin"))?;

        let mut flags = serving_flags(site, "kube-apiserver")?;
        flags.extend([
            format!("--etcd-servers=https://{}", site.ports.address("etcd")?),
            format!("--etcd-cafile={}", site.pki("ca.crt")),
            format!("--etcd-certfile={}", site.pki("etcd.crt")),
            format!("--etcd-keyfile={}", site.pki("etcd.key")),
            "--authorization-mode=Node,RBAC".to_owned(),
            // Off by default; without it a node may ask for tokens of any audience.
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            format!("--client-ca-file={}", site.pki("ca.crt")),
            format!("--service-account-issuer={ISSUER}"),
            format!(
                "--service-account-key-file={}",
                site.pki("service-accounts.pub")
            ),
            format!(
                "--service-account-signing-key-file={}",
                site.pki("service-accounts.key")
            ),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--profiling=false".to_owned(),
        ]);
        if site.extent == Extent::Node {
            flags.extend([
                format!("--advertise-address={NODE_ADDRESS}"),
                // The node's name cannot be resolved.
                "--kubelet-preferred-address-types=InternalIP".to_owned(),
                format!("--kubelet-certificate-authority={}", site.pki("ca.crt")),
                format!("--kubelet-client-certificate={}", site.pki("admin.crt")),
                format!("--kubelet-client-key={}", site.pki("admin.key")),
            ]);
        } else {
            flags.extend([
                // Loopback is not accepted here; nobody is told this address, as the reconciler
                // that would publish it is off. TEST-NET-1, RFC 5737.
                "--advertise-address=192.0.2.1".to_owned(),
                "--endpoint-reconciler-type=none".to_owned(),
            ]);
        }
        Ok(Some(launch(site, "kube-apiserver", flags)))
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        healthy(site, "kube-apiserver", "/readyz").await
    }
}
