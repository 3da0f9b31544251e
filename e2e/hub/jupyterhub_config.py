"""The hub of the local platform: what Zero to JupyterHub 4 configures where its chart is given no
values, but for what a host process without a volume cannot have (storage, network policies), and
the choices that tests make for a server.

Everything that varies comes from outside, by one of two ways. Of the hub, from its environment:

    HUB_NAMESPACE     where the pods go
    HUB_IMAGE         the image of the user's container
    HUB_URL           where hub and pods reach the hub, http://ADDRESS:PORT
    HUB_PROXY_URL     where browsers and tests reach everything, http://ADDRESS:PORT/
    HUB_PROXY_API     where the proxy takes its routes from the hub
    HUB_DASK_GATEWAY  where notebooks reach dask-gateway, ADDRESS:PORT; empty if there is none
    HUB_FOLDER        where its database is
    HUB_API_TOKEN, HUB_PASSWORD, HUB_COOKIE_SECRET, CONFIGPROXY_AUTH_TOKEN
                      secrets: of the service `e2e`, of every user, of the hub, of the proxy

Of one server, from the user options that are sent along with the request for it:

    {"kubespawner": {TRAIT: VALUE, ...}}

Each TRAIT is an option of KubeSpawner by its own name (image, extra_containers, init_containers,
start_timeout, mem_limit, ...) and holds for that one server. Only tests may be so free: a hub for
people would let anybody run anything.
"""

import os


def given(name):
    return os.environ[f"HUB_{name}"]


# -- The hub and its proxy --------------------------------------------------------------------

c.JupyterHub.bind_url = given("PROXY_URL")
c.JupyterHub.hub_bind_url = given("URL")
c.JupyterHub.db_url = f"sqlite:///{given('FOLDER')}/jupyterhub.sqlite"
c.JupyterHub.cookie_secret = bytes.fromhex(given("COOKIE_SECRET"))
c.ConfigurableHTTPProxy.api_url = given("PROXY_API")
c.ConfigurableHTTPProxy.should_start = False

# Servers, like the proxy, live on while the hub is restarted.
c.JupyterHub.cleanup_servers = False
c.JupyterHub.last_activity_interval = 60
# Answer a request for a server at once, rather than wait for the server for ten seconds.
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
c.JupyterHub.concurrent_spawn_limit = 64
# After so many failures in a row the hub ends itself: a fault in what admits pods shows here.
c.Spawner.consecutive_failure_limit = 5

# -- Who may come in --------------------------------------------------------------------------

# Any name is a user. The password is random, because pods reach this page too, and a user's code
# must not become somebody else by asking for it.
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = given("PASSWORD")
c.Authenticator.allow_all = True

c.JupyterHub.services = [{"name": "e2e", "api_token": given("API_TOKEN")}]
c.JupyterHub.load_roles = [
    {
        "name": "e2e",
        "services": ["e2e"],
        # Makes users and groups, starts and stops their servers, and gets tokens in their names.
        "scopes": ["admin:users", "admin:groups", "admin:servers", "admin:server_state", "tokens"],
    }
]

# -- Servers ----------------------------------------------------------------------------------

c.JupyterHub.allow_named_servers = True
c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
c.KubeSpawner.namespace = given("NAMESPACE")
c.KubeSpawner.image = given("IMAGE")
c.KubeSpawner.image_pull_policy = "IfNotPresent"
c.KubeSpawner.cmd = "jupyterhub-singleuser"
c.KubeSpawner.uid = 1000
c.KubeSpawner.fs_gid = 100
c.KubeSpawner.allow_privilege_escalation = False
c.KubeSpawner.mem_guarantee = "1G"
c.KubeSpawner.start_timeout = 300
c.KubeSpawner.events_enabled = True
# The chart's own labels take the place of KubeSpawner's, so that `heritage` is missing, as there.
c.KubeSpawner.common_labels = {
    "app": "jupyterhub",
    "app.kubernetes.io/name": "jupyterhub",
    "app.kubernetes.io/instance": given("NAMESPACE"),
    "app.kubernetes.io/managed-by": "kubespawner",
    "release": given("NAMESPACE"),
}
c.KubeSpawner.extra_labels = {"hub.jupyter.org/network-access-hub": "true"}
if given("DASK_GATEWAY"):
    # As in the daskhub chart: `dask_gateway.GatewayCluster()` needs no arguments.
    c.KubeSpawner.environment = {
        "DASK_GATEWAY__ADDRESS": f"http://{given('DASK_GATEWAY')}",
        "DASK_GATEWAY__PROXY_ADDRESS": f"gateway://{given('DASK_GATEWAY')}",
        "DASK_GATEWAY__AUTH__TYPE": "jupyterhub",
    }


def as_asked(spawner):
    """Sets what the user options ask for, and puts back what the last start of this server set."""
    configured = spawner.__dict__.setdefault("_before_user_options", {})
    for trait, value in configured.items():
        setattr(spawner, trait, value)
    configured.clear()
    for trait, value in spawner.user_options.get("kubespawner", {}).items():
        if not spawner.has_trait(trait):
            raise ValueError(f"user_options.kubespawner.{trait}: KubeSpawner has no such option")
        configured[trait] = getattr(spawner, trait)
        setattr(spawner, trait, value)


c.Spawner.pre_spawn_hook = as_asked

# As people are told to do it.
load_subconfig(
    "jupyterhub_groups.py",
    path=os.path.join(os.path.dirname(__file__), "../../docs/examples"),
)
