//! What of a PersistentVolumeClaim decides.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimStatus};
use kube::ResourceExt as _;

use super::StorageSize;
use crate::api::USERNAME_ANNOTATION;

/// The label by which homes are found: every KubeSpawner sets it (`get_pvc_manifest`), also where its own
/// `component_label` for pods is another.
pub const CLAIM_LABEL: &str = "component";

/// Its value.
pub const CLAIM_LABEL_VALUE: &str = "singleuser-storage";

/// The annotation in which KubeSpawner writes the name of a named server; the default server has none.
const SERVER_ANNOTATION: &str = "hub.jupyter.org/servername";

/// The resource that a claim asks for, and a volume has.
const STORAGE: &str = "storage";

/// A claim that is a home. There are thousands of them in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct HomeClaim {
    /// Name of the claim.
    pub name: Box<str>,
    /// UID and resource version with which it was seen: what is decided about it is done to it as it was.
    pub uid: Box<str>,
    /// See `uid`.
    pub version: Box<str>,
    /// The username as JupyterHub knows it.
    pub username: Box<str>,
    /// Name of the user's server that it is for; empty for the default one.
    pub server: Box<str>,
    /// What it asks for.
    pub requested: StorageSize,
    /// What its volume has, as far as the API server knows; none where it is not bound to one.
    pub capacity: Option<StorageSize>,
    /// Name of its StorageClass; none also where the claim says that it wants none.
    pub class: Option<Box<str>>,
    /// Where the growth of its volume is.
    pub resize: Resize,
    /// Whether it is being deleted.
    pub is_deleting: bool,
}

/// Where the growth of a volume is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resize {
    /// Nothing is told.
    Idle,
    /// The volume has grown, its file system grows when a pod mounts it.
    AwaitsServer,
    /// It failed, for this reason.
    Failed(Box<str>),
}

impl HomeClaim {
    /// What a claim says, if it is a home: it has the label, names a user, and asks for storage.
    pub fn of(claim: &PersistentVolumeClaim) -> Option<Self> {
        claim
            .labels()
            .get(CLAIM_LABEL)
            .filter(|label| *label == CLAIM_LABEL_VALUE)?;
        let username = claim.annotations().get(USERNAME_ANNOTATION)?;
        let server = claim.annotations().get(SERVER_ANNOTATION);
        let spec = claim.spec.as_ref()?;
        let requests = spec.resources.as_ref()?.requests.as_ref()?;
        let status = claim.status.clone().unwrap_or_default();
        let capacity = status.capacity.as_ref().and_then(|all| all.get(STORAGE));
        Some(Self {
            name: claim.name_any().into(),
            uid: claim.uid().unwrap_or_default().into(),
            version: claim.resource_version().unwrap_or_default().into(),
            username: username.as_str().into(),
            server: server.map(String::as_str).unwrap_or_default().into(),
            requested: requests.get(STORAGE)?.0.parse().ok()?,
            capacity: capacity
                .filter(|_| status.phase.as_deref() == Some("Bound"))
                .and_then(|capacity| capacity.0.parse().ok()),
            class: spec
                .storage_class_name
                .as_deref()
                .filter(|class| !class.is_empty())
                .map(Into::into),
            resize: resize(&status),
            is_deleting: claim.metadata.deletion_timestamp.is_some(),
        })
    }
}

/// The conditions are those of every Kubernetes that is supported; `allocatedResourceStatuses` is stable since 1.34
/// (`RecoverVolumeExpansionFailure`), and says of a failure whether it is one for good.
fn resize(status: &PersistentVolumeClaimStatus) -> Resize {
    let conditions = status.conditions.iter().flatten();
    let mut conditions = conditions.filter(|condition| condition.status == "True");
    let told = |type_: &str| type_.ends_with("ResizeError");
    if let Some(failed) = conditions.clone().find(|failed| told(&failed.type_)) {
        let message = failed.message.as_deref().unwrap_or(&failed.type_);
        return Resize::Failed(message.into());
    }
    let allocated = status.allocated_resource_statuses.as_ref();
    let allocated = allocated.and_then(|all| all.get(STORAGE));
    if let Some(infeasible) = allocated.filter(|allocated| allocated.ends_with("Infeasible")) {
        return Resize::Failed(infeasible.as_str().into());
    }
    match conditions.any(|condition| condition.type_ == "FileSystemResizePending") {
        true => Resize::AwaitsServer,
        false => Resize::Idle,
    }
}
