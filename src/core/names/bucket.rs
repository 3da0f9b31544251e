//! Bucket names and the patterns by which a provider says which of them hubs may claim.

use std::fmt;

use super::digest_base32;

/// A bucket name that S3, Google Cloud Storage and Azure (as a container) accept:
/// 3 to 63 characters of `[a-z0-9-]`, a letter or digit at both ends, no `--`.
///
/// Dots are left out on purpose: they break TLS in virtual-host addressing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BucketName(String);

/// Why a string is no bucket name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bucket name {name:?} is not valid: {why}")]
pub struct InvalidBucketName {
    name: String,
    why: &'static str,
}

impl BucketName {
    /// Parses a name that a person chose.
    ///
    /// # Errors
    /// [`InvalidBucketName`] with the rule that is broken
    /// (Amazon S3 User Guide, "General purpose bucket naming rules").
    pub fn parse(name: &str) -> Result<Self, InvalidBucketName> {
        let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
        let why = if !(3..=63).contains(&name.len()) {
            "it must have 3 to 63 characters"
        } else if !name.as_bytes().iter().all(inner) {
            "only lower-case letters, digits and hyphens are allowed"
        } else if name.starts_with('-') || name.ends_with('-') {
            "it must start and end with a letter or digit"
        } else if name.contains("--") {
            "two hyphens in a row are reserved or refused by some stores"
        } else if is_reserved(name) {
            "this beginning is reserved by Amazon S3"
        } else {
            return Ok(Self(name.to_owned()));
        };
        Err(InvalidBucketName {
            name: name.to_owned(),
            why,
        })
    }

    /// The default name: namespace and purpose for people, and 50 bits of a hash over the
    /// installation, so that two clusters with the same namespaces do not meet in one account.
    ///
    /// Deterministic: a crash between creating the bucket and writing it down cannot leave
    /// a second one behind. Not a secret and not an authorization key; ownership is decided by
    /// the owner tag alone.
    pub fn derive(installation: &str, namespace: &str, hub: &str, bucket: &str) -> Self {
        // NUL cannot stand in any of the parts, so the joined string reads back in one way only.
        let identity = [installation, namespace, hub, bucket].join("\0");
        let hash = &digest_base32(identity.as_bytes(), 10)[..10];
        let mut stem = String::new();
        for c in format!("{namespace}-{bucket}").chars().take(50) {
            if !(c == '-' && stem.ends_with('-')) {
                stem.push(c);
            }
        }
        // A namespace may be called what Amazon keeps for itself, such as xn--p1ai.
        let lead = if is_reserved(&stem) { "b-" } else { "" };
        Self(format!("{lead}{}-{hash}", stem.trim_matches('-')))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_reserved(name: &str) -> bool {
    ["xn-", "sthree-", "amzn-s3-demo-"]
        .iter()
        .any(|beginning| name.starts_with(beginning))
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One entry of a provider's `bucketNames`: a name, in which `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketNamePattern(String);

impl BucketNamePattern {
    /// Takes a pattern as it stands in the spec; the CRD's schema bounds its characters.
    pub fn new(pattern: &str) -> Self {
        Self(pattern.to_owned())
    }

    /// Whether a hub may claim `name` under this pattern.
    pub fn allows(&self, name: &BucketName) -> bool {
        let mut rest = name.as_str();
        let mut parts = self.0.split('*').peekable();
        let Some(first) = parts.next() else {
            return false;
        };
        let Some(after) = rest.strip_prefix(first) else {
            return false;
        };
        rest = after;
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return rest.ends_with(part);
            }
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        // No `*` at all: the whole name must have been the first part.
        rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(pattern: &str, name: &str) -> bool {
        BucketNamePattern::new(pattern).allows(&BucketName::parse(name).unwrap())
    }

    #[test]
    fn a_pattern_without_a_star_allows_only_that_name() {
        assert!(allows("earth-data", "earth-data"));
        assert!(!allows("earth-data", "earth-data-2"));
        assert!(!allows("earth-data", "my-earth-data"));
    }

    #[test]
    fn a_star_stands_for_any_characters_and_for_none() {
        assert!(allows("earth-*", "earth-scratch"));
        assert!(!allows("earth-*", "mars-scratch"));
        assert!(allows("*-scratch", "earth-scratch"));
        assert!(allows("a*b*c", "abc"));
        assert!(allows("a*b*c", "axbxbxc"));
        assert!(!allows("a*b*c", "axcxb"));
        assert!(!allows("ab*b", "abc"));
        assert!(allows("*", "anything"));
    }

    #[test]
    fn the_end_of_a_pattern_does_not_overlap_its_beginning() {
        assert!(!allows("earth*earth", "earth"));
    }

    #[test]
    fn a_derived_name_is_valid_for_the_longest_and_the_oddest_parts() {
        let (long, longest_reserved) = ("n".repeat(63), format!("xn--{}", "n".repeat(59)));
        for namespace in [
            "earth",
            "0",
            &long,
            "a--b",
            "xn--p1ai",
            "sthree-x",
            &longest_reserved,
        ] {
            for bucket in ["scratch", "c-", "0"] {
                let name = BucketName::derive("install", namespace, "hub", bucket);
                assert_eq!(BucketName::parse(name.as_str()), Ok(name.clone()), "{name}");
            }
        }
    }

    #[test]
    fn derived_names_of_two_hubs_differ() {
        let name = |i, n, h, b| BucketName::derive(i, n, h, b);
        let here = name("i", "earth", "hub", "scratch");
        assert_ne!(here, name("other", "earth", "hub", "scratch"));
        assert_ne!(here, name("i", "earth", "other", "scratch"));
        assert_ne!(name("i", "a-b", "h", "c"), name("i", "a", "h", "b-c"));
    }

    #[test]
    fn a_derived_name_never_changes_once_released() {
        // A change here would make every hub look for its data in a new, empty bucket.
        assert_eq!(
            BucketName::derive("0b7a9c1e", "earth", "earth", "scratch").as_str(),
            "earth-scratch-ygkxcwuikz"
        );
    }

    #[test]
    fn a_bad_name_is_refused_with_the_rule_it_breaks() {
        for (name, rule) in [
            ("ab", "3 to 63"),
            ("Earth", "lower-case"),
            ("earth_data", "lower-case"),
            ("earth.data", "lower-case"),
            ("-earth", "start and end"),
            ("a--b", "two hyphens"),
            ("xn-earth", "reserved"),
        ] {
            let error = BucketName::parse(name).unwrap_err().to_string();
            assert!(error.contains(rule) && error.contains(name), "{error}");
        }
    }
}
