//! Step 1: the token itself, without asking anybody.
//!
//! What is no token of ours for us is refused here, so that garbage never reaches the API
//! server: form, claims and time first, which cost microseconds, then the signature. The keys are
//! the API server's own ([`super::keys`]). Only RS256 and ES256 are taken, and the key decides
//! which: a token cannot choose an algorithm for itself.

use axum::http::{HeaderMap, StatusCode, header};
use hubstorage_core::api::AUDIENCE;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, Validation};
use serde::Deserialize;

use super::keys::{Key, Keys};

/// Longest token, in bytes, here and at the agent: one of a projected volume has about 1,200.
pub const TOKEN_LIMIT: usize = 8 * 1024;

/// How far clocks may differ, in seconds.
const LEEWAY: i64 = 30;

/// Why a token is refused.
#[derive(
    Debug, Clone, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr, strum::VariantNames,
)]
pub enum TokenError {
    /// There is none.
    #[error(
        "the request carries no token: send `Authorization: Bearer` and the pod's projected token"
    )]
    TokenMissing,
    /// It is too long.
    #[error(
        "the token has {length} bytes, the limit is {TOKEN_LIMIT}; send the token that HubStorage mounts into the pod"
    )]
    TokenTooLong {
        /// Bytes received.
        length: usize,
    },
    /// It is no signed JSON Web Token.
    #[error(
        "this is not a service account token; send the content of the token file that HubStorage mounts into the pod"
    )]
    TokenMalformed,
    /// Signed in another way than the API server signs.
    #[error(
        "the token is signed with an algorithm other than RS256 and ES256, so this cluster did not issue it; send the \
         token that HubStorage mounts into the pod"
    )]
    TokenAlgorithm,
    /// For somebody else.
    #[error(
        "the token is not for the audience hubstorage.io; send the token that HubStorage mounts into the pod, not another one"
    )]
    TokenAudience,
    /// From somebody else.
    #[error(
        "the token was issued by another cluster; tell the administrators of the hub: agents have to ask the broker \
         of their own cluster (hubstorage-agent --broker-url)"
    )]
    TokenIssuer,
    /// Too old.
    #[error(
        "the token has expired; the kubelet renews the token file by itself, so read the file again for each request"
    )]
    TokenExpired,
    /// From the future.
    #[error(
        "the token is not valid yet: the clocks of the broker and the API server differ; tell the administrators of \
         the hub to synchronise them"
    )]
    TokenNotYetValid,
    /// For a service account, but for no pod.
    #[error("the token is not bound to a pod; send the token that HubStorage mounts into the pod")]
    TokenUnbound,
    /// With a key that nobody knows.
    #[error(
        "the token is signed with a key that this cluster does not have: another cluster issued it, or the key was \
         removed; restart the server to get a new token"
    )]
    TokenKeyUnknown,
    /// The signature is not of these bytes.
    #[error(
        "the signature of the token is wrong; send the content of the token file that HubStorage mounts into the pod, \
         unchanged"
    )]
    TokenForged,
    /// The API server's keys could not be had.
    #[error("the keys of the API server could not be read ({cause}); retry in a few seconds")]
    KeysUnavailable {
        /// What went wrong.
        cause: String,
    },
}

impl TokenError {
    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::KeysUnavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNAUTHORIZED,
        }
    }
}

/// What the API server vouches for in a token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Claims {
    iss: String,
    aud: Audience,
    exp: i64,
    #[serde(default)]
    nbf: i64,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Kubernetes>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Kubernetes {
    namespace: String,
    pod: Option<Reference>,
    serviceaccount: Reference,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Reference {
    name: String,
    #[serde(default)]
    uid: String,
}

/// The pod that a token was issued for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PodIdentity {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// UID of the pod.
    pub uid: String,
    /// Its service account.
    pub service_account: String,
}

/// A token in the right form; nothing in it is proven yet.
pub struct Presented<'r> {
    token: &'r str,
    algorithm: Algorithm,
    key_id: String,
    claims: Claims,
}

impl<'r> Presented<'r> {
    /// Takes the token from the request.
    ///
    /// # Errors
    /// [`TokenError`] if it cannot be a token of ours, whoever signed it.
    pub fn new(headers: &'r HeaderMap, now: Timestamp) -> Result<Self, TokenError> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let value = values.next().ok_or(TokenError::TokenMissing)?;
        if values.next().is_some() {
            return Err(TokenError::TokenMalformed);
        }
        Self::parse(bearer(value.as_bytes())?, now)
    }

    fn parse(token: &'r str, now: Timestamp) -> Result<Self, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(|error| match error.kind() {
            // "none", and whatever else the library has no name for.
            jsonwebtoken::errors::ErrorKind::Json(error) if error.is_data() => {
                TokenError::TokenAlgorithm
            }
            _ => TokenError::TokenMalformed,
        })?;
        if !matches!(header.alg, Algorithm::RS256 | Algorithm::ES256) {
            return Err(TokenError::TokenAlgorithm);
        }
        let key_id = header.kid.ok_or(TokenError::TokenMalformed)?;
        // Not yet trusted: what is refused by these claims would be refused with a good
        // signature too, and is refused here for less.
        let claims: Claims = jsonwebtoken::dangerous::insecure_decode_claims(token)
            .map_err(|_| TokenError::TokenMalformed)?;
        claims.check(now)?;
        Ok(Self {
            token,
            algorithm: header.alg,
            key_id,
            claims,
        })
    }

    /// The token as it was sent, for the TokenReview. Never logged.
    pub fn expose(&self) -> &'r str {
        self.token
    }

    /// Proves the signature.
    ///
    /// # Errors
    /// [`TokenError`] if this cluster's API server did not sign it.
    pub async fn verify(&self, keys: &Keys) -> Result<PodIdentity, TokenError> {
        let key = keys.find(&self.key_id, &self.claims.iss).await?;
        self.verify_with(&key)
    }

    fn verify_with(&self, key: &Key) -> Result<PodIdentity, TokenError> {
        if key.algorithm != self.algorithm {
            return Err(TokenError::TokenAlgorithm);
        }
        // The claims of the same bytes were checked above, by our own clock.
        let mut only_signature = Validation::new(key.algorithm);
        only_signature.required_spec_claims.clear();
        only_signature.validate_exp = false;
        only_signature.validate_aud = false;
        let proven = jsonwebtoken::decode::<Claims>(self.token, &key.decoding, &only_signature)
            .map_err(|_| TokenError::TokenForged)?;
        proven.claims.identity().ok_or(TokenError::TokenUnbound)
    }
}

/// The token of an `Authorization` header.
fn bearer(value: &[u8]) -> Result<&str, TokenError> {
    let (scheme, token) = value
        .split_at_checked(7)
        .ok_or(TokenError::TokenMalformed)?;
    if !scheme.eq_ignore_ascii_case(b"Bearer ") {
        return Err(TokenError::TokenMalformed);
    }
    let token = token.trim_ascii();
    match token.len() {
        0 => Err(TokenError::TokenMissing),
        length if length > TOKEN_LIMIT => Err(TokenError::TokenTooLong { length }),
        _ => std::str::from_utf8(token).map_err(|_| TokenError::TokenMalformed),
    }
}

impl Claims {
    fn check(&self, now: Timestamp) -> Result<(), TokenError> {
        let now = now.as_second();
        let is_for_us = match &self.aud {
            Audience::One(audience) => audience == AUDIENCE,
            Audience::Many(audiences) => audiences.iter().any(|audience| audience == AUDIENCE),
        };
        if !is_for_us {
            Err(TokenError::TokenAudience)
        } else if self.exp.saturating_add(LEEWAY) <= now {
            Err(TokenError::TokenExpired)
        } else if self.nbf.saturating_sub(LEEWAY) > now {
            Err(TokenError::TokenNotYetValid)
        } else if self.identity().is_none() {
            Err(TokenError::TokenUnbound)
        } else {
            Ok(())
        }
    }

    fn identity(&self) -> Option<PodIdentity> {
        let kubernetes = self.kubernetes.as_ref()?;
        let pod = kubernetes.pod.as_ref()?;
        let identity = PodIdentity {
            namespace: kubernetes.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            service_account: kubernetes.serviceaccount.name.clone(),
        };
        let complete = [
            &identity.namespace,
            &identity.name,
            &identity.uid,
            &identity.service_account,
        ];
        complete
            .iter()
            .all(|part| !part.is_empty())
            .then_some(identity)
    }
}

#[cfg(test)]
mod tests;
