//! Which container of a pod runs the user's code. It alone is given anything: what stands beside
//! it (a proxy of a service mesh, a course's file sync) is not the user's.

use super::pod::{Container, SentPod};
use super::{TOKEN_MOUNT_PATH, TOKEN_VOLUME};
use crate::api::{CONTAINER_ANNOTATION, UserContainer};

/// The container that KubeSpawner runs the notebook server in; a pod without one of this name
/// runs it in its first.
const NOTEBOOK: &str = "notebook";

/// The index in `spec.containers` of the one that runs the user's code: what the pod's own
/// annotation says goes before what its source says, and both before what is usual.
///
/// # Errors
/// Names who asks for a container that the pod does not have. Another one is no replacement: the
/// credentials would go to whoever wrote that.
pub(super) fn of_user(
    pod: &SentPod<'_>,
    source: &str,
    chosen: Option<&UserContainer>,
) -> Result<usize, String> {
    let containers = pod.containers();
    let named = |name: &str| {
        containers
            .iter()
            .position(|container| container.name.as_str() == name)
    };
    let annotated = pod.annotation(CONTAINER_ANNOTATION);
    if let Some(name) = annotated {
        return named(name).ok_or_else(|| {
            format!("its annotation {CONTAINER_ANNOTATION} names the container {name:?}, which it does not have")
        });
    }
    let named_by_source = chosen.is_some_and(|chosen| chosen.name.is_some());
    // The webhook is called again when another has changed the pod after it, and a container may
    // stand before the user's by then.
    if let (false, Some(served)) = (named_by_source, containers.iter().position(has_token)) {
        return Ok(served);
    }
    let field = format!("spec.users.sources[{source}].container");
    match chosen {
        Some(UserContainer {
            name: Some(name), ..
        }) => named(name)
            .ok_or_else(|| format!("{field} names the container {name:?}, which it does not have")),
        Some(UserContainer {
            index: Some(index), ..
        }) => {
            let index = usize::from(*index);
            containers.get(index).map(|_| index).ok_or_else(|| {
                let count = containers.len();
                format!("{field} asks for the one at index {index}, and it has {count} of them")
            })
        }
        // A pod without any is left to the API server to refuse.
        _ => Ok(named(NOTEBOOK).unwrap_or(0)),
    }
}

/// Whether a container was given the token already.
fn has_token(container: &Container<'_>) -> bool {
    let mut mounts = container.volume_mounts.iter().flatten();
    mounts.any(|mount| {
        mount.name.as_str() == TOKEN_VOLUME && mount.mount_path.as_str() == TOKEN_MOUNT_PATH
    })
}
