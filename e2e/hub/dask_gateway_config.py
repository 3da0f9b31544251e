"""dask-gateway beside the hub, read by its server and by its controller: what its chart configures,
for processes outside the cluster.

From the environment:

    GATEWAY_NAMESPACE   where the pods of clusters go
    GATEWAY_IMAGE       what they run; it holds dask-gateway and distributed
    GATEWAY_ADDRESS     where the server listens, ADDRESS:PORT; pods reach it too
    GATEWAY_PROXY       where clients reach server and schedulers, ADDRESS:PORT
    GATEWAY_CONTROLLER  where the controller listens, ADDRESS:PORT
    GATEWAY_HUB_API     the REST API of the hub, which knows whose token it is
    DASK_GATEWAY_INSTANCE, DASK_GATEWAY_PROXY_TOKEN
"""

import os

from dask_gateway_server.backends.kubernetes import KubeBackend
from dask_gateway_server.proxy import Proxy


class Backend(KubeBackend):
    """Outside the cluster there is no Traefik to follow the routes that the controller writes, and
    no name of a Service means anything. dask-gateway's own proxy takes the routes instead, to the
    address of the scheduler's pod."""

    async def setup(self, app):
        self.proxy = Proxy(parent=self, log=self.log)
        await self.proxy.setup(app)
        await super().setup(app)

    async def cleanup(self):
        await super().cleanup()
        await self.proxy.cleanup()

    async def sync_cluster(self, cluster_name):
        await super().sync_cluster(cluster_name)
        scheduler = {"kind": "SNI", "sni": cluster_name}
        dashboard = {"kind": "PATH", "path": f"/clusters/{cluster_name}"}
        cluster = self.clusters.get(cluster_name)
        if cluster is None or not cluster.scheduler_address:
            await self.proxy.remove_route(**scheduler)
            await self.proxy.remove_route(**dashboard)
            return
        namespace, name = cluster_name.split(".")
        pod = await self.core_client.read_namespaced_pod(f"dask-scheduler-{name}", namespace)
        host = pod.status.pod_ip
        cluster.scheduler_address = f"tls://{host}:8786"
        cluster.dashboard_address = f"http://{host}:8787"
        cluster.api_address = f"http://{host}:8788"
        await self.proxy.add_route(**scheduler, target=cluster.scheduler_address)
        await self.proxy.add_route(**dashboard, target=cluster.dashboard_address)


def given(name):
    return os.environ[f"GATEWAY_{name}"]


c.DaskGateway.address = given("ADDRESS")
c.DaskGateway.backend_class = Backend
c.DaskGateway.authenticator_class = "dask_gateway_server.auth.JupyterHubAuthenticator"
c.JupyterHubAuthenticator.jupyterhub_api_url = given("HUB_API")
c.Backend.api_url = f"http://{given('ADDRESS')}/api"
c.Proxy.address = given("PROXY")
c.Proxy.gateway_url = f"http://{given('ADDRESS')}"

c.KubeController.address = given("CONTROLLER")
c.KubeController.api_url = f"http://{given('ADDRESS')}/api"

c.KubeClusterConfig.namespace = given("NAMESPACE")
c.KubeClusterConfig.image = given("IMAGE")
c.KubeClusterConfig.image_pull_policy = "IfNotPresent"
# The scripts `dask-scheduler` and `dask-worker` are gone from newer releases of distributed.
c.KubeClusterConfig.scheduler_cmd = ["dask", "scheduler"]
c.KubeClusterConfig.worker_cmd = ["dask", "worker"]
# The node has two cores, and more to do.
for role in ("scheduler", "worker"):
    c.KubeClusterConfig[f"{role}_cores"] = 0.1
    c.KubeClusterConfig[f"{role}_cores_limit"] = 1
    c.KubeClusterConfig[f"{role}_memory"] = "512 M"
    c.KubeClusterConfig[f"{role}_memory_limit"] = "1 G"

# As people are told to do it.
load_subconfig(
    "dask_gateway_options.py",
    path=os.path.join(os.path.dirname(__file__), "../../docs/examples"),
)
