//! Names: where untrusted strings become types that cannot be wrong.
//!
//! A JupyterHub username may hold any byte but `/`; everything made from one, and everything
//! that a platform engineer types as a name, passes through a constructor of this module once.

mod bucket;
mod groups;
mod object;
mod prefix;
mod role;
mod shared_prefix;

pub use bucket::{BucketName, BucketNamePattern, InvalidBucketName};
pub use groups::{Groups, InvalidGroups};
pub use object::{hub_user_name, session_name};
pub use prefix::{InvalidUsername, Prefix, PrefixScheme, UnsafeRawName, Username};
pub use role::{ROLE_PATH, RoleName, is_arn_of_ours};
pub use shared_prefix::{InvalidSharedPrefix, SharedPrefix};

use sha2::{Digest, Sha256};

/// Lower-case base 32 (RFC 4648, no padding) of the first `bytes` bytes of SHA-256 over `input`.
///
/// Base 32 rather than hex: 160 bits fit into 32 characters that are legal in bucket names,
/// object names, session names and URLs alike. `bytes` is a multiple of 5 at every call, so the
/// last group is never partial.
fn digest_base32(input: &[u8], bytes: usize) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let digest = Sha256::digest(input);
    let mut out = String::with_capacity(bytes * 8 / 5);
    for group in digest[..bytes].chunks(5) {
        let bits = group
            .iter()
            .fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        for shift in (0..8).rev() {
            out.push(char::from(ALPHABET[(bits >> (shift * 5) & 31) as usize]));
        }
    }
    out
}

/// 100 bits of SHA-256 in base 32: a short, stable name for a document, for cache keys and logs.
pub fn fingerprint(document: &[u8]) -> String {
    digest_base32(document, 15)[..20].to_owned()
}
