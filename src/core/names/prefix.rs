//! Usernames to key prefixes.
//!
//! The prefix is the boundary between two users' data, so the encoder has to be injective on
//! bytes, and its output has to be inert wherever it is pasted: IAM policies (`*`, `?`, `${…}`
//! are active there), CEL, session names, URLs, file names.
//!
//! | form | when | shape |
//! |---|---|---|
//! | ordinary | `[a-z0-9]` first, then `[a-z0-9._@-]`, no `..`, no `.` at the end, at most 63 characters, not looking encoded | the name itself |
//! | escaped | everything else that fits into 63 characters | `x--` and the name, other bytes as `_` and two hex digits |
//! | hashed | what is longer | `h--`, up to 26 readable characters, `-`, 160 bits of SHA-256 in base 32 |
//!
//! The three forms cannot meet: a name that itself starts with `x--` or `h--` is never
//! ordinary. Nothing starts with `_`, so that prefixes of the hub itself (`_hubstorage`, groups)
//! are out of every user's reach. The table is frozen by golden vectors in
//! `tests/prefix_vectors.tsv`: a change to it would strand users' data.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::digest_base32;

/// The longest prefix, in characters. An AWS role session name holds 64
/// (`roleSessionNameType` in the STS model), a Kubernetes label value 63.
const MAX_LEN: usize = 63;

const ESCAPED: &str = "x--";
const HASHED: &str = "h--";

/// Bytes of SHA-256 in a hashed prefix: 160 bits, where 128 are asked for. KubeSpawner's slug
/// carries 32, which a patient user can collide on purpose.
const HASH_BYTES: usize = 20;

/// Readable characters kept in a hashed prefix: 3 + 26 + 1 + 32 = 62.
const HASHED_STEM: usize = 26;

/// The longest username, in characters (`users.name` in JupyterHub's database).
const LONGEST_USERNAME: usize = 255;

/// A username as JupyterHub knows it: not empty, otherwise any bytes that UTF-8 allows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Username(String);

/// Why a string is no username.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUsername {
    /// The annotation is there but holds nothing.
    #[error("the username is empty")]
    Empty,
    /// JupyterHub's own limit (`users.name`), and that of HubUser's `spec.username`.
    #[error("the username has {0} characters; JupyterHub allows 255")]
    TooLong(usize),
}

impl Username {
    /// Takes a username as it stands in the annotation `hub.jupyter.org/username`.
    ///
    /// # Errors
    /// [`InvalidUsername`] if it is empty or longer than JupyterHub lets a name be.
    pub fn parse(name: &str) -> Result<Self, InvalidUsername> {
        match name.chars().count() {
            0 => Err(InvalidUsername::Empty),
            length if length > LONGEST_USERNAME => Err(InvalidUsername::TooLong(length)),
            _ => Ok(Self(name.to_owned())),
        }
    }

    /// The name as the hub wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a hub turns usernames into key prefixes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PrefixScheme {
    /// Ordinary names as they are, all others escaped or hashed. Safe for every username.
    #[default]
    Escaped,
    /// Every name as it is, for hubs that already have data under such prefixes. Names that
    /// would be unsafe as a prefix get no access.
    Raw,
}

/// The key prefix that a user owns in a bucket, without the closing `/`.
///
/// Holds no wildcard, `/`, `..`, quote, white space or control character.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix(String);

/// Why a username cannot be a prefix under [`PrefixScheme::Raw`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "username {name:?} is not safe as a key prefix under prefixScheme Raw ({why}); \
     rename the user, or use prefixScheme Escaped on a new hub"
)]
pub struct UnsafeRawName {
    name: String,
    why: &'static str,
}

impl Prefix {
    /// The prefix of `user` under `scheme`.
    ///
    /// # Errors
    /// [`UnsafeRawName`], and only under [`PrefixScheme::Raw`].
    pub fn of(user: &Username, scheme: PrefixScheme) -> Result<Self, UnsafeRawName> {
        match scheme {
            PrefixScheme::Escaped => Ok(Self::escaped(user.as_str().as_bytes())),
            PrefixScheme::Raw => Self::raw(user.as_str()),
        }
    }

    /// The prefix of any byte string under [`PrefixScheme::Escaped`]; injective (beyond 63
    /// characters: as far as 160 bits of SHA-256 are).
    pub fn escaped(name: &[u8]) -> Self {
        match ordinary(name) {
            Some(ordinary) => Self(ordinary.to_owned()),
            None => escape(name).map_or_else(|| Self(hash(name)), Self),
        }
    }

    /// One of the hub's own prefixes, `_hubstorage-` and `purpose`: no username reaches it under
    /// either scheme, since neither lets a prefix start with `_`.
    pub fn reserved(purpose: &'static str) -> Self {
        Self(format!("_hubstorage-{purpose}"))
    }

    fn raw(name: &str) -> Result<Self, UnsafeRawName> {
        let refuse = |why| {
            let name = name.to_owned();
            Err(UnsafeRawName { name, why })
        };
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return refuse("it does not start with an ASCII letter or digit");
        }
        if name.contains("..") || name.ends_with('.') {
            return refuse("it holds `..` or ends with `.`");
        }
        if let Some(odd) = name
            .chars()
            .find(|c| !(c.is_ascii_alphanumeric() || "._@-".contains(*c)))
        {
            return refuse(match odd {
                '*' | '?' | '$' | '{' | '}' => {
                    "it holds a character that is active in IAM policies"
                }
                '/' => "it holds `/`",
                _ => "only ASCII letters, digits, `.`, `_`, `@` and `-` are taken as they are",
            });
        }
        // A session name is made of the prefix, and AWS takes 64 characters there.
        if name.len() > MAX_LEN {
            return refuse("it is longer than 63 characters");
        }
        Ok(Self(name.to_owned()))
    }

    /// The prefix without the closing `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// The name itself, if it may stand as it is.
fn ordinary(name: &[u8]) -> Option<&str> {
    let first_is_plain = name.first().copied().is_some_and(is_plain);
    let all_allowed = name.iter().all(|b| is_plain(*b) || b"._@-".contains(b));
    let text = std::str::from_utf8(name).ok()?;
    (first_is_plain
        && all_allowed
        && text.len() <= MAX_LEN
        && !text.contains("..")
        && !text.ends_with('.')
        && !text.starts_with(ESCAPED)
        && !text.starts_with(HASHED))
    .then_some(text)
}

/// `x--`, then each byte as itself or as `_` and two hex digits; `None` if that is too long.
/// `_` is never itself here, so the result reads back in one way only.
fn escape(name: &[u8]) -> Option<String> {
    let mut out = String::from(ESCAPED);
    for (i, byte) in name.iter().enumerate() {
        let dot_alone = *byte == b'.' && i > 0 && name[i - 1] != b'.' && i + 1 < name.len();
        if is_plain(*byte) || *byte == b'-' || *byte == b'@' || dot_alone {
            out.push(char::from(*byte));
        } else {
            out.push_str(&format!("_{byte:02x}"));
        }
        if out.len() > MAX_LEN {
            return None;
        }
    }
    Some(out)
}

/// `h--`, a readable stem, and 160 bits of SHA-256 over the whole name. The stem is for people;
/// only the hash tells names apart.
fn hash(name: &[u8]) -> String {
    let stem: String = name
        .iter()
        .filter(|byte| is_plain(**byte))
        .take(HASHED_STEM)
        .map(|byte| char::from(*byte))
        .collect();
    format!("{HASHED}{stem}-{}", digest_base32(name, HASH_BYTES))
}
