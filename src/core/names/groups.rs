//! The groups of a user.

use std::collections::BTreeSet;
use std::fmt;

/// The groups that the hub says a user is in, by the names that it has for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups(BTreeSet<String>);

/// Why an annotation does not say which groups a user is in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "it has to be a JSON list of group names, such as [\"ocean\", \"ice\"], and is not ({cause})"
)]
pub struct InvalidGroups {
    cause: String,
}

impl Groups {
    /// Reads the annotation `hubstorage.io/groups`; a pod without it is of a user in no group.
    ///
    /// # Errors
    /// [`InvalidGroups`] if there is an annotation that cannot be read.
    pub fn parse(annotation: Option<&str>) -> Result<Self, InvalidGroups> {
        let Some(annotation) = annotation else {
            return Ok(Self::default());
        };
        serde_json::from_str(annotation)
            .map(Self)
            .map_err(|error| InvalidGroups {
                cause: error.to_string(),
            })
    }

    /// Whether the user is in the group of this name, to the letter.
    pub fn have(&self, group: &str) -> bool {
        self.0.contains(group)
    }
}

impl fmt::Display for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no group");
        }
        let names: Vec<&str> = self.0.iter().map(String::as_str).collect();
        f.write_str(&names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_count_to_the_letter() {
        let groups = Groups::parse(Some(r#"["ocean", "Eis & Schnee", "ocean"]"#)).unwrap();
        assert!(groups.have("ocean") && groups.have("Eis & Schnee"));
        for other in ["Ocean", "oce", "ocean ", "*", ""] {
            assert!(!groups.have(other), "{other:?}");
        }
        assert_eq!(groups.to_string(), "Eis & Schnee, ocean");
        assert!(!Groups::parse(None).unwrap().have("ocean"));
        assert_eq!(Groups::parse(Some("[]")).unwrap(), Groups::default());
    }

    #[test]
    fn what_is_no_list_of_names_is_told() {
        for wrong in [
            "",
            "ocean",
            "ocean,ice",
            r#""ocean""#,
            "[1]",
            r#"{"ocean": true}"#,
            "null",
        ] {
            let error = Groups::parse(Some(wrong)).unwrap_err().to_string();
            assert!(
                error.contains("JSON list of group names"),
                "{wrong}: {error}"
            );
        }
    }
}
