//! Key prefixes that the users of a hub share.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest shared prefix, in characters: as long as a user's gets.
const MAX_LEN: usize = 63;

/// Starts what is the operator's own ([`super::Prefix::reserved`]).
const RESERVED: &str = "_hubstorage";

/// A key prefix that the users of a hub share, without the closing `/`, for example `_groups/ocean`.
///
/// Starts with `_`, as no user's does under either scheme: what is shared is never in somebody's own
/// prefix, whoever comes. Holds no wildcard, `..`, quote, white space or control character.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SharedPrefix(String);

/// Why a string is no shared prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("prefix {prefix:?} cannot be shared: {why}")]
pub struct InvalidSharedPrefix {
    prefix: String,
    why: &'static str,
}

impl SharedPrefix {
    /// # Errors
    /// [`InvalidSharedPrefix`] with what is wrong with it.
    pub fn parse(prefix: &str) -> Result<Self, InvalidSharedPrefix> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
        let is_no_part = |part: &str| ["", "_", "."].contains(&part);
        let why = if !prefix.starts_with('_') {
            "it has to start with `_`, which no user's prefix does"
        } else if prefix.starts_with(RESERVED) {
            "what starts with `_hubstorage` is the operator's own"
        } else if prefix.len() > MAX_LEN {
            "it is longer than 63 characters"
        } else if !prefix.chars().all(is_allowed) {
            "only ASCII letters, digits, `.`, `_`, `-` and `/` are taken"
        } else if prefix.contains("..") || prefix.split('/').any(is_no_part) {
            "a part of it is empty, `_` or `.`, or it holds `..`"
        } else {
            return Ok(Self(prefix.to_owned()));
        };
        let prefix = prefix.to_owned();
        Err(InvalidSharedPrefix { prefix, why })
    }
}

impl TryFrom<String> for SharedPrefix {
    type Error = InvalidSharedPrefix;

    fn try_from(prefix: String) -> Result<Self, Self::Error> {
        Self::parse(&prefix)
    }
}

impl From<SharedPrefix> for String {
    fn from(prefix: SharedPrefix) -> Self {
        prefix.0
    }
}

impl fmt::Display for SharedPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::names::{Prefix, PrefixScheme, Username};

    #[test]
    fn what_could_be_a_users_or_the_operators_or_is_active_somewhere_is_refused() {
        for wrong in [
            "",
            "ocean",
            "x--ocean",
            "/ocean",
            "_",
            "_/ocean",
            "_groups/",
            "_groups//ocean",
            "_groups/../bob",
            "_groups/.",
            "_..",
            "_hubstorage",
            "_hubstorage-canary-a",
            "_hubstorage/ocean",
            "_*",
            "_oc?an",
            "_${aws:username}",
            "_a b",
            "_\"",
            "_ö",
        ] {
            assert!(SharedPrefix::parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(SharedPrefix::parse(&format!("_{}", "a".repeat(63))).is_err());
        for right in ["_ocean", "_groups/ocean", "_groups/Ocean-2.1/a_b"] {
            assert_eq!(SharedPrefix::parse(right).unwrap().to_string(), right);
        }
    }

    proptest! {
        /// Neither is within the other: `a/` never begins `b/`.
        #[test]
        fn no_users_prefix_meets_one(shared in "_[a-z0-9._/-]{1,40}", user in "\\PC{1,80}") {
            let Ok(shared) = SharedPrefix::parse(&shared) else { return Ok(()) };
            let user = Username::parse(&user).unwrap();
            for scheme in [PrefixScheme::Escaped, PrefixScheme::Raw] {
                let Ok(own) = Prefix::of(&user, scheme) else { continue };
                let (own, shared) = (format!("{own}/"), format!("{shared}/"));
                prop_assert!(!own.starts_with(&shared) && !shared.starts_with(&own));
            }
        }
    }
}
