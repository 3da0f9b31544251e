//! A user's notebook, wherever its code runs: in a real notebook server under a real hub, in a pod
//! of somebody else's cluster, or, where there is no node, as a process of this machine.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::commands::printed;
use crate::components::hub::{HUB, account};
use crate::existing::given_image;
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
    /// A pod in somebody else's cluster, which no hub of ours could reach: it runs nothing but what
    /// it is told.
    InPod {
        /// The cluster.
        platform: Platform,
        /// The pod's name.
        pod: String,
    },
}

/// Names the image of user pods in somebody else's cluster.
const IMAGE: &str = "HUBSTORAGE_NOTEBOOK_IMAGE";

/// How long it may take to be pulled.
const PULLED_WITHIN: &str = "--timeout=600s";

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
        if Extent::of(&platform.checkout) == Some(Extent::Existing) {
            return Self::in_pod(platform, &creator, user).await;
        }
        let pod = pod(user, "quay.io/jupyter/base-notebook")?;
        let pod = HostPod::create(platform, &creator, pod).await?;
        Ok(Self::OnPaper(Box::new(pod)))
    }

    /// The image of users' pods in somebody else's cluster.
    ///
    /// # Errors
    /// If none is given.
    pub fn image() -> Result<String> {
        given_image(IMAGE).with_context(|| {
            format!(
                "{IMAGE} names no image: users need one with Python, xarray, zarr, dask, s3fs and boto3, \
                 such as pangeo/pangeo-notebook"
            )
        })
    }

    async fn in_pod(platform: &Platform, creator: &ServiceAccount, user: &str) -> Result<Self> {
        let client = platform.client_as_service_account(creator).await?;
        let pods: Api<Pod> = Api::namespaced(client, &creator.namespace);
        let pod = pods
            .create(&PostParams::default(), &pod(user, &Self::image()?)?)
            .await
            .with_context(|| format!("a pod of {user:?}"))?
            .name_any();
        let wait = ["wait", "--for=condition=Ready", PULLED_WITHIN];
        let runs = [&wait[..], &["-n", &creator.namespace, "pod", &pod]].concat();
        platform.kubectl_prints(&runs).await?;
        let platform = Platform::at(&platform.checkout);
        Ok(Self::InPod { platform, pod })
    }

    /// The name of its pod.
    pub fn pod(&self) -> &str {
        match self {
            Self::OnPaper(pod) => pod.name(),
            Self::Server { pod, .. } | Self::InPod { pod, .. } => pod,
        }
    }

    /// Runs a cell, and returns what it printed. An exception is an error with its traceback.
    pub async fn python(&self, code: &str) -> Result<String> {
        match self {
            Self::OnPaper(pod) => pod.python(code).await,
            Self::Server { hub, user, .. } => hub.run(user, code).await?.ok(),
            Self::InPod { platform, pod } => {
                let python = ["exec", "-i", "-n", HUB.namespace, pod, "--", "python", "-"];
                let said = platform.kubectl_with_input(python, code).await?;
                printed(&said, "python")
            }
        }
    }
}

/// A pod as KubeSpawner makes it, but for what it runs: nothing, until it is told.
fn pod(user: &str, image: &str) -> Result<Pod> {
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
            "securityContext": {"runAsUser": 1000, "fsGroup": 100},
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "notebook",
                "image": image,
                "command": ["sleep", "infinity"],
                "env": [{"name": "JUPYTERHUB_USER", "value": user}],
            }],
        },
    }))?)
}
