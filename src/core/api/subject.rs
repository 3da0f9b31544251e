//! Whom something is for.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whom a grant or a shared folder is for.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[x_kube(validation = Rule::new("(self.kind == 'Group') == has(self.name)")
    .message("kind Group needs name, and Everyone takes none"))]
pub struct Subject {
    /// Everyone: all users of the hub. Group: those whose pod names it in the annotation
    /// hubstorage.io/groups, which the hub writes.
    pub kind: SubjectKind,
    /// With kind Group: its name in the hub, to the letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub name: Option<String>,
}

impl Subject {
    /// Whether a user who is in these groups is among `subjects`.
    pub fn include(subjects: &[Self], is_in: impl Fn(&str) -> bool) -> bool {
        let is_it = |subject: &Self| match (subject.kind, &subject.name) {
            (SubjectKind::Everyone, _) => true,
            (SubjectKind::Group, Some(group)) => is_in(group),
            // The API server lets no group in that has no name.
            (SubjectKind::Group, None) => false,
        };
        subjects.iter().any(is_it)
    }

    /// All users of the hub.
    pub(super) fn everyone() -> Self {
        Self {
            kind: SubjectKind::Everyone,
            name: None,
        }
    }
}

/// Kind of subject.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
pub enum SubjectKind {
    /// Every user of the hub.
    Everyone,
    /// The users in a group of the hub.
    Group,
}
