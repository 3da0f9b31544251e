//! With what a hub's credentials are issued.

use hubstorage_cloud::AssumedRole;
use hubstorage_core::api::{BucketVending, StorageProvider};
use hubstorage_core::names::Prefix;
use hubstorage_core::roles::SessionRole;

/// The vending keys and the role. Another value is another identity: what was found about the one says
/// nothing about the other, and sessions of the one are not handed out for the other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Issuer {
    /// resourceVersion of the Secret with the vending keys; none where the identity is ambient or there
    /// is no Secret.
    pub secret_version: Option<String>,
    /// The role that is assumed; none where the store has no roles.
    pub role: Option<SessionRole>,
}

impl Issuer {
    /// ARN of the role.
    pub fn role_arn(&self) -> Option<&str> {
        self.role.as_ref().map(|role| role.arn.as_str())
    }

    /// The role as it is assumed for a session of whoever has this prefix.
    pub fn assumed_for<'r>(&'r self, prefix: &'r Prefix) -> Option<AssumedRole<'r>> {
        let role = self.role.as_ref()?;
        Some(AssumedRole {
            arn: &role.arn,
            tag: role.is_tagged.then_some(prefix),
        })
    }

    /// Id of the role, where the operator makes it.
    pub fn role_id(&self) -> Option<&str> {
        self.role.as_ref()?.id.as_deref()
    }

    /// Whether this was found out about credentials that were issued so.
    pub fn is_of(&self, found: &BucketVending) -> bool {
        found.secret_version == self.secret_version && found.role_id.as_deref() == self.role_id()
    }
}

/// Name of the Secret with the vending keys; none where the identity is ambient.
pub(super) fn vending_secret(provider: &StorageProvider) -> Option<&str> {
    let vending = provider.spec.s3.as_ref()?.vending.as_ref()?;
    vending.credentials.secret_name()
}
