//! The node `paper`: an object, and the little of a kubelet that nobody else can do. Pods are bound
//! to it, so that a token can be bound to a pod, and their code runs as processes of this machine
//! (see [`crate::HostPod`]).

use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::component::Component;
use crate::components::this_program;
use crate::kubeconfig::{self, Identity};
use crate::process::Launch;
use crate::site::Site;

/// The node's name.
pub const NODE: &str = "paper";

/// How often the node looks for pods that are to go.
const LOOKS_EVERY: Duration = Duration::from_millis(250);

/// The node.
pub struct Paper;

#[async_trait(?Send)]
impl Component for Paper {
    fn name(&self) -> &'static str {
        "node"
    }

    fn needs(&self) -> &'static [&'static str] {
        &["kube-apiserver"]
    }

    async fn build(&self, site: &Site) -> Result<()> {
        this_program(site).map(drop)
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        let config = site.checkout.run("kubernetes/node.kubeconfig");
        kubeconfig::write(site, &config, &Identity::Certificate("node"))?;
        let launch = Launch::new(this_program(site)?, ["node"]);
        Ok(Some(
            launch.with_env("KUBECONFIG", config.display().to_string()),
        ))
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        let client = crate::running::admin_client(&site.checkout).await?;
        ensure(client).await.with_context(|| format!("node {NODE}"))
    }
}

/// Lets pods go that were deleted, as a kubelet does once their containers have ended. Without it
/// they, and their namespaces, would stay for ever. Runs as the node until the process is ended.
pub async fn run() -> Result<()> {
    let pods: Api<Pod> = Api::all(Client::try_default().await?);
    // From the API server's memory: cheap enough to be asked often.
    let on_this_node = ListParams::default()
        .fields(&format!("spec.nodeName={NODE}"))
        .match_any();
    loop {
        if let Err(error) = release_deleted(&pods, &on_this_node).await {
            // The API server may be restarted at any time.
            eprintln!("{error:#}");
        }
        tokio::time::sleep(LOOKS_EVERY).await;
    }
}

async fn release_deleted(pods: &Api<Pod>, on_this_node: &ListParams) -> Result<()> {
    for pod in pods.list(on_this_node).await? {
        if pod.metadata.deletion_timestamp.is_none() {
            continue;
        }
        let namespaced: Api<Pod> = Api::namespaced(
            pods.clone().into_client(),
            &pod.namespace().unwrap_or_default(),
        );
        let at_once = DeleteParams::default()
            .grace_period(0)
            .preconditions(Preconditions {
                uid: pod.uid(),
                ..Default::default()
            });
        match namespaced.delete(&pod.name_any(), &at_once).await {
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
            deleted => deleted.map(drop)?,
        }
    }
    Ok(())
}

/// Creates the node, or puts it right.
async fn ensure(client: Client) -> Result<()> {
    let nodes: Api<Node> = Api::all(client);
    let apply = PatchParams::apply("hubstorage-e2e").force();
    let node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux"}},
    });
    nodes.patch(NODE, &apply, &Patch::Apply(node)).await?;
    // Admission taints every new node as not ready, and the controller that would remove the
    // taint does not run, because it would also find that no kubelet reports.
    let untainted = json!({"spec": {"taints": null}});
    nodes
        .patch(NODE, &PatchParams::default(), &Patch::Merge(untainted))
        .await?;

    let room = json!({"cpu": "64", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": "10000"});
    let status = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "status": {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": NODE}],
            "capacity": room,
            "allocatable": room,
            "conditions": [{
                "type": "Ready",
                "status": "True",
                "reason": "OnPaper",
                "message": "pods of this node run as processes of the test machine",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }],
        },
    });
    nodes
        .patch_status(NODE, &apply, &Patch::Apply(status))
        .await?;
    Ok(())
}
