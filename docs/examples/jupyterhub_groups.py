# Part of jupyterhub_config.py: tells HubStorage which groups a user is in, for grants with kind Group.
# Where the configuration has a modify_pod_hook already, call tell_groups there: there is one hook only.
import json


def tell_groups(spawner, pod):
    groups = [group.name for group in spawner.user.groups]
    pod.metadata.annotations["hubstorage.io/groups"] = json.dumps(groups)
    return pod


if "modify_pod_hook" in c.KubeSpawner:
    raise RuntimeError("there is a modify_pod_hook already: call tell_groups(spawner, pod) in it")
c.KubeSpawner.modify_pod_hook = tell_groups
