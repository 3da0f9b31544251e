//! The groups of a user.

use std::collections::BTreeSet;
use std::fmt;

/// The groups that the hub says a user is in, by the names that it has for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups(BTreeSet<String>);

/// Why an annotation does not say which groups a user is in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "it has to be a JSON list of group names, such as [\"ocean\", \"ice\"], and starts with {start:?} ({cause})"
)]
pub struct InvalidGroups {
    start: String,
    cause: String,
}

/// So many groups are told in a message; an identity service can put thousands there.
const TOLD: usize = 8;

/// Characters of a name, or of an annotation, that are told.
const TOLD_OF_EACH: usize = 64;

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
                start: start(annotation),
                cause: error.to_string(),
            })
    }

    /// The groups of this user that at least one of `others` has, too.
    pub fn shared_with(&self, others: &[Self]) -> Self {
        let shared = self.0.iter();
        let shared = shared.filter(|group| others.iter().any(|other| other.have(group)));
        Self(shared.cloned().collect())
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
        let names = self.0.iter().take(TOLD);
        let names: Vec<String> = names.map(|name| format!("{:?}", start(name))).collect();
        f.write_str(&names.join(", "))?;
        match self.0.len() - names.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

fn start(text: &str) -> String {
    text.chars().take(TOLD_OF_EACH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_are_those_that_any_other_has_too() {
        let groups = |text| Groups::parse(Some(text)).unwrap();
        let own = groups(r#"["ice", "ocean", "rock"]"#);
        let others = [groups(r#"["ocean"]"#), groups(r#"["ice", "land"]"#)];
        assert_eq!(own.shared_with(&others), groups(r#"["ice", "ocean"]"#));
        assert_eq!(own.shared_with(&[]), Groups::default());
    }

    #[test]
    fn names_count_to_the_letter() {
        let groups = Groups::parse(Some(r#"["ocean", "Eis & Schnee", "ocean"]"#)).unwrap();
        assert!(groups.have("ocean") && groups.have("Eis & Schnee"));
        for other in ["Ocean", "oce", "ocean ", "*", ""] {
            assert!(!groups.have(other), "{other:?}");
        }
        assert_eq!(groups.to_string(), r#""Eis & Schnee", "ocean""#);
        assert!(!Groups::parse(None).unwrap().have("ocean"));
        assert_eq!(Groups::parse(Some("[]")).unwrap(), Groups::default());
    }

    #[test]
    fn a_message_has_one_line_and_an_end_whatever_the_groups_are_called() {
        let names: Vec<String> = (0..5000)
            .map(|n| format!("{n}\n{}", "a".repeat(200)))
            .collect();
        let groups = Groups::parse(Some(&serde_json::json!(names).to_string())).unwrap();
        let told = groups.to_string();
        assert!(told.ends_with(" and 4992 more"), "{told}");
        assert!(told.len() < 700 && !told.contains('\n'), "{told}");
        let long = "x\n".repeat(1 << 16);
        let error = Groups::parse(Some(&long)).unwrap_err().to_string();
        assert!(error.len() < 400 && !error.contains('\n'), "{error}");
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
