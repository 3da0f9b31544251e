//! Errors of a store, sorted by what can be done about them.

use hubstorage_core::api::Capability;
use hubstorage_core::names::{BucketName, RoleName};

/// Why a store did not do what it was asked.
///
/// Messages are shown in conditions and events: they name the object and the way out, and never
/// hold a key, a signature or a request id (which would change status at every try).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloudError {
    /// No answer: name resolution, connection, TLS or time-out.
    #[error(
        "endpoint {endpoint} is unreachable: {cause}; check spec.s3.endpoint, spec.s3.caBundle and the network"
    )]
    Unreachable {
        /// The endpoint as configured, or the service's default.
        endpoint: String,
        /// What the transport said, in one line.
        cause: String,
    },
    /// The store does not know the access key, or the secret does not match it.
    #[error("endpoint {endpoint} does not accept the keys of {keys} ({code}); correct them there")]
    CredentialsRejected {
        /// The endpoint.
        endpoint: String,
        /// Where they stand.
        keys: String,
        /// The store's error code.
        code: String,
    },
    /// There are no credentials to sign with.
    #[error("no credentials: {cause}")]
    NoCredentials {
        /// Where they were looked for.
        cause: String,
    },
    /// The bundle of certificate authorities is of no use.
    #[error("spec.s3.caBundle cannot be used: {cause}; give it certificates in PEM")]
    InvalidCaBundle {
        /// What is wrong with it.
        cause: String,
    },
    /// The keys are known but may not do this.
    #[error("permission {permission} is missing on {resource}; add it to the identity's policy")]
    AccessDenied {
        /// The IAM action, for example `s3:CreateBucket`.
        permission: &'static str,
        /// The bucket, or `*`.
        resource: String,
    },
    /// A bucket of this name exists and is not reachable with our keys.
    #[error("bucket {bucket} belongs to somebody else; choose another bucketName")]
    OwnedByOthers {
        /// The bucket.
        bucket: BucketName,
    },
    /// The store does not take the name.
    #[error("the store rejects the bucket name {bucket}: {cause}; choose another bucketName")]
    InvalidBucketName {
        /// The bucket.
        bucket: BucketName,
        /// What the store said.
        cause: String,
    },
    /// The store does not take a role's trust policy.
    #[error(
        "the store does not take the trust policy of role {role}: {cause}; check spec.s3.vending.role.trustedPrincipal of \
         the StorageProvider"
    )]
    InvalidTrust {
        /// The role.
        role: RoleName,
        /// What the store said.
        cause: String,
    },
    /// The store does not take a session policy.
    #[error(
        "the store does not take a session policy of {length} characters: {cause}; grant fewer prefixes, or use shorter \
         ones and shorter bucket names"
    )]
    PolicyRefused {
        /// Its length, in characters.
        length: usize,
        /// What the store said.
        cause: String,
    },
    /// The bucket was there a moment ago and is not any more.
    #[error("bucket {bucket} does not exist")]
    NoSuchBucket {
        /// The bucket.
        bucket: BucketName,
    },
    /// The store cannot do this at all.
    #[error("the store cannot {}", capability.words())]
    Unsupported {
        /// What it cannot do.
        capability: Capability,
    },
    /// Lifecycle rules of others hold what we cannot read, and so could not write back.
    #[error(
        "the lifecycle rules of bucket {bucket} hold {elements}, which writing ours would lose; \
         change that rule, or take lifecycle out of the spec"
    )]
    UnknownRules {
        /// The bucket.
        bucket: BucketName,
        /// The XML elements.
        elements: String,
    },
    /// The bucket's policy is not what we can read, and so could not be written back.
    #[error(
        "the policy of bucket {bucket} is no JSON object, which writing our statements would lose; correct it, or set \
         publicAccess and insecureTransport to Unmanaged"
    )]
    UnreadablePolicy {
        /// The bucket.
        bucket: BucketName,
    },
    /// The store asks for fewer calls.
    #[error("the store throttles {permission}; it is tried again later")]
    Throttled {
        /// The IAM action of the call.
        permission: &'static str,
    },
    /// Anything else the store said.
    #[error("{permission} on {resource} failed with {code}: {message}")]
    Failed {
        /// The IAM action of the call.
        permission: &'static str,
        /// The bucket, or `*`.
        resource: String,
        /// The store's error code, or the HTTP status.
        code: String,
        /// The store's message, in one line.
        message: String,
    },
}

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It may pass: try again with backoff.
    Retry,
    /// It stays until somebody changes the spec, a Secret or a policy.
    Stall,
}

impl CloudError {
    /// The same error, about this: for services whose calls are not about buckets.
    #[must_use]
    pub(crate) fn on(self, what: &str) -> Self {
        match self {
            Self::AccessDenied { permission, .. } => Self::AccessDenied {
                permission,
                resource: what.to_owned(),
            },
            Self::Failed {
                permission,
                code,
                message,
                ..
            } => Self::Failed {
                permission,
                resource: what.to_owned(),
                code,
                message,
            },
            other => other,
        }
    }

    /// Whether trying again can help.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Unreachable { .. }
            | Self::NoSuchBucket { .. }
            | Self::Throttled { .. }
            | Self::Failed { .. } => Disposition::Retry,
            Self::CredentialsRejected { .. }
            | Self::NoCredentials { .. }
            | Self::InvalidCaBundle { .. }
            | Self::AccessDenied { .. }
            | Self::OwnedByOthers { .. }
            | Self::InvalidBucketName { .. }
            | Self::InvalidTrust { .. }
            | Self::PolicyRefused { .. }
            | Self::Unsupported { .. }
            | Self::UnknownRules { .. }
            | Self::UnreadablePolicy { .. } => Disposition::Stall,
        }
    }
}
