//! A user's notebook, wherever its code runs: in a real notebook server under a real hub, or, where
//! there is no node, as a process of this machine.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::components::hub::{HUB, account};
use crate::extent::Extent;
use crate::host_pod::{HostPod, ServiceAccount};
use crate::jupyterhub::{Hub, ServerOptions};
use crate::running::Platform;

/// One user's notebook.
pub enum Notebook {
    /// Its pod is an object only.
    OnPaper(Box<HostPod>),
    /// A server that the hub has started.
    Server {
        /// The hub.
        hub: Box<Hub>,
        /// Whose it is.
        user: String,
        /// The name of its pod.
        pod: String,
    },
}

impl Notebook {
    /// The user's notebook on the platform's hub, with what the hub does by default.
    pub async fn open(platform: &Platform, user: &str) -> Result<Self> {
        if Extent::of(&platform.checkout) == Some(Extent::Node) {
            let hub = Box::new(Hub::of(platform, &HUB)?);
            hub.start(user, &ServerOptions::default()).await?;
            let server = hub.server(user).await?;
            let state = server.and_then(|server| server.state);
            let pod = state.and_then(|state| state.pod_name);
            let pod = pod.with_context(|| format!("the hub names no pod of {user:?}"))?;
            let user = user.to_owned();
            return Ok(Self::Server { hub, user, pod });
        }
        let client = platform.client().await?;
        account::ensure(&client, HUB.namespace).await?;
        let creator = ServiceAccount::new(HUB.namespace, account::ACCOUNT);
        let pod = HostPod::create(platform, &creator, pod_on_paper(user)?).await?;
        Ok(Self::OnPaper(Box::new(pod)))
    }

    /// The name of its pod.
    pub fn pod(&self) -> &str {
        match self {
            Self::OnPaper(pod) => pod.name(),
            Self::Server { pod, .. } => pod,
        }
    }

    /// Runs a cell, and returns what it printed. An exception is an error with its traceback.
    pub async fn python(&self, code: &str) -> Result<String> {
        match self {
            Self::OnPaper(pod) => pod.python(code).await,
            Self::Server { hub, user, .. } => hub.run(user, code).await?.ok(),
        }
    }
}

/// A pod as KubeSpawner makes it.
fn pod_on_paper(user: &str) -> Result<Pod> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": format!("jupyter-{user}"),
            "labels": {
                "app": "jupyterhub", "component": "singleuser-server", "hub.jupyter.org/username": user,
            },
            "annotations": {"hub.jupyter.org/username": user},
        },
        "spec": {
            "automountServiceAccountToken": false,
            "securityContext": {"fsGroup": 100},
            "containers": [{
                "name": "notebook",
                "image": "quay.io/jupyter/base-notebook",
                "env": [{"name": "JUPYTERHUB_USER", "value": user}],
            }],
        },
    }))?)
}
