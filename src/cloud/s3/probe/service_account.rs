//! The body of a request for a MinIO service account that can never be granted.
//!
//! MinIO decrypts and reads the body before it looks at permissions (`commonAddServiceAccount`,
//! measured on v0.0.0-20260212201848): an empty or unreadable one gets 400 whoever asks, and tells
//! nothing. A readable one gets 403 from a session that may not. From one that may it gets 400,
//! because its policy is none; and should a version not mind that, a secret key without an access
//! key is refused too. So no account is ever made.
//!
//! The encryption keeps bodies from proxies (madmin's `EncryptData`). Of its three forms this is
//! the one without Argon2: salt (32 bytes), the form's number, nonce (8 bytes), then AES-256-GCM
//! under a key of PBKDF2-HMAC-SHA256 over the caller's secret key. Fragments are numbered in the
//! nonce; the associated data is a byte that marks the last fragment, and the tag of an empty
//! fragment 0.

use std::num::NonZeroU32;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::pbkdf2;
use ring::rand::{SecureRandom, SystemRandom};

const FORM_PBKDF2_AES_GCM: u8 = 2;
const ROUNDS: NonZeroU32 = NonZeroU32::new(8192).unwrap();
const LAST_FRAGMENT: u8 = 0x80;

const IMPOSSIBLE: &str = r#"{"policy":{"Version":"none","Statement":[]},"secretKey":"without-an-access-key","name":"hubstorage-probe"}"#;

/// The encrypted request.
pub(super) fn request(secret_key: &str) -> Result<Vec<u8>, String> {
    let mut random = [0u8; 40];
    SystemRandom::new()
        .fill(&mut random)
        .map_err(|_| "the system gives no random bytes".to_owned())?;
    let (salt, nonce) = random.split_at(32);
    seal(secret_key, salt, nonce).map_err(|_| "the request cannot be encrypted".to_owned())
}

fn seal(secret_key: &str, salt: &[u8], nonce: &[u8]) -> Result<Vec<u8>, ring::error::Unspecified> {
    let mut derived = [0u8; 32];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        ROUNDS,
        salt,
        secret_key.as_bytes(),
        &mut derived,
    );
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &derived)?);
    let fragment =
        |number: u32| Nonce::try_assume_unique_for_key(&[nonce, &number.to_le_bytes()].concat());

    let tag = key.seal_in_place_separate_tag(fragment(0)?, Aad::empty(), &mut [])?;
    let associated = [&[LAST_FRAGMENT], tag.as_ref()].concat();
    let mut sealed = IMPOSSIBLE.as_bytes().to_vec();
    key.seal_in_place_append_tag(fragment(1)?, Aad::from(associated), &mut sealed)?;
    Ok([salt, &[FORM_PBKDF2_AES_GCM], nonce, &sealed].concat())
}
