//! Tokens as the API server signs them, with its own key, and tokens as others would.

use hubstorage_e2e::Platform;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// Signs what it is told to.
pub struct Forge {
    key: EncodingKey,
    key_id: String,
}

impl Forge {
    /// With the key of the platform's API server.
    pub async fn of_the_api_server(platform: &Platform) -> Self {
        let pem = platform.checkout.run("kubernetes/pki/service-accounts.key");
        let pem = std::fs::read_to_string(pem).unwrap();
        let pair = rcgen::KeyPair::from_pem(&pem).unwrap();
        let keys = platform
            .kubectl_prints(&["get", "--raw", "/openid/v1/jwks"])
            .await
            .unwrap();
        let keys: Value = serde_json::from_str(&keys).unwrap();
        Self {
            key: EncodingKey::from_ec_der(&pair.serialize_der()),
            key_id: keys["keys"][0]["kid"].as_str().unwrap().to_owned(),
        }
    }

    /// With another key, which bears the name of that one.
    pub fn with_another_key(&self) -> Self {
        let pair = rcgen::KeyPair::generate().unwrap();
        Self {
            key: EncodingKey::from_ec_der(&pair.serialize_der()),
            key_id: self.key_id.clone(),
        }
    }

    /// With the same key under another name.
    pub fn under_another_name(&self) -> Self {
        Self {
            key: self.key.clone(),
            key_id: "of-nobody".to_owned(),
        }
    }

    pub fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.key_id.clone());
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }

    /// Signed by nobody.
    pub fn unsigned(&self, claims: &Value) -> String {
        let header = json!({"alg": "none", "kid": self.key_id});
        let signed = self.sign(claims);
        let claims = signed.split('.').nth(1).unwrap();
        format!("{}.{claims}.", base64url(header.to_string().as_bytes()))
    }

    /// Signed with the public key, taken for a shared secret.
    pub fn signed_with_the_public_key(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(self.key_id.clone());
        let public = Jwk::from_encoding_key(&self.key, Algorithm::ES256).unwrap();
        let public = serde_json::to_vec(&public).unwrap();
        jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(&public)).unwrap()
    }
}

/// What a token says.
pub fn claims(token: &str) -> Value {
    jsonwebtoken::dangerous::insecure_decode_claims(token.trim()).unwrap()
}

/// RFC 4648, section 5, without padding.
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let character = |bits: u32, shift: u32| char::from(ALPHABET[(bits >> shift & 63) as usize]);
    bytes
        .chunks(3)
        .flat_map(|chunk| {
            let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or_default());
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            [18, 12, 6, 0]
                .map(|shift| character(bits, shift))
                .into_iter()
                .take(chunk.len() + 1)
        })
        .collect()
}
