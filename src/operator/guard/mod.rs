//! The guard: admission policies that make the stamp, the username and the groups on a pod trustworthy.
//!
//! [`documents`] has the policies, [`state`] decides whether those in the cluster are ours and
//! since when, [`watch`] keeps that decision current.

mod documents;
mod state;
mod watch;

pub use documents::{Document, documents};
pub use state::{GuardState, Observed, SETTLING, judge};
pub use watch::{watch, watch_at};

/// The two kinds of object that the guard is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GuardKind {
    /// ValidatingAdmissionPolicy
    Policy,
    /// ValidatingAdmissionPolicyBinding
    Binding,
}

impl GuardKind {
    /// Stable since Kubernetes 1.30.
    pub const API_VERSION: &str = "admissionregistration.k8s.io/v1";

    /// The kind as it stands in an object.
    pub fn name(self) -> &'static str {
        match self {
            Self::Policy => "ValidatingAdmissionPolicy",
            Self::Binding => "ValidatingAdmissionPolicyBinding",
        }
    }

    /// The resource as it stands in a URL and in RBAC.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Policy => "validatingadmissionpolicies",
            Self::Binding => "validatingadmissionpolicybindings",
        }
    }
}
