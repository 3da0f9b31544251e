//! How a step of a reconcile ends. `Err` is left for what nobody expected.

use hubstorage_cloud::{CloudError, Disposition};
use hubstorage_core::api::{ConditionStatus, ConditionType, Reason, Verdict};

use crate::providers::ConnectError;

/// The end of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Everything is as it should be.
    Done,
    /// Something has to happen first; it is tried again with growing pauses.
    Wait {
        /// For machines.
        reason: Reason,
        /// For people.
        message: String,
    },
    /// Nothing moves until somebody changes something.
    Stalled {
        /// For machines.
        reason: Reason,
        /// For people, with the way out.
        message: String,
    },
}

impl Step {
    /// Stalled, for this reason.
    pub fn stalled(reason: Reason, message: impl Into<String>) -> Self {
        Self::Stalled {
            reason,
            message: message.into(),
        }
    }

    /// Tried again with growing pauses.
    pub fn retry(reason: Reason, message: impl Into<String>) -> Self {
        Self::Wait {
            reason,
            message: message.into(),
        }
    }
}

/// `Ready` is not, and why: `Reconciling` while it is tried again, `Stalled` until somebody
/// changes something.
pub(super) fn not_ready(why: ConditionType, reason: Reason, message: &str) -> Vec<Verdict> {
    use ConditionStatus::{False, True};
    vec![
        Verdict::new(ConditionType::Ready, False, reason, message),
        Verdict::new(why, True, reason, message),
    ]
}

/// The reason that a store's error gives.
fn reason_of(error: &CloudError) -> Reason {
    match error {
        CloudError::Unreachable { .. } => Reason::EndpointUnreachable,
        CloudError::CredentialsRejected { .. } => Reason::CredentialsRejected,
        CloudError::NoCredentials { .. } => Reason::CredentialsMissing,
        CloudError::AccessDenied { .. } => Reason::AccessDenied,
        CloudError::OwnedByOthers { .. } => Reason::BucketOwnedByOthers,
        CloudError::InvalidBucketName { .. } => Reason::BucketNameInvalid,
        CloudError::Unsupported { .. } | CloudError::UnknownRules { .. } => Reason::Unsupported,
        CloudError::InvalidCaBundle { .. } => Reason::InvalidConfiguration,
        CloudError::Throttled { .. } => Reason::Throttled,
        CloudError::NoSuchBucket { .. } | CloudError::Failed { .. } => Reason::StoreFailed,
    }
}

impl From<&CloudError> for Step {
    fn from(error: &CloudError) -> Self {
        match error.disposition() {
            Disposition::Retry => Self::retry(reason_of(error), error.to_string()),
            Disposition::Stall => Self::stalled(reason_of(error), error.to_string()),
        }
    }
}

impl From<&ConnectError> for Step {
    fn from(error: &ConnectError) -> Self {
        match error {
            ConnectError::Unreadable { .. } => Self::retry(error.reason(), error.to_string()),
            _ => Self::stalled(error.reason(), error.to_string()),
        }
    }
}
