//! Names of the roles that hubs' sessions are of.

use std::fmt;

use super::digest_base32;

/// Where all roles are that the operator makes: what the managing identity may make and the
/// vending identity may assume is held to this path (IAM identifiers, "Friendly names and paths").
pub const ROLE_PATH: &str = "/hubstorage/";

/// The name of a hub's role: at most 64 characters of `[a-z0-9.-]` (`roleNameType`, IAM).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoleName(String);

impl RoleName {
    /// The one name: namespace and hub for people, and 100 bits of a hash over the installation, so
    /// that two clusters with the same namespaces do not meet in one account.
    ///
    /// Deterministic: a crash between making the role and writing it down cannot leave a second one
    /// behind. Not an authorization key; ownership is decided by the owner tag alone.
    pub fn derive(installation: &str, namespace: &str, hub: &str) -> Self {
        // NUL cannot stand in any of the parts, so the joined string reads back in one way only.
        let identity = [installation, namespace, hub].join("\0");
        let hash = &digest_base32(identity.as_bytes(), 15)[..20];
        let stem: String = format!("{namespace}-{hub}").chars().take(43).collect();
        Self(format!("{}-{hash}", stem.trim_end_matches(['-', '.'])))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether this is the ARN of a role under [`ROLE_PATH`], of whatever account and partition.
pub fn is_arn_of_ours(arn: &str) -> bool {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", _, "iam", _, _, resource] = parts[..] else {
        return false;
    };
    let name = resource
        .strip_prefix("role")
        .and_then(|rest| rest.strip_prefix(ROLE_PATH));
    name.is_some_and(|name| !name.is_empty() && !name.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_and_differs_by_installation_namespace_and_hub() {
        let long = "a".repeat(63);
        for (namespace, hub) in [("earth", "earth"), (&long, &long), ("a", "x.y.z")] {
            let name = RoleName::derive("installation", namespace, hub);
            assert!(name.as_str().len() <= 64, "{name}");
            let is_fine =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c);
            assert!(name.as_str().chars().all(is_fine), "{name}");
        }
        let name = |installation, namespace, hub| RoleName::derive(installation, namespace, hub);
        assert_ne!(name("a", "earth", "hub"), name("b", "earth", "hub"));
        assert_ne!(name("a", "earth-x", "hub"), name("a", "earth", "x-hub"));
        let (one, other) = (format!("{long}1"), format!("{long}2"));
        assert_ne!(name("a", "earth", &one), name("a", "earth", &other));
    }

    #[test]
    fn only_roles_directly_under_the_path_are_ours() {
        for arn in [
            "arn:aws:iam::123456789012:role/hubstorage/earth-hub-abc",
            "arn:aws-cn:iam::123456789012:role/hubstorage/earth",
            "arn:aws:iam:::role/hubstorage/earth",
        ] {
            assert!(is_arn_of_ours(arn), "{arn}");
        }
        for arn in [
            "arn:aws:iam::123456789012:role/admin",
            "arn:aws:iam::123456789012:role/hubstorage/",
            "arn:aws:iam::123456789012:role/other/hubstorage/earth",
            "arn:aws:iam::123456789012:role/hubstorage/deeper/earth",
            "arn:aws:iam::123456789012:user/hubstorage/earth",
            "arn:aws:sts::123456789012:role/hubstorage/earth",
            "earth",
        ] {
            assert!(!is_arn_of_ours(arn), "{arn}");
        }
    }
}
