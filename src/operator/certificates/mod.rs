//! Certificates of the webhook and the broker: one authority, kept by the controller in a Secret;
//! leaves that every serve replica signs for itself and holds in memory.
//!
//! - [`authority`]: what the authority is, and when it is renewed. Pure.
//! - [`publication`]: the authority in the cluster: Secret, ConfigMap and the webhook's caBundle.
//! - [`maintain`]: keeps all of that as it should be, for the controller.
//! - [`leaf`]: a server's certificate. Pure.
//! - [`serving`]: keeps the leaf of one replica fresh, for `serve`.

pub mod authority;
pub mod leaf;
mod maintain;
pub mod publication;
pub mod serving;
mod x509;

pub use maintain::maintain;
pub use publication::{Address, WebhookState};
pub use serving::Leaf;

/// Name of the Secret with the authority, in `hubstorage-system`, and of the ConfigMap with its
/// public part, in `hubstorage-agents`. Only the controller writes them.
pub const AUTHORITY_NAME: &str = "hubstorage-ca";

/// Key of the ConfigMap with the certificates that clients trust.
pub const BUNDLE_KEY: &str = "ca.crt";
