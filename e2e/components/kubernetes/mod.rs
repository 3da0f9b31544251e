//! Kubernetes from its Go modules: one binary, whose first argument names the component.

use anyhow::Result;

use crate::files;
use crate::go;
use crate::process::Launch;
use crate::site::Site;

mod api_server;
mod controller_manager;
mod etcd;
mod kube_proxy;
mod kubelet;
mod paper;
mod scheduler;

pub use api_server::ApiServer;
pub use controller_manager::ControllerManager;
pub use etcd::Etcd;
pub use kube_proxy::KubeProxy;
pub use kubelet::Kubelet;
pub use paper::{NODE, Paper, run as run_node};
pub use scheduler::Scheduler;

const SOURCE: &str = "e2e/platform";

/// Kept with the version in `e2e/platform/go.mod`.
const VERSION: (&str, &str, &str) = ("1", "36", "v1.36.3");

/// Builds the binary, for all components that run it; kubectl is a part of it.
pub async fn build(site: &Site) -> Result<()> {
    let ldflags = ldflags();
    let key = go::key()
        .await?
        .with("ldflags", &ldflags)
        .with_files_in(&site.checkout.path(SOURCE))?;
    let folder = go::built(site, "kubernetes", key, SOURCE, &ldflags, &[]).await?;
    site.link("bin/platform", &folder.join("platform"))?;
    // A script, so that it works in any folder and with any KUBECONFIG of the caller's.
    let kubectl = format!(
        "#!/bin/sh\nKUBECONFIG='{}' exec '{}' kubectl \"$@\"\n",
        crate::kubeconfig::admin_path(&site.checkout).display(),
        site.checkout.run("bin/platform").display(),
    );
    files::write_executable(&site.checkout.run("bin/kubectl"), kubectl)
}

/// The version goes into two packages; without it feature gates take the binary for an old one.
fn ldflags() -> String {
    let (major, minor, version) = VERSION;
    let mut flags = go::LDFLAGS.to_owned();
    for package in [
        "k8s.io/component-base/version",
        "k8s.io/client-go/pkg/version",
    ] {
        flags += &format!(
            " -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
        );
    }
    flags
}

/// A component of the binary with its flags.
fn launch(site: &Site, component: &str, flags: Vec<String>) -> Launch {
    let arguments = std::iter::once(component.to_owned()).chain(flags);
    Launch::new(site.checkout.run("bin/platform"), arguments)
}

/// The flags by which a component serves its health over TLS.
fn serving_flags(site: &Site, component: &str) -> Result<Vec<String>> {
    Ok(vec![
        format!("--bind-address={}", site.ports.host()),
        format!("--secure-port={}", site.ports.get(component)?),
        format!("--tls-cert-file={}", site.pki(&format!("{component}.crt"))),
        format!(
            "--tls-private-key-file={}",
            site.pki(&format!("{component}.key"))
        ),
    ])
}

/// Asks a component for its health.
async fn healthy(site: &Site, component: &str, path: &str) -> Result<()> {
    let url = format!("https://{}{path}", site.ports.address(component)?);
    crate::http::get(&url, Some(site.tls()?)).await.map(drop)
}
