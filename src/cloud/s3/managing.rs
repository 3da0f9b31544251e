//! Everything that the managing identity does, over one transport: the ambient identity is looked for once.

use super::{IamRoles, S3Config, S3Store, transport};
use crate::CloudError;

/// The managing side of S3 or a compatible.
#[derive(Debug)]
pub struct Managing {
    /// For buckets of our own account, where there are accounts.
    pub ours: S3Store,
    /// For buckets of whatever account.
    pub others: S3Store,
    /// For roles.
    pub roles: IamRoles,
}

impl Managing {
    /// Prepares the clients; nothing is called yet.
    ///
    /// # Errors
    /// [`CloudError::InvalidCaBundle`] and [`CloudError::NoCredentials`].
    pub async fn connect(config: &S3Config) -> Result<Self, CloudError> {
        let sdk = transport::connect(config).await?;
        Ok(Self {
            ours: S3Store::over(&sdk, config),
            others: S3Store::of_any_account(&sdk, config),
            roles: IamRoles::over(&sdk, config),
        })
    }
}
