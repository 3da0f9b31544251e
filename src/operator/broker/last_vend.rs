//! `HubUser.status.lastVendTime`, at most hourly for each user, and never in the way of
//! an answer.

use std::sync::Arc;
use std::time::Duration;

use hubstorage_core::api::HubUser;
use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, ResourceExt};
use moka::future::Cache;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::FIELD_MANAGER;
use crate::clock::Clock;

/// How old the stored time has to be before it is written again.
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// A burst of first vends; what does not fit is noted at the user's next one.
const QUEUE: usize = 1024;

/// Where vends are noted.
#[derive(Clone)]
pub struct LastVend {
    queue: mpsc::Sender<(String, String)>,
}

impl LastVend {
    /// Starts writing, until `stop`.
    pub fn start(
        client: Client,
        users: Store<DeserializeGuard<HubUser>>,
        clock: Clock,
        stop: CancellationToken,
    ) -> Self {
        let (queue, mut vends) = mpsc::channel::<(String, String)>(QUEUE);
        // The watch shows our own write a moment late; until then this remembers it.
        let written = Cache::builder()
            .max_capacity(20_000)
            .time_to_live(Duration::from_secs(600))
            .build();
        let writer = Writer {
            client,
            users,
            clock,
            written,
        };
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            while let Some((namespace, name)) = vends.recv().await {
                writer.note(&namespace, &name).await;
            }
        }));
        Self { queue }
    }

    /// Notes a vend; forgets it if too many are waiting.
    pub fn vended(&self, namespace: &str, hub_user: &str) {
        _ = self
            .queue
            .try_send((namespace.to_owned(), hub_user.to_owned()));
    }
}

struct Writer {
    client: Client,
    users: Store<DeserializeGuard<HubUser>>,
    clock: Clock,
    written: Cache<String, ()>,
}

impl Writer {
    async fn note(&self, namespace: &str, name: &str) {
        let Some(user) = self.users.get(&ObjectRef::new(name).within(namespace)) else {
            return;
        };
        let now = (self.clock)();
        let Some(patch) = patch(&user, now) else {
            return;
        };
        let uid = user.uid().unwrap_or_default();
        if self.written.contains_key(&uid) {
            return;
        }
        let api = Api::<HubUser>::namespaced(self.client.clone(), namespace);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        match api.patch_status(name, &params, &Patch::Apply(patch)).await {
            Ok(_) => self.written.insert(uid, ()).await,
            // The next vend tries again.
            Err(error) => {
                tracing::warn!(namespace, hub_user = name, %error, "lastVendTime was not written")
            }
        }
    }
}

/// The status to apply, if the stored time is an hour old.
fn patch(user: &Arc<DeserializeGuard<HubUser>>, now: Timestamp) -> Option<serde_json::Value> {
    let user = user.0.as_ref().ok()?;
    let stored = user
        .status
        .as_ref()
        .and_then(|status| status.last_vend_time.as_ref());
    if stored.is_some_and(|stored| now.duration_since(stored.0) < HOUR) {
        return None;
    }
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    Some(serde_json::json!({
        "apiVersion": "hubstorage.io/v1alpha1",
        "kind": "HubUser",
        // The version, so that a younger user of the same name is not met: the API server ignores
        // the UID in a patch of a custom resource's status.
        "metadata": {"name": user.name_any(), "resourceVersion": user.metadata.resource_version},
        "status": {"lastVendTime": now.to_string()},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn user(last_vend: Option<&str>) -> Arc<DeserializeGuard<HubUser>> {
        let user = json!({
            "apiVersion": "hubstorage.io/v1alpha1", "kind": "HubUser",
            "metadata": {"name": "bob", "namespace": "earth", "uid": "u", "resourceVersion": "7"},
            "spec": {"hubRef": {"name": "earth"}, "username": "bob"},
            "status": {"observedGeneration": 1, "lastVendTime": last_vend},
        });
        Arc::new(serde_json::from_value(user).unwrap())
    }

    #[test]
    fn the_time_is_written_once_an_hour_in_whole_seconds() {
        let now: Timestamp = "2026-05-01T10:00:00.5Z".parse().unwrap();
        assert_eq!(patch(&user(Some("2026-05-01T09:30:00Z")), now), None);
        for stored in [None, Some("2026-05-01T09:00:00Z")] {
            let patch = patch(&user(stored), now).unwrap();
            assert_eq!(
                patch["status"],
                json!({"lastVendTime": "2026-05-01T10:00:00Z"})
            );
            assert_eq!(patch["metadata"]["resourceVersion"], "7");
        }
    }
}
