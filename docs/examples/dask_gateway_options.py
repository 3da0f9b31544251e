# Part of dask_gateway_config.py: names the user on every pod of their clusters, so that HubStorage knows whose
# it is. Where the configuration has an option handler already, add to what it returns what this one returns.
import json

from dask_gateway_server.options import Options


def name_user(options, user):
    # The annotation is what counts, whole; a label holds few characters, but without it the pod is not found, and
    # given nothing.
    label = "".join(c if c.isascii() and c.isalnum() else "-" for c in user.name)[:63]
    labels = {"hub.jupyter.org/username": label.strip("-") or "x"}
    annotations = {
        "hub.jupyter.org/username": user.name,
        "hubstorage.io/groups": json.dumps(sorted(user.groups)),
    }
    return {
        "scheduler_extra_pod_annotations": annotations,
        "scheduler_extra_pod_labels": labels,
        "worker_extra_pod_annotations": annotations,
        "worker_extra_pod_labels": labels,
    }


if "cluster_options" in c.Backend:
    raise RuntimeError("there are cluster_options already: merge what name_user(options, user) returns into theirs")
c.Backend.cluster_options = Options(handler=name_user)
