//! Why there is no connection.

use hubstorage_cloud::{CloudError, Disposition};
use hubstorage_core::api::Reason;

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// gcs and azure are in the API, but not built yet.
    #[error("StorageProvider {provider} is of a kind that is not supported yet; only spec.s3 is")]
    Unsupported {
        /// Name of the StorageProvider.
        provider: String,
    },
    /// The provider has no vending side.
    #[error("StorageProvider {provider} has no spec.s3.vending, so it vends nothing")]
    NoVending {
        /// Name of the StorageProvider.
        provider: String,
    },
    /// A Secret is missing, or lacks a key.
    #[error("{field} of StorageProvider {provider}: {problem}")]
    Credentials {
        /// Name of the StorageProvider.
        provider: String,
        /// The field that refers to the Secret.
        field: &'static str,
        /// What is wrong, and with which Secret.
        problem: String,
    },
    /// The API server did not give the Secret for another reason.
    #[error("Secret {namespace}/{name} cannot be read: {cause}")]
    Unreadable {
        /// Namespace of the Secret.
        namespace: &'static str,
        /// Name of the Secret.
        name: String,
        /// What the API server said.
        cause: String,
    },
    /// The configuration does not make a client.
    #[error("spec.s3 of StorageProvider {provider}: {problem}")]
    Invalid {
        /// Name of the StorageProvider.
        provider: String,
        /// What is wrong.
        problem: String,
    },
    /// The provider points to another store than it did, and there are buckets at the first one.
    #[error(
        "StorageProvider {provider} was first seen at {first}, where hubs have buckets, and is at {now} now; nothing is \
         done there. Change its spec.s3 back, or make a new StorageProvider and new HubStorages and copy the data"
    )]
    OtherStore {
        /// Name of the StorageProvider.
        provider: String,
        /// The store that it was first seen at.
        first: String,
        /// The store that its spec says.
        now: String,
    },
    /// The keys belong to another account than the first ones, and there are buckets in that one.
    #[error(
        "StorageProvider {provider} was first seen in account {first} of {store}, where hubs have buckets, and its keys \
         are those of account {now} now; nothing is done there. Put keys of the first account into the Secret of \
         spec.s3.credentials, or make a new StorageProvider and new HubStorages and copy the data"
    )]
    OtherAccount {
        /// Name of the StorageProvider.
        provider: String,
        /// The store.
        store: String,
        /// The account that it was first seen in, as the store names it.
        first: String,
        /// The account that its keys belong to.
        now: String,
    },
    /// The store did not say whose the keys are.
    #[error(transparent)]
    Store(#[from] CloudError),
}

impl ConnectError {
    /// Whether trying again can help.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Store(error) => error.disposition(),
            Self::Unreadable { .. } => Disposition::Retry,
            _ => Disposition::Stall,
        }
    }

    /// The reason for conditions and metrics.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unsupported { .. } => Reason::Unsupported,
            Self::Invalid { .. } => Reason::InvalidConfiguration,
            Self::NoVending { .. } => Reason::VendingNotConfigured,
            Self::Credentials { .. } => Reason::CredentialsMissing,
            Self::Unreadable { .. } => Reason::StoreFailed,
            Self::Store(error) => reason_of(error),
            Self::OtherStore { .. } | Self::OtherAccount { .. } => Reason::ProviderMoved,
        }
    }
}

/// The reason that a store's error gives.
pub fn reason_of(error: &CloudError) -> Reason {
    match error {
        CloudError::Unreachable { .. } => Reason::EndpointUnreachable,
        CloudError::CredentialsRejected { .. } => Reason::CredentialsRejected,
        CloudError::NoCredentials { .. } => Reason::CredentialsMissing,
        CloudError::AccessDenied { .. } => Reason::AccessDenied,
        CloudError::OwnedByOthers { .. } => Reason::BucketOwnedByOthers,
        CloudError::InvalidBucketName { .. } => Reason::BucketNameInvalid,
        CloudError::Unsupported { .. }
        | CloudError::UnknownRules { .. }
        | CloudError::UnreadablePolicy { .. } => Reason::Unsupported,
        CloudError::InvalidCaBundle { .. }
        | CloudError::InvalidTrust { .. }
        | CloudError::PolicyRefused { .. } => Reason::InvalidConfiguration,
        CloudError::Throttled { .. } => Reason::Throttled,
        CloudError::NoSuchBucket { .. } | CloudError::Failed { .. } => Reason::StoreFailed,
    }
}
