//! Whose pod it is, and which groups they are in.

use hubstorage_core::api::{GROUPS_ANNOTATION, HubStorage, STAMP_ANNOTATION, USERNAME_ANNOTATION};
use hubstorage_core::injection::{UserPods, WrittenByUser};
use hubstorage_core::names::{Groups, Username};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::{Denied, LivePod, World, hub_that_counts, refuse_older_than_guard};

/// Pods of the same user of which one has to run, or this one gets nothing; `None` if it stands for itself.
///
/// They are what the watch has seen: stamped by whom their source trusts, not older than the guard, and not
/// on their way out. Whether they have ended by themselves is for the caller to find out.
///
/// # Errors
/// [`Denied`] if it is nobody's pod.
pub fn servers_needed(
    pod: &ObjectMeta,
    world: &impl World,
) -> Result<Option<Vec<LivePod>>, Denied> {
    let namespace = pod.namespace.as_deref().unwrap_or_default();
    let hubs = world.hubs(namespace);
    let hub = hub_that_counts(&hubs, namespace)?;
    let sources = sources(hub, namespace)?;
    let (user, source) = recognise(pod, hub, &sources)?;
    let Some(needed) = source.depends_on() else {
        return Ok(None);
    };
    let guard = world.guard();
    let mut servers = world.pods(namespace);
    servers.retain(|server| {
        let server = &server.metadata;
        server.deletion_timestamp.is_none()
            && annotation(server, USERNAME_ANNOTATION) == Some(user.as_str())
            && recognise(server, hub, &sources).is_ok_and(|(_, source)| source.name() == needed)
            && refuse_older_than_guard(server, &guard).is_ok()
    });
    Ok(Some(servers))
}

/// The kinds of user pods of a hub.
pub(super) fn sources(hub: &HubStorage, namespace: &str) -> Result<Vec<UserPods>, Denied> {
    UserPods::of(hub, namespace).map_err(|error| Denied::SelectorInvalid {
        hub: hub.name_any(),
        cause: error.to_string(),
    })
}

/// The user that a trusted creator put on the pod, and the source by which it is trusted.
pub(super) fn recognise<'s>(
    pod: &ObjectMeta,
    hub: &HubStorage,
    sources: &'s [UserPods],
) -> Result<(Username, &'s UserPods), Denied> {
    let labels = pod.labels.clone().unwrap_or_default();
    WrittenByUser::refuse(&labels)?;
    let selecting = sources
        .iter()
        .find(|source| source.selects(&labels))
        .ok_or_else(|| Denied::NotAUserPod {
            hub: hub.name_any(),
        })?;
    let stamp = annotation(pod, STAMP_ANNOTATION).ok_or(Denied::StampMissing)?;
    // Sources may overlap: any that selects the pod may be the one that trusts its creator.
    let source =
        UserPods::trusting(sources, &labels, stamp).ok_or_else(|| Denied::StampUntrusted {
            stamp: stamp.to_owned(),
            source_name: selecting.name().to_owned(),
            hub: hub.name_any(),
        })?;
    let username = annotation(pod, USERNAME_ANNOTATION).ok_or(Denied::UsernameMissing)?;
    let user = Username::parse(username).map_err(|error| Denied::UsernameInvalid {
        cause: error.to_string(),
    })?;
    Ok((user, source))
}

/// The groups that the same creator put on the pod: for a pod that depends on a server, those of them that
/// such a server has, too.
pub(super) fn groups(
    pod: &ObjectMeta,
    user: &Username,
    source: &UserPods,
    servers: &[LivePod],
) -> Result<Groups, Denied> {
    let own = parse_groups(pod)?;
    let Some(needed) = source.depends_on() else {
        return Ok(own);
    };
    if servers.is_empty() {
        return Err(Denied::ServerNotRunning {
            user: user.to_string(),
            source_name: source.name().to_owned(),
            needed: needed.to_owned(),
        });
    }
    let theirs = servers.iter().map(|server| parse_groups(&server.metadata));
    let theirs: Vec<Groups> = theirs.collect::<Result<_, _>>()?;
    Ok(own.shared_with(&theirs))
}

fn parse_groups(pod: &ObjectMeta) -> Result<Groups, Denied> {
    Groups::parse(annotation(pod, GROUPS_ANNOTATION)).map_err(|error| Denied::GroupsInvalid {
        pod: pod.name.clone().unwrap_or_default(),
        cause: error.to_string(),
    })
}

fn annotation<'p>(pod: &'p ObjectMeta, key: &str) -> Option<&'p str> {
    Some(pod.annotations.as_ref()?.get(key)?.as_str())
}
