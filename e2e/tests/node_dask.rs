//! A Dask cluster, asked for in a notebook as people do: its pods compute, and name their user.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use hubstorage_e2e::Platform;
use hubstorage_e2e::components::hub::HUB;
use hubstorage_e2e::jupyterhub::{Hub, ServerOptions};
use serde_json::Value;

const OPEN: &str = "
from dask_gateway import GatewayCluster
cluster = GatewayCluster(shutdown_on_close=True)
cluster.scale(1)
client = cluster.get_client()
client.wait_for_workers(1, timeout=120)
print(client.submit(lambda: 6 * 7).result(timeout=60), end='')
";

#[tokio::test]
async fn a_cluster_computes_and_its_pods_name_their_user() {
    let platform = Platform::load().unwrap();
    let hub = Hub::of(&platform, &HUB).unwrap();
    let user = "jo.smith@example.org";
    hub.start(user, &ServerOptions::default()).await.unwrap();
    let mut kernel = hub.kernel(user).await.unwrap();

    let answer = kernel.run(OPEN).await.unwrap().ok().unwrap();
    let pods = platform
        .kubectl([
            "get",
            "pods",
            "-n",
            HUB.namespace,
            "-l=app.kubernetes.io/name=dask-gateway",
            "-o=json",
        ])
        .await
        .unwrap();
    let closed = kernel.run("cluster.close()").await.unwrap().ok();
    kernel.shut_down().await.unwrap();
    hub.stop(user).await.unwrap();

    assert_eq!(answer, "42");
    closed.unwrap();
    let pods: Value = serde_json::from_slice(&pods.stdout).unwrap();
    let pods = pods["items"].as_array().unwrap();
    assert_eq!(pods.len(), 2, "a scheduler and a worker: {pods:?}");
    for pod in pods {
        let annotations = &pod["metadata"]["annotations"];
        assert_eq!(annotations["hub.jupyter.org/username"], user);
        assert_eq!(
            annotations["hubstorage.io/created-by"],
            "system:serviceaccount:earth:dask-gateway-controller"
        );
    }
}
