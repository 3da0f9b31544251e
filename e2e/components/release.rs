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
use crate::existing::given_image;
use crate::images;
use crate::process::Launch;
use crate::running;
use crate::site::Site;

/// The release.
pub struct Release {
    images: Images,
    needs: &'static [&'static str],
}

/// With the images that this platform has made.
pub const ON_NODE: Release = Release {
    images: Images::Made,
    needs: &[
        "kubelet",
        "kube-proxy",
        "kube-controller-manager",
        "kube-scheduler",
        "coredns",
        "helm",
        "minio",
        "operator-images",
    ],
};

/// With images that the cluster's nodes have, or can pull.
pub const IN_EXISTING: Release = Release {
    images: Images::Given,
    needs: &["cluster", "helm", "minio"],
};

/// The name of the release.
pub const NAME: &str = "hubstorage";

/// Where the images come from.
enum Images {
    Made,
    /// Named by these variables, or else by the chart.
    Given,
}

const OPERATOR_IMAGE: &str = "HUBSTORAGE_IMAGE";
const AGENT_IMAGE: &str = "HUBSTORAGE_AGENT_IMAGE";

impl Images {
    /// The chart's values for them.
    async fn settings(&self, site: &Site) -> Result<Vec<String>> {
        let (operator, agent) = match self {
            Self::Made => (
                Some(images::operator::operator(site).await?.reference),
                Some(images::operator::agent(site).await?.reference),
            ),
            Self::Given => (given_image(OPERATOR_IMAGE), given_image(AGENT_IMAGE)),
        };
        let mut settings = Vec::new();
        for (values, reference) in [("image", operator), ("agent.image", agent)] {
            let Some(reference) = reference else { continue };
            let split = reference.rsplit_once(':');
            let (repository, tag) = split.with_context(|| format!("{reference:?} has no tag"))?;
            settings.push(format!("--set={values}.repository={repository}"));
            settings.push(format!("--set-string={values}.tag={tag}"));
        }
        Ok(settings)
    }

    /// How long pods may take to be ready: the nodes of others may have to pull.
    fn ready_within(&self) -> Duration {
        match self {
            Self::Made => Duration::from_secs(120),
            Self::Given => Duration::from_secs(300),
        }
    }

    /// What may be wrong with them when pods do not become ready.
    fn hint(&self) -> String {
        match self {
            Self::Made => "the release".to_owned(),
            Self::Given => format!(
                "the release (do the nodes have its images? docs/kind.md makes and loads them, \
                 {OPERATOR_IMAGE} and {AGENT_IMAGE} name others; `kubectl get pods -n {SYSTEM}`)"
            ),
        }
    }
}

#[async_trait(?Send)]
impl Component for Release {
    fn name(&self) -> &'static str {
        "operator"
    }

    fn needs(&self) -> &'static [&'static str] {
        self.needs
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        let client = running::admin_client(&site.checkout).await?;
        // The agents need the controller's certificates, the controller needs nobody's keys to
        // make them: the Secrets may come later, as they do when a person installs.
        let mut settings = self.images.settings(site).await?;
        if let Images::Made = self.images {
            // The kubelet of this platform looks at volumes more often than others.
            settings.push("--set=controller.env[0].name=HUBSTORAGE_USAGE_INTERVAL".to_owned());
            settings.push("--set-string=controller.env[0].value=5".to_owned());
        }
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
        let timeout = format!("--timeout={}s", self.images.ready_within().as_secs());
        arguments.push(&timeout);
        arguments.extend(settings.iter().map(String::as_str));
        forget_unfinished(&site.checkout).await?;
        let installed = helm(&site.checkout, &arguments).await;
        installed.with_context(|| self.images.hint())?;
        restrict(Api::all(client.clone())).await?;
        write_keys(site, &client).await?;
        Ok(None)
    }

    async fn ready(&self, _site: &Site) -> Result<()> {
        Ok(())
    }
}

/// Runs Helm as the admin, in the folder of the checkout, and returns what it said.
pub async fn helm(checkout: &Checkout, arguments: &[&str]) -> Result<String> {
    let mut helm = Command::new(checkout.run("bin/helm"));
    // What a plugin of a kubeconfig needs stays; what would make it another Helm goes.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("HELM_")) {
            helm.env_remove(name);
        }
    }
    for home in ["CACHE", "CONFIG", "DATA"] {
        let folder = checkout.run("helm").join(home.to_lowercase());
        helm.env(format!("HELM_{home}_HOME"), folder);
    }
    helm.env("KUBECONFIG", checkout.run("kubeconfig"))
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
