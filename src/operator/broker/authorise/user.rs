//! Whose pod it is, and which groups they are in.

use hubstorage_core::api::{GROUPS_ANNOTATION, HubStorage, STAMP_ANNOTATION, USERNAME_ANNOTATION};
use hubstorage_core::injection::{UserPods, WrittenByUser};
use hubstorage_core::names::{Groups, Username};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::{Denied, LivePod, World, hub_that_counts, refuse_older_than_guard};
use crate::guard::GuardState;

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
    let guard = world.guard();
    let Some(needed) = Needed::by(source, &user, hub, &sources, &guard) else {
        return Ok(None);
    };
    let mut servers = world.pods(namespace);
    servers.retain(|server| needed.is_met_by(&server.metadata));
    Ok(Some(servers))
}

/// What a pod has to be for another one of the same user that depends on it.
pub(super) struct Needed<'s> {
    /// Name of its source.
    source: &'s str,
    user: &'s Username,
    hub: &'s HubStorage,
    sources: &'s [UserPods],
    guard: &'s GuardState,
}

impl<'s> Needed<'s> {
    /// By the pods of a source; `None` if they stand for themselves.
    pub(super) fn by(
        source: &'s UserPods,
        user: &'s Username,
        hub: &'s HubStorage,
        sources: &'s [UserPods],
        guard: &'s GuardState,
    ) -> Option<Self> {
        Some(Self {
            source: source.depends_on()?,
            user,
            hub,
            sources,
            guard,
        })
    }

    fn is_met_by(&self, server: &ObjectMeta) -> bool {
        server.deletion_timestamp.is_none()
            && server.namespace == self.hub.metadata.namespace
            && annotation(server, USERNAME_ANNOTATION) == Some(self.user.as_str())
            && recognise(server, self.hub, self.sources)
                .is_ok_and(|(_, source)| source.name() == self.source)
            && refuse_older_than_guard(server, self.guard).is_ok()
    }
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

/// The groups that the same creator put on the pod: where a server is needed, those of them that one of
/// `servers` has, too. They were looked for before: hub and guard may say something else of them by now.
pub(super) fn groups(
    pod: &ObjectMeta,
    source: &UserPods,
    needed: Option<&Needed<'_>>,
    servers: &[LivePod],
) -> Result<Groups, Denied> {
    let own = parse_groups(pod)?;
    let Some(needed) = needed else {
        return Ok(own);
    };
    let servers = servers.iter().map(|server| &server.metadata);
    let servers = servers.filter(|server| needed.is_met_by(server));
    let theirs: Vec<Groups> = servers.map(parse_groups).collect::<Result<_, _>>()?;
    if theirs.is_empty() {
        return Err(Denied::ServerNotRunning {
            user: needed.user.to_string(),
            source_name: source.name().to_owned(),
            needed: needed.source.to_owned(),
        });
    }
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
