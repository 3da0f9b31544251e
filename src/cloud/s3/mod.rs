//! S3 and its compatibles.

mod access_list;
mod account;
mod addresses;
mod answers;
mod contents;
mod elements;
mod errors;
mod managing;
mod probe;
mod roles;
mod rules;
mod settings;
mod store;
mod sts;
mod transport;

pub use addresses::is_link_local;
pub use managing::Managing;
pub use probe::S3Probe;
pub use roles::IamRoles;
pub use store::S3Store;
pub use sts::StsSource;

use std::fmt;

use errors::Parties;
use url::Url;

use crate::Secret;

/// Where a store is and who asks.
#[derive(Clone)]
pub struct S3Config {
    /// The region, which is also signed into every request; compatibles mostly take `us-east-1`.
    pub region: String,
    /// The endpoint of a compatible; none for AWS, whose endpoints follow from the region.
    pub endpoint: Option<Url>,
    /// Where the bucket stands in a URL.
    pub addressing: Addressing,
    /// The certificate authorities to trust, as PEM, in place of the system's.
    pub ca_bundle: Option<Vec<u8>>,
    /// The identity.
    pub keys: Keys,
}

/// Where the bucket stands in a URL.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Addressing {
    /// `https://endpoint/bucket/key`: what most compatibles need.
    Path,
    /// `https://bucket.endpoint/key`: AWS.
    #[default]
    VirtualHost,
}

/// An identity.
#[derive(Clone)]
pub enum Keys {
    /// Long-lived keys from a Secret.
    Static {
        /// Where they stand, as errors name it.
        from: String,
        /// `AWS_ACCESS_KEY_ID`.
        access_key_id: String,
        /// `AWS_SECRET_ACCESS_KEY`.
        secret_access_key: Secret,
    },
    /// Whatever the process finds around it: web identity, Pod Identity, instance role, env.
    Ambient,
}

impl S3Config {
    fn parties(&self) -> Parties {
        Parties {
            endpoint: self.endpoint_name(),
            keys: match &self.keys {
                Keys::Static { from, .. } => from.clone(),
                Keys::Ambient => "the identity of its service account or machine".to_owned(),
            },
        }
    }

    /// The name of the endpoint in messages.
    fn endpoint_name(&self) -> String {
        match &self.endpoint {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None => format!("of AWS in {}", self.region),
        }
    }
}

impl fmt::Debug for S3Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Config")
            .field("endpoint", &self.endpoint_name())
            .field("region", &self.region)
            .field("addressing", &self.addressing)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static { access_key_id, .. } => write!(f, "Static({access_key_id})"),
            Self::Ambient => f.write_str("Ambient"),
        }
    }
}
