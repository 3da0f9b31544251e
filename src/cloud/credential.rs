//! Credentials, and strings that no log may show.

use std::fmt;

use jiff::Timestamp;

/// A string that formats as `[redacted]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret out of reach of every formatter.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself; called only where it goes onto the wire.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A short-lived credential as STS issues it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The access key id; not secret, and in every log of the store.
    pub access_key_id: String,
    /// The secret key.
    pub secret_access_key: Secret,
    /// The session token; without it the keys are worth nothing.
    pub session_token: Secret,
    /// When the store stops accepting it.
    pub expires: Timestamp,
}
