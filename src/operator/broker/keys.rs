//! The keys with which the API server signs tokens.
//!
//! Read from its own discovery documents through the client that we trust anyway. Read again
//! when a token names a key or an issuer that is not known (keys are rotated), and then only
//! every few seconds, so that forged key ids cost the API server nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey};
use kube::Client;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::token::TokenError;

/// Shortest time between two looks at the API server's keys.
const PAUSE: Duration = Duration::from_secs(5);

/// One public key.
#[derive(Clone)]
pub struct Key {
    /// The one algorithm that it is for.
    pub algorithm: Algorithm,
    /// The key.
    pub decoding: DecodingKey,
}

struct KeySet {
    issuer: String,
    keys: HashMap<String, Key>,
}

/// The API server's keys, as far as they are known.
pub struct Keys {
    client: Client,
    known: ArcSwapOption<KeySet>,
    last_look: Mutex<Option<Instant>>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
}

impl Keys {
    /// None known yet.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            known: ArcSwapOption::empty(),
            last_look: Mutex::new(None),
        }
    }

    /// The key of this id, if `issuer` is this cluster's.
    ///
    /// # Errors
    /// [`TokenError::TokenKeyUnknown`], [`TokenError::TokenIssuer`], or
    /// [`TokenError::KeysUnavailable`] while none are known at all.
    pub async fn find(&self, id: &str, issuer: &str) -> Result<Key, TokenError> {
        match self.known(id, issuer) {
            Ok(key) => Ok(key),
            Err(unknown) => {
                self.look_again(id, issuer)
                    .await
                    .map_err(|cause| match (&unknown, cause) {
                        (TokenError::KeysUnavailable { .. }, Some(cause)) => {
                            TokenError::KeysUnavailable { cause }
                        }
                        _ => unknown,
                    })?;
                self.known(id, issuer)
            }
        }
    }

    /// Reads the keys if none are known yet.
    ///
    /// # Errors
    /// What went wrong, in one line.
    pub async fn load(&self) -> Result<(), String> {
        let mut last_look = self.last_look.lock().await;
        if self.known.load().is_some() {
            return Ok(());
        }
        *last_look = Some(Instant::now());
        self.read().await
    }

    fn known(&self, id: &str, issuer: &str) -> Result<Key, TokenError> {
        let known = self.known.load();
        let set = known.as_ref().ok_or_else(|| TokenError::KeysUnavailable {
            cause: "none are known yet".into(),
        })?;
        if set.issuer != issuer {
            return Err(TokenError::TokenIssuer);
        }
        set.keys.get(id).cloned().ok_or(TokenError::TokenKeyUnknown)
    }

    /// `Err` where another look was not made, or brought nothing.
    async fn look_again(&self, id: &str, issuer: &str) -> Result<(), Option<String>> {
        let mut last_look = self.last_look.lock().await;
        if self.known(id, issuer).is_ok() {
            // Somebody else looked while we waited for our turn.
            return Ok(());
        }
        if last_look.is_some_and(|last| last.elapsed() < PAUSE) {
            return Err(None);
        }
        *last_look = Some(Instant::now());
        self.read().await.map_err(Some)
    }

    async fn read(&self) -> Result<(), String> {
        let discovery: Discovery = self.get("/.well-known/openid-configuration").await?;
        let set: JwkSet = self.get("/openid/v1/jwks").await?;
        let keys = set
            .keys
            .iter()
            .filter_map(|jwk| Some((jwk.common.key_id.clone()?, key(jwk)?)))
            .collect();
        self.known.store(Some(Arc::new(KeySet {
            issuer: discovery.issuer,
            keys,
        })));
        Ok(())
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let request = http::Request::get(path)
            .body(Vec::new())
            .map_err(|error| error.to_string())?;
        self.client
            .request(request)
            .await
            .map_err(|error| format!("GET {path}: {error}"))
    }
}

/// A key that service account tokens may be signed with; `None` for every other kind.
fn key(jwk: &Jwk) -> Option<Key> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        _ => return None,
    };
    Some(Key {
        algorithm,
        decoding: DecodingKey::from_jwk(jwk).ok()?,
    })
}
