//! Whether a metadata service gives users' pods credentials of their node: tried by a pod with the labels of
//! one, on the nodes that it may run on.
//!
//! The pod that has ended is the record: it says what was found and when, to people and to a controller that
//! starts anew. It is made where somebody has allowed that in the hub's namespace, by a binding to
//! [`TRIAL_ROLE`]; the guard sees to it that the controller makes no other pods.

use hubstorage_core::api::{HubStorage, Mode, USERNAME_LABEL, check_request};
use hubstorage_core::names::fingerprint;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use super::BypassError;
use super::look::Like;
use crate::controller::Context;
use crate::guard::GuardState;
use crate::metadata_trial::{COMMAND, Outcome};

/// Name of the trial pod, in the hub's namespace.
pub const TRIAL_POD: &str = "hubstorage-metadata-trial";

/// Name of the ClusterRole that lets the controller make it, where it is bound.
pub const TRIAL_ROLE: &str = "hubstorage-metadata-trial";

/// The annotation that says for what a trial pod was made: another spec, image or check request is another
/// trial.
const TRIAL_ANNOTATION: &str = "hubstorage.io/trial";

/// Labels that are one server's own: with them the trial pod would be a user's pod.
const OF_ONE_SERVER: [&str; 2] = [USERNAME_LABEL, "hub.jupyter.org/servername"];

/// How long an outcome is taken for true: network policies change.
const HOLDS_FOR: SignedDuration = SignedDuration::from_hours(24);

/// How long a trial pod may take to end, its image pulled.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);

/// When a trial without an outcome is made again, unless somebody edits the hub or asks for a check before:
/// an image that cannot be pulled is not to mean a pod every few minutes.
const TRIED_AGAIN_AFTER: SignedDuration = SignedDuration::from_hours(6);

/// What is known of the metadata service, as users' pods see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataService {
    /// It gives them no credentials; in words, how that is known.
    GivesNothing(String),
    /// It gives them credentials; in words, whose.
    Gives(String),
    /// It is being tried.
    UnderWay,
    /// It was not tried; in words, why.
    Untried(String),
}

impl MetadataService {
    /// Whether somebody has found out what it gives.
    pub(super) fn is_known(&self) -> bool {
        matches!(self, Self::Gives(_) | Self::GivesNothing(_))
    }
}

/// Tells the outcome of the last trial, and begins another where one is due.
pub(super) async fn conduct(
    hub: &HubStorage,
    namespace: &str,
    like: Option<&Like>,
    context: &Context,
) -> Result<MetadataService, BypassError> {
    // Of those that do not block it themselves, if there are any.
    if like.is_some_and(|like| like.spec.blocks_metadata_service()) {
        let how = "users' pods block the metadata service themselves, by the init container of Zero to JupyterHub";
        return Ok(MetadataService::GivesNothing(how.to_owned()));
    }
    let untried = |why: String| Ok(MetadataService::Untried(why));
    let Some(image) = &context.trial_image else {
        return untried("the controller runs without --trial-image".to_owned());
    };
    let api: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let failed = |error| BypassError::at(format!("pod {namespace}/{TRIAL_POD}"))(error);
    let existing = match api.get_opt(TRIAL_POD).await {
        Err(error) if is_forbidden(&error) => return untried(not_allowed(namespace, &error)),
        answer => answer.map_err(failed)?,
    };
    let digest = digest(hub, image);
    let now = (context.clock)();
    if let Some(pod) = &existing {
        let stands = verdict(pod, now);
        if !is_due(pod, &stands, &digest, now) || like.is_none() {
            return Ok(stands);
        }
    }
    if let Some(unfit) = unfit(hub, context) {
        return untried(unfit.to_owned());
    }
    let Some(like) = like else {
        return untried("no server of a user runs, whose labels a trial pod would have".to_owned());
    };
    if let Some(pod) = existing {
        let params = DeleteParams::background().grace_period(0);
        let params = params.preconditions(Preconditions {
            uid: pod.uid(),
            resource_version: None,
        });
        match api.delete(TRIAL_POD, &params).await {
            Err(error) if is_gone(&error) => {}
            deleted => drop(deleted.map_err(failed)?),
        }
        // It may take a moment to be gone.
        return Ok(MetadataService::UnderWay);
    }
    match api
        .create(&PostParams::default(), &pod(hub, like, image, &digest))
        .await
    {
        Ok(_) => Ok(MetadataService::UnderWay),
        Err(error) if is_conflict(&error) => Ok(MetadataService::UnderWay),
        Err(error) if is_forbidden(&error) => untried(not_allowed(namespace, &error)),
        Err(error) => Err(failed(error)),
    }
}

/// Why no trial is made now, whoever may.
fn unfit(hub: &HubStorage, context: &Context) -> Option<&'static str> {
    if hub.spec.mode == Mode::Observe {
        return Some("mode Observe makes no trial pod");
    }
    match *context.guard.borrow() {
        GuardState::InForce { .. } => None,
        GuardState::Missing { .. } => {
            Some("the guard is not in force, which holds what a trial pod may be")
        }
    }
}

fn digest(hub: &HubStorage, image: &str) -> String {
    let generation = hub.metadata.generation.unwrap_or_default();
    let asked = check_request(&hub.metadata).unwrap_or_default();
    let uid = hub.uid().unwrap_or_default();
    fingerprint(format!("{uid} {generation} {image} {asked}").as_bytes())
}

/// Whether another trial is to be made, where there is somebody to make it like.
fn is_due(pod: &Pod, stands: &MetadataService, digest: &str, now: Timestamp) -> bool {
    let holds_for = match stands {
        // Half-done work is not thrown away: the next look sees what it was made for.
        MetadataService::UnderWay => return false,
        MetadataService::Untried(_) => TRIED_AGAIN_AFTER,
        MetadataService::Gives(_) | MetadataService::GivesNothing(_) => HOLDS_FOR,
    };
    let made_for = pod.annotations().get(TRIAL_ANNOTATION);
    age(pod, now) >= holds_for || made_for.is_none_or(|made_for| made_for != digest)
}

fn age(pod: &Pod, now: Timestamp) -> SignedDuration {
    let created = pod.creation_timestamp().map_or(now, |created| created.0);
    now.duration_since(created)
}

/// What a trial pod says, as it is now.
fn verdict(pod: &Pod, now: Timestamp) -> MetadataService {
    let status = pod.status.clone().unwrap_or_default();
    if let Some(deleted) = &pod.metadata.deletion_timestamp {
        return match now.duration_since(deleted.0) < PATIENCE {
            true => MetadataService::UnderWay,
            false => MetadataService::Untried(format!(
                "pod {TRIAL_POD} is not gone yet although it was deleted; its node may be lost"
            )),
        };
    }
    let message = terminated(&status);
    let outcome = message.and_then(|message| serde_json::from_str::<Outcome>(message).ok());
    match (status.phase.as_deref(), outcome) {
        (Some("Succeeded"), Some(Outcome::GivesNothing { how })) => {
            MetadataService::GivesNothing(how)
        }
        (Some("Succeeded"), Some(Outcome::Gives { what })) => MetadataService::Gives(what),
        (Some("Succeeded" | "Failed"), _) => MetadataService::Untried(format!(
            "pod {TRIAL_POD} has ended without an outcome: {}",
            status
                .reason
                .as_deref()
                .or(message)
                .unwrap_or("it says nothing")
        )),
        _ if age(pod, now) < PATIENCE => MetadataService::UnderWay,
        _ => MetadataService::Untried(format!(
            "pod {TRIAL_POD} does not come to its end: {}",
            waits_for(&status)
        )),
    }
}

fn terminated(status: &PodStatus) -> Option<&str> {
    let state = first_container(status)?.state.as_ref()?;
    state.terminated.as_ref()?.message.as_deref()
}

fn first_container(status: &PodStatus) -> Option<&ContainerStatus> {
    status.container_statuses.as_ref()?.first()
}

/// The reason alone: words of a kubelet or scheduler hold what changes from try to try.
fn waits_for(status: &PodStatus) -> String {
    let waiting = first_container(status).and_then(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        waiting.reason.clone()
    });
    let unmet = status.conditions.iter().flatten();
    let unmet = unmet.filter(|condition| condition.status != "True");
    let unmet = unmet
        .filter_map(|condition| condition.reason.clone())
        .next();
    waiting
        .or(unmet)
        .unwrap_or_else(|| "no node has begun with it".to_owned())
}

fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// Gone, or another pod by now.
fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if [404, 409].contains(&status.code))
}

/// Not in the API server's own words where those hold numbers that change, as a quota's do.
fn not_allowed(namespace: &str, error: &kube::Error) -> String {
    let words = error.to_string();
    if words.contains("cannot get resource") || words.contains("cannot create resource") {
        return format!(
            "the controller may make no trial pod in namespace {namespace}; docs/examples/metadata-trial.yaml allows it"
        );
    }
    tracing::warn!(namespace, %error, "no trial pod can be made");
    format!(
        "the API server refused a trial pod in namespace {namespace}: a quota or a policy; the controller's log has its words"
    )
}

/// The trial pod: no token, no volume, no rights; what a namespace of the level `restricted` admits.
fn pod(hub: &HubStorage, like: &Like, image: &str, digest: &str) -> Pod {
    let mut labels = like.labels.clone();
    labels.retain(|label, _| !OF_ONE_SERVER.contains(&label.as_str()));
    let pod: Value = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": TRIAL_POD,
            "labels": labels,
            "annotations": {TRIAL_ANNOTATION: digest},
            "ownerReferences": hub.owner_ref(&()).map(|owner| vec![owner]),
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "activeDeadlineSeconds": PATIENCE.as_secs(),
            "terminationGracePeriodSeconds": 1,
            "nodeSelector": like.spec.node_selector,
            "affinity": like.spec.node_affinity().map(|nodes| json!({"nodeAffinity": nodes})),
            "tolerations": like.spec.tolerations,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "trial",
                "image": image,
                "args": [COMMAND],
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
                "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
            }],
        },
    });
    // It is written here, field by field.
    serde_json::from_value(pod).unwrap_or_default()
}
