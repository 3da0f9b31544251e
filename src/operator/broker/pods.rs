//! Step 3: the pod as it is now.
//!
//! Its metadata comes from the watch; the addresses and the phase, which metadata lacks, from one
//! GET for each version of the pod, so that a pod that has ended is seen as such and an idle one
//! costs nothing. The request must come from one of the pod's own addresses: a token that was
//! carried elsewhere is worth nothing there.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use axum::http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use kube::core::{ObjectMeta, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, ResourceExt};
use moka::future::Cache;

use super::token::PodIdentity;

/// Running pods whose addresses are remembered.
const REMEMBERED: u64 = 10_000;

/// Why a pod is not one to vend for.
#[derive(
    Debug, Clone, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr, strum::VariantNames,
)]
pub enum PodError {
    /// There is no pod of this name.
    #[error("pod {pod} does not exist any more; restart the server")]
    PodGone {
        /// `namespace/name`.
        pod: String,
    },
    /// There is one, but not the one that the token was issued for.
    #[error("pod {pod} was replaced by another of the same name; restart the server")]
    PodReplaced {
        /// `namespace/name`.
        pod: String,
    },
    /// It is on its way out.
    #[error("pod {pod} is being deleted, and gets no new credentials; restart the server")]
    PodTerminating {
        /// `namespace/name`.
        pod: String,
    },
    /// It has ended.
    #[error("pod {pod} has ended (phase {phase}), and gets no new credentials; restart the server")]
    PodFinished {
        /// `namespace/name`.
        pod: String,
        /// `Succeeded` or `Failed`.
        phase: String,
    },
    /// The kubelet has not reported its address yet.
    #[error("pod {pod} has no address in its status yet; retry in a second")]
    PodWithoutAddress {
        /// `namespace/name`.
        pod: String,
    },
    /// Somebody else uses its token.
    #[error(
        "the request came from {peer}, which is not an address of pod {pod}: a token is accepted only from its own \
         pod. If the pod's requests are translated to another address on their way, tell the administrators of the hub"
    )]
    PodElsewhere {
        /// `namespace/name`.
        pod: String,
        /// Where the request came from.
        peer: IpAddr,
    },
    /// The API server did not say.
    #[error("pod {pod} could not be read ({cause}); retry in a few seconds")]
    PodUnreadable {
        /// `namespace/name`.
        pod: String,
        /// What went wrong.
        cause: String,
    },
}

impl PodError {
    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::PodWithoutAddress { .. } | Self::PodUnreadable { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            _ => StatusCode::FORBIDDEN,
        }
    }
}

/// Metadata of a live pod: the one that the token was issued for, running, asking by itself.
pub type LivePod = Arc<PartialObjectMeta<Pod>>;

/// What a pod's metadata lacks.
#[derive(Debug, Clone)]
struct Running {
    resource_version: Option<String>,
    addresses: Vec<IpAddr>,
}

/// Which pod is looked up.
struct Sought {
    namespace: String,
    name: String,
    uid: String,
}

impl fmt::Display for Sought {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl From<&PodIdentity> for Sought {
    fn from(identity: &PodIdentity) -> Self {
        Self {
            namespace: identity.namespace.clone(),
            name: identity.name.clone(),
            uid: identity.uid.clone(),
        }
    }
}

impl From<&ObjectMeta> for Sought {
    fn from(pod: &ObjectMeta) -> Self {
        Self {
            namespace: pod.namespace.clone().unwrap_or_default(),
            name: pod.name.clone().unwrap_or_default(),
            uid: pod.uid.clone().unwrap_or_default(),
        }
    }
}

/// Looks pods up.
pub struct Pods {
    client: Client,
    watched: Store<PartialObjectMeta<Pod>>,
    running: Cache<String, Arc<Running>>,
}

impl Pods {
    /// Looks first into what the watch has seen.
    pub fn new(client: Client, watched: Store<PartialObjectMeta<Pod>>) -> Self {
        Self {
            client,
            watched,
            running: Cache::new(REMEMBERED),
        }
    }

    /// The pod of `identity`, if it lives and `peer` is its address.
    ///
    /// # Errors
    /// [`PodError`] otherwise.
    pub async fn live(&self, identity: &PodIdentity, peer: IpAddr) -> Result<LivePod, PodError> {
        let sought = &Sought::from(identity);
        let reference = ObjectRef::new(&sought.name).within(&sought.namespace);
        // One with another UID is older or newer than the watch knows: the API server decides.
        let watched = self
            .watched
            .get(&reference)
            .filter(|pod| pod.uid().as_deref() == Some(&sought.uid));
        let (pod, running) = self.as_it_is(watched, sought).await?;
        let peer = peer.to_canonical();
        if !running.addresses.contains(&peer) {
            return Err(PodError::PodElsewhere {
                pod: sought.to_string(),
                peer,
            });
        }
        Ok(pod)
    }

    /// Those of these pods that run; of each, as the watch has seen it last, is asked what the watch does not
    /// tell.
    ///
    /// # Errors
    /// [`PodError::PodUnreadable`] if the API server does not say.
    pub async fn running(&self, watched: Vec<LivePod>) -> Result<Vec<LivePod>, PodError> {
        let mut running = Vec::new();
        for pod in watched {
            let sought = Sought::from(&pod.metadata);
            match self.as_it_is(Some(pod), &sought).await {
                Ok((pod, _)) => running.push(pod),
                Err(unreadable @ PodError::PodUnreadable { .. }) => return Err(unreadable),
                Err(_) => {}
            }
        }
        Ok(running)
    }

    /// The pod from memory, if what is remembered is of the version that was `watched`, or from the API server.
    async fn as_it_is(
        &self,
        watched: Option<LivePod>,
        sought: &Sought,
    ) -> Result<(LivePod, Arc<Running>), PodError> {
        let remembered = self.running.get(&sought.uid).await;
        match (watched, remembered) {
            (Some(pod), Some(running)) if running.resource_version == pod.resource_version() => {
                refuse_if_terminating(&pod.metadata, sought)?;
                Ok((pod, running))
            }
            _ => self.read(sought).await,
        }
    }

    async fn read(&self, sought: &Sought) -> Result<(LivePod, Arc<Running>), PodError> {
        let pod = Api::<Pod>::namespaced(self.client.clone(), &sought.namespace)
            .get_opt(&sought.name)
            .await
            .map_err(|error| PodError::PodUnreadable {
                pod: sought.to_string(),
                cause: error.to_string(),
            })?
            .ok_or_else(|| PodError::PodGone {
                pod: sought.to_string(),
            })?;
        if pod.uid().as_deref() != Some(&sought.uid) {
            return Err(PodError::PodReplaced {
                pod: sought.to_string(),
            });
        }
        refuse_if_terminating(&pod.metadata, sought)?;
        let running = Arc::new(running(&pod, sought)?);
        self.running
            .insert(sought.uid.clone(), running.clone())
            .await;
        let metadata = pod.metadata;
        Ok((
            Arc::new(PartialObjectMeta {
                metadata,
                ..PartialObjectMeta::default()
            }),
            running,
        ))
    }
}

fn refuse_if_terminating(pod: &ObjectMeta, sought: &Sought) -> Result<(), PodError> {
    match pod.deletion_timestamp {
        Some(_) => Err(PodError::PodTerminating {
            pod: sought.to_string(),
        }),
        None => Ok(()),
    }
}

fn running(pod: &Pod, sought: &Sought) -> Result<Running, PodError> {
    let status = pod.status.clone().unwrap_or_default();
    if let Some(phase @ ("Succeeded" | "Failed")) = status.phase.as_deref() {
        return Err(PodError::PodFinished {
            pod: sought.to_string(),
            phase: phase.to_owned(),
        });
    }
    let addresses: Vec<IpAddr> = status
        .pod_ips
        .iter()
        .flatten()
        .filter_map(|address| address.ip.parse::<IpAddr>().ok())
        .map(|address| address.to_canonical())
        .collect();
    if addresses.is_empty() {
        return Err(PodError::PodWithoutAddress {
            pod: sought.to_string(),
        });
    }
    Ok(Running {
        resource_version: pod.resource_version(),
        addresses,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sought() -> Sought {
        Sought {
            namespace: "earth".into(),
            name: "jupyter-bob".into(),
            uid: "uid-1".into(),
        }
    }

    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": "jupyter-bob", "resourceVersion": "7"}, "status": status}),
        )
        .unwrap()
    }

    #[test]
    fn a_pod_that_has_ended_is_not_live() {
        for phase in ["Succeeded", "Failed"] {
            let ended = pod(json!({"phase": phase, "podIPs": [{"ip": "10.0.0.7"}]}));
            assert!(
                matches!(
                    running(&ended, &sought()),
                    Err(PodError::PodFinished { .. })
                ),
                "{phase}"
            );
        }
    }

    #[test]
    fn a_pod_without_address_is_told_to_retry() {
        let error = running(&pod(json!({"phase": "Pending"})), &sought()).unwrap_err();
        assert!(matches!(error, PodError::PodWithoutAddress { .. }));
        assert_eq!(error.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn all_addresses_of_a_pod_count_and_mapped_ones_are_unmapped() {
        let both = pod(
            json!({"phase": "Running", "podIPs": [{"ip": "::ffff:10.0.0.7"}, {"ip": "fd00::7"}]}),
        );
        let expected: Vec<IpAddr> = vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()];
        assert_eq!(running(&both, &sought()).unwrap().addresses, expected);
    }
}
