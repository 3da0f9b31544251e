//! From a StorageProvider and its Secrets to a connection.
//!
//! Two connections, never the same keys: the controller gets the managing side, `serve` the
//! vending side. Each is kept until the spec or the Secret changes, or nobody asks any more. Which
//! Secrets there are, and that one has changed, is followed by a watch of their metadata
//! ([`secrets`]); what one holds is read when a connection is made, and at no other time.
//!
//! Nobody is connected to another store or account than the one that a provider was first seen
//! with ([`moved`]), and all who call one store share one budget
//! ([`hubstorage_cloud::budget`]).

mod connections;
mod error;
mod kept;
mod keys;
mod moved;
mod s3;
mod secrets;

use std::sync::Arc;

use async_trait::async_trait;
use hubstorage_cloud::{CredentialSource, IsolationProbe, ObjectStore, RoleStore};
use hubstorage_core::api::StorageProvider;

pub use connections::Connections;
pub use error::{ConnectError, reason_of};
pub use moved::refuse_moved;
pub use secrets::SecretVersions;

/// The managing side of a provider.
#[derive(Clone)]
pub struct ManagingSide {
    /// For buckets that are ours to keep. On Amazon, those of another account are not.
    pub ours: Arc<dyn ObjectStore>,
    /// For buckets that somebody else keeps, in whatever account.
    pub others: Arc<dyn ObjectStore>,
    /// For the roles of hubs.
    pub roles: Arc<dyn RoleStore>,
}

/// The vending side of a provider.
#[derive(Clone)]
pub struct VendingSide {
    /// Issues credentials.
    pub source: Arc<dyn CredentialSource>,
    /// Tries whether they are held apart.
    pub probe: Arc<dyn IsolationProbe>,
    /// resourceVersion of the Secret with its keys; none where the identity is ambient.
    pub secret_version: Option<String>,
}

/// Makes connections; a trait so that tests connect to the cloud in memory.
#[async_trait]
pub trait Connect: Send + Sync {
    /// The managing side, at the store and in the account that the provider was first seen with.
    async fn managing(&self, provider: &StorageProvider) -> Result<ManagingSide, ConnectError>;

    /// The vending side.
    async fn vending(&self, provider: &StorageProvider) -> Result<VendingSide, ConnectError>;
}
