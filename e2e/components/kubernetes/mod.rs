//! Kubernetes from its Go modules: one binary, whose first argument names the component.

use std::path::Path;

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::cache::Key;
use crate::commands::run_logged;
use crate::files;
use crate::process::Launch;
use crate::progress::Step;
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

/// Kept with the version in `e2e/platform/go.mod`.
const VERSION: (&str, &str, &str) = ("1", "36", "v1.36.3");

/// Builds the binary, for all components that run it.
async fn build(site: &Site) -> Result<()> {
    let source = site.checkout.path("e2e/platform");
    let mut key = Key::default()
        .with("go", go_version().await?)
        .with("ldflags", ldflags());
    for file in ["go.mod", "go.sum", "main.go"] {
        key = key.with_file(&source.join(file))?;
    }
    let folder = site
        .cache
        .entry(
            &site.progress,
            "kubernetes",
            key,
            async |folder: &Path, step: &Step| {
                step.now("waiting for another Go build");
                let _turn = site.go.acquire().await?;
                step.now("go build");
                let mut go = Command::new("go");
                go.current_dir(&source)
                    .env("CGO_ENABLED", "0")
                    .args(["build", "-trimpath", "-ldflags", &ldflags(), "-o"])
                    .arg(folder.join("platform"))
                    .arg(".");
                run_logged(&site.checkout, "build-kubernetes", step, go).await
            },
        )
        .await?;
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
    let mut flags = "-s -w".to_owned();
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

/// The toolchain that builds, for the key of what it built.
pub(crate) async fn go_version() -> Result<Vec<u8>> {
    let output = Command::new("go")
        .args(["env", "GOVERSION", "GOOS", "GOARCH"])
        .output()
        .await;
    Ok(output.context("could not run go")?.stdout)
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
