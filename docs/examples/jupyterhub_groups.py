# Part of jupyterhub_config.py: tells HubStorage which groups a user is in, for grants with kind Group.
import json


def with_groups(spawner, pod):
    groups = [group.name for group in spawner.user.groups]
    pod.metadata.annotations["hubstorage.io/groups"] = json.dumps(groups)
    return pod


c.KubeSpawner.modify_pod_hook = with_groups
