//! The operator as people run it: in pods, installed by Helm from the chart of this checkout. Not a
//! process.

use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::process::Command;

use super::installation::{SYSTEM, write_keys};
use crate::checkout::Checkout;
use crate::commands::{printed, run_with_input};
use crate::component::Component;
use crate::images::{self, Image};
use crate::process::Launch;
use crate::running;
use crate::site::Site;

/// The release.
pub struct Release;

/// The name of the release.
const NAME: &str = "hubstorage";

/// How long its pods may take to be ready: images are on the node.
const READY_WITHIN: Duration = Duration::from_secs(120);

#[async_trait(?Send)]
impl Component for Release {
    fn name(&self) -> &'static str {
        "operator"
    }

    fn needs(&self) -> &'static [&'static str] {
        &[
            "kubelet",
            "kube-proxy",
            "kube-controller-manager",
            "kube-scheduler",
            "coredns",
            "helm",
            "minio",
            "operator-images",
        ]
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        let client = running::admin_client(&site.checkout).await?;
        // The agents need the controller's certificates, the controller needs nobody's keys to
        // make them: the Secrets may come later, as they do when a person installs.
        let settings = settings(
            &images::operator::operator(site).await?,
            &images::operator::agent(site).await?,
        )?;
        let mut arguments = vec![
            "upgrade",
            "--install",
            NAME,
            "charts/hubstorage",
            "--namespace",
            SYSTEM,
            "--create-namespace",
            // Of what somebody has edited by hand, as docs/install.md says.
            "--force-conflicts",
            "--wait",
        ];
        let timeout = format!("--timeout={}s", READY_WITHIN.as_secs());
        arguments.push(&timeout);
        arguments.extend(settings.iter().map(String::as_str));
        forget_unfinished(&site.checkout).await?;
        helm(&site.checkout, &arguments).await?;
        restrict(Api::all(client.clone())).await?;
        write_keys(site, &client).await?;
        Ok(None)
    }

    async fn ready(&self, _site: &Site) -> Result<()> {
        Ok(())
    }
}

/// The chart's values for the images that this platform made.
pub fn settings(operator: &Image, agent: &Image) -> Result<Vec<String>> {
    let mut settings = Vec::new();
    for (values, image) in [("image", operator), ("agent.image", agent)] {
        let (repository, tag) = image
            .reference
            .rsplit_once(':')
            .context("an image without a tag")?;
        settings.push(format!("--set={values}.repository={repository}"));
        settings.push(format!("--set-string={values}.tag={tag}"));
    }
    Ok(settings)
}

/// Runs Helm as the admin, in the folder of the checkout, and returns what it said.
pub async fn helm(checkout: &Checkout, arguments: &[&str]) -> Result<String> {
    let mut helm = Command::new(checkout.run("bin/helm"));
    helm.env_clear()
        .env("HOME", checkout.run("helm"))
        .env("KUBECONFIG", checkout.run("kubeconfig"))
        .current_dir(checkout.root())
        .args(arguments);
    let output = run_with_input(helm, b"").await?;
    printed(&output, &format!("helm {}", arguments.join(" ")))
}

/// An `up` that was killed leaves a release that Helm takes for one still under way, and refuses to
/// touch: it is taken for what it is. Nothing of the users is in it.
async fn forget_unfinished(checkout: &Checkout) -> Result<()> {
    let pending = ["list", "--pending", "--short", "--namespace", SYSTEM];
    if helm(checkout, &pending)
        .await?
        .lines()
        .any(|name| name == NAME)
    {
        helm(
            checkout,
            &["uninstall", NAME, "--namespace", SYSTEM, "--wait"],
        )
        .await?;
    }
    Ok(())
}

/// As docs/install.md has it: the strictest of the pod security standards for the operator.
async fn restrict(namespaces: Api<Namespace>) -> Result<()> {
    let label =
        json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    namespaces
        .patch(SYSTEM, &PatchParams::default(), &Patch::Merge(label))
        .await
        .map(drop)
        .with_context(|| format!("Namespace {SYSTEM}"))
}
