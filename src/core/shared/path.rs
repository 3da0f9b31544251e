//! Paths of mounts, in the one form in which they can be compared.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest path that is taken, in characters.
const MAX_LEN: usize = 255;

/// Where a volume is mounted in a container: an absolute path, for example `/home/jovyan/shared`.
///
/// No closing slash, no part that is empty, `.` or `..`, and no colon, which the API server takes in no mount path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MountPath(String);

/// What of a volume is mounted: a relative path, for example `_shared`.
///
/// No closing slash, and no part that is empty, `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SubPath(String);

/// Why a text is no path of a mount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("path {path:?} cannot be mounted: {why}")]
pub struct InvalidPath {
    path: String,
    why: &'static str,
}

/// Directories of the system, in which a folder would keep containers from starting, or hide what they run.
const SYSTEMS: [&str; 12] = [
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr",
    "/var/run",
];

/// How one directory lies to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// It is that one.
    Same,
    /// It is in it.
    Within,
    /// It is around it.
    Around,
    /// Neither.
    Apart,
}

impl MountPath {
    /// # Errors
    /// [`InvalidPath`] with what is wrong with it.
    pub fn parse(path: &str) -> Result<Self, InvalidPath> {
        let rest = path.strip_prefix('/');
        let why = match rest {
            None => Some("it has to be absolute, and begin with a slash"),
            Some("") => Some("the root of a container is no place for a volume"),
            Some(_) if path.contains(':') => Some("the API server takes no colon in it"),
            Some(rest) => wrong_parts(rest).or_else(|| {
                let mut systems = SYSTEMS.iter();
                let is_systems = systems.any(|system| parts(path).starts_with(&parts(system)));
                is_systems.then_some("it is the system's")
            }),
        };
        checked(path, why).map(Self)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How it lies to a mount path as it stands in a pod, in whatever form.
    pub fn relation(&self, other: &str) -> Relation {
        let (this, other): (Vec<&str>, Vec<&str>) = (parts(&self.0), parts(other));
        match (this.starts_with(&other), other.starts_with(&this)) {
            (true, true) => Relation::Same,
            (true, false) => Relation::Within,
            (false, true) => Relation::Around,
            (false, false) => Relation::Apart,
        }
    }
}

impl SubPath {
    /// # Errors
    /// [`InvalidPath`] with what is wrong with it.
    pub fn parse(path: &str) -> Result<Self, InvalidPath> {
        checked(path, wrong_parts(path)).map(Self)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a sub-path as it stands in a pod, in whatever form, is this one.
    pub fn is(&self, other: &str) -> bool {
        parts(&self.0) == parts(other)
    }
}

fn checked(path: &str, why: Option<&'static str>) -> Result<String, InvalidPath> {
    let path = path.to_owned();
    match why {
        Some(why) => Err(InvalidPath { path, why }),
        None => Ok(path),
    }
}

fn wrong_parts(path: &str) -> Option<&'static str> {
    if path.chars().count() > MAX_LEN {
        return Some("it is longer than 255 characters");
    }
    if path.chars().any(char::is_control) {
        return Some("it holds a control character");
    }
    let is_no_part = |part: &str| ["", ".", ".."].contains(&part);
    let is_wrong = path.split('/').any(is_no_part);
    is_wrong.then_some("a part of it is empty, `.` or `..`, or it ends with a slash")
}

/// The directories of a path; the kernel passes over what is empty or `.`.
fn parts(path: &str) -> Vec<&str> {
    let parts = path.split('/');
    parts.filter(|part| !["", "."].contains(part)).collect()
}

macro_rules! is_a_text {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = InvalidPath;

            fn try_from(path: String) -> Result<Self, Self::Error> {
                Self::parse(&path)
            }
        }

        impl From<$type> for String {
            fn from(path: $type) -> Self {
                path.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

is_a_text!(MountPath);
is_a_text!(SubPath);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_form() {
        for wrong in [
            "",
            "/",
            "shared",
            "/a/",
            "//a",
            "/a//b",
            "/a/./b",
            "/a/../b",
            "/a:b",
            "/a\nb",
            "/proc",
            "/usr/share",
            "/var/run/secrets",
        ] {
            let error = MountPath::parse(wrong).unwrap_err().to_string();
            assert!(error.contains(&format!("{wrong:?}")), "{error}");
        }
        for wrong in ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a\0b"] {
            assert!(SubPath::parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(SubPath::parse(&"ж".repeat(255)).is_ok());
        assert!(SubPath::parse(&"a".repeat(256)).is_err());
        for right in [
            "/home/jovyan/shared",
            "/a",
            "/..a/b.",
            "/a b/ö",
            "/processed",
            "/var/data",
        ] {
            assert_eq!(MountPath::parse(right).unwrap().to_string(), right);
        }
        for right in ["_shared", "a/b", "a:b", "..a"] {
            assert_eq!(SubPath::parse(right).unwrap().to_string(), right);
        }
    }

    #[test]
    fn paths_are_compared_by_their_parts_in_whatever_form_a_pod_has_them() {
        let shared = MountPath::parse("/home/jovyan/shared").unwrap();
        for (other, relation) in [
            ("/home/jovyan/shared", Relation::Same),
            ("/home/jovyan//shared/.", Relation::Same),
            ("/home/jovyan/", Relation::Within),
            ("/", Relation::Within),
            ("/home/jovyan/shared/data", Relation::Around),
            ("/home/jovyan/shared-readwrite", Relation::Apart),
            ("/home/jovyan/share", Relation::Apart),
            ("/data", Relation::Apart),
        ] {
            assert_eq!(shared.relation(other), relation, "{other}");
        }
        let part = SubPath::parse("groups/ocean").unwrap();
        assert!(part.is("groups/ocean") && part.is("./groups//ocean/"));
        assert!(!part.is("groups") && !part.is("") && !part.is("groups/ocean2"));
    }
}
