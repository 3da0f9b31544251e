//! Folders that the users of a hub share.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::subject::Subject;
use crate::shared::{MountPath, SubPath};

/// The rules of [`MountPath`] and [`SubPath`].
const IS_MOUNT_PATH: &str = "self.startsWith('/') && !self.contains(':') && !self.matches('\\\\p{Cc}') && !self.matches('^/(bin|boot|dev|etc|lib|lib64|proc|run|sbin|sys|usr|var/run)(/|$)') && self.substring(1).split('/').all(part, part != '' && part != '.' && part != '..')";
const IS_SUB_PATH: &str = "!self.matches('\\\\p{Cc}') && self.split('/').all(part, part != '' && part != '.' && part != '..')";

/// A folder that users find in their pods.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SharedFolder {
    /// Name of this folder, for example shared.
    #[schemars(length(min = 1, max = 40), pattern(r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: String,

    /// The PersistentVolumeClaim that holds it, in the namespace of the hub: with access mode ReadWriteMany, or
    /// ReadOnlyMany where nobody writes. Users' homes may be on it, too. While it is not there, or has no volume, pods
    /// start without the folder.
    #[schemars(
        length(min = 1, max = 253),
        pattern(r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")
    )]
    pub claim_name: String,

    /// The directory of the claim that is the folder, for example _shared; no two folders are in each other. The kubelet
    /// makes it at the first mount, as root's and with the mode of the volume's own. Not set: all of the claim, and so
    /// the homes that are on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new(IS_SUB_PATH)
        .message("subPath is a relative path such as _shared or groups/ocean: it begins and ends without a slash, holds no control character, and no part of it is empty, . or .."))]
    pub sub_path: Option<SubPath>,

    /// Where users find it, for example /home/jovyan/shared. A pod that has something mounted there keeps it.
    #[schemars(with = "String", length(min = 2, max = 255))]
    #[x_kube(validation = Rule::new(IS_MOUNT_PATH)
        .message("mountPath is an absolute path such as /home/jovyan/shared: it is none of the system's (/etc, /proc, /usr and such), ends without a slash, holds no colon and no control character, and no part of it is empty, . or .."))]
    pub mount_path: MountPath,

    /// Who finds it in their pods, to read. Default: everyone. Writers need not be among them.
    #[serde(default = "default_readers")]
    #[schemars(length(min = 1, max = 8))]
    pub readers: Vec<Subject>,

    /// Who may write to it. Not set: nobody, from users' pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writers: Option<SharedWriters>,
}

fn default_readers() -> Vec<Subject> {
    vec![Subject::everyone()]
}

impl SharedFolder {
    /// Whether a user who is in these groups may write to it.
    pub fn is_writable_by(&self, is_in: impl Fn(&str) -> bool) -> bool {
        let writers = self.writers.as_ref();
        writers.is_some_and(|writers| Subject::include(&writers.subjects, is_in))
    }
}

/// Who may write to a shared folder.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SharedWriters {
    /// Who. A group counts for what users start from a server (sources with dependsOn) neither here nor among readers:
    /// those pods have what everyone has. The name of a group begins with a letter or digit, and has these, spaces and
    /// . _ : @ / + = , # ( ) - only.
    #[schemars(length(min = 1, max = 8))]
    // The admission policy finds the name in the annotation as it stands, where other characters may be escaped.
    #[x_kube(validation = Rule::new("self.all(s, !has(s.name) || s.name.matches('^[A-Za-z0-9][A-Za-z0-9 ._:@/+=,#()-]*$'))")
        .message("the name of a group that writes begins with a letter or digit, and has these, spaces and . _ : @ / + = , # ( ) - only: give the group another name in the hub"))]
    pub subjects: Vec<Subject>,

    /// Where they find it to write, for example /home/jovyan/shared-readwrite; at mountPath it is read-only then for
    /// them, too. Not set: they write at mountPath.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", length(min = 2, max = 255))]
    #[x_kube(validation = Rule::new(IS_MOUNT_PATH)
        .message("writers.mountPath is an absolute path such as /home/jovyan/shared-readwrite: it is none of the system's (/etc, /proc, /usr and such), ends without a slash, holds no colon and no control character, and no part of it is empty, . or .."))]
    pub mount_path: Option<MountPath>,
}

/// What becomes of pods that do not keep to what is declared.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PodPolicy {
    /// What becomes of a new user pod that mounts a shared folder writable, and whose user is not among its writers.
    /// Deny: it is refused. Audit: it is let in, with a warning and a line in the audit log of the API server.
    #[serde(default)]
    pub enforcement: Enforcement,

    /// Names of init containers that may mount shared folders writable in every user's pod: those that set owners and
    /// rights before the server starts. No sidecars (restartPolicy Always).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 63)))]
    pub exempt_init_containers: Vec<String>,
}

/// What an admission policy does.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Enforcement {
    /// It tells.
    Audit,
    /// It refuses.
    #[default]
    Deny,
}

/// What is known of a shared folder.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SharedFolderStatus {
    /// Name of the folder.
    pub name: String,
    /// The claim that was looked at.
    pub claim_name: String,
    /// Whether nobody can write to the claim's volume.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// Why new pods are given no such folder, for machines; not set where they are.
    // A text, so that a process that does not know a reason can read what another version wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, for people, with the way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl SharedFolderStatus {
    /// Whether it is of this folder, on the claim that is declared.
    pub fn is_of(&self, folder: &SharedFolder) -> bool {
        self.name == folder.name && self.claim_name == folder.claim_name
    }

    /// Whether it tells that pods can mount this folder.
    pub fn lets_mount(&self, folder: &SharedFolder) -> bool {
        self.is_of(folder) && self.reason.is_none()
    }
}
