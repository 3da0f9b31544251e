//! Objects as YAML, with comments.

use anyhow::Context as _;
use serde_json::Value;

/// One object and why it is there.
pub(super) struct Document {
    purpose: &'static str,
    pub(super) object: Value,
    /// Rules of a role, each below its own comment.
    pub(super) rules: Vec<(&'static str, Value)>,
}

impl Document {
    /// An object; an empty purpose is not printed.
    pub(super) fn new(purpose: &'static str, object: Value) -> Self {
        Self {
            purpose,
            object,
            rules: Vec::new(),
        }
    }

    /// A role, each rule with what needs it.
    pub(super) fn with_rules(
        purpose: &'static str,
        object: Value,
        rules: Vec<(&'static str, Value)>,
    ) -> Self {
        Self {
            purpose,
            object,
            rules,
        }
    }

    /// The object as it is applied, with its rules.
    pub(super) fn into_object(mut self) -> Value {
        if !self.rules.is_empty() {
            self.object["rules"] = self.rules.into_iter().map(|(_, rule)| rule).collect();
        }
        self.object
    }

    fn write(&self, yaml: &mut String) -> anyhow::Result<()> {
        yaml.push_str("---\n");
        if !self.purpose.is_empty() {
            yaml.push_str(&format!("# {}\n", self.purpose));
        }
        yaml.push_str(&serde_yaml::to_string(&self.object).context("an object that is no YAML")?);
        if !self.rules.is_empty() {
            yaml.push_str("rules:\n");
        }
        for (why, rule) in &self.rules {
            yaml.push_str(&format!("# {why}\n"));
            yaml.push_str(&serde_yaml::to_string(&[rule]).context("a rule that is no YAML")?);
        }
        Ok(())
    }
}

pub(super) fn render(header: &str, documents: &[Document]) -> anyhow::Result<String> {
    let mut yaml = header.to_owned();
    documents
        .iter()
        .try_for_each(|document| document.write(&mut yaml))?;
    Ok(yaml)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn comments_stand_above_what_they_explain_and_the_yaml_means_the_object() {
        let role = Document::with_rules(
            "Reads.",
            json!({"kind": "Role"}),
            vec![
                ("First.", json!({"verbs": ["get"]})),
                ("Second.", json!({"verbs": ["list"]})),
            ],
        );
        let yaml = render("# Header\n", &[role]).unwrap();
        assert_eq!(
            yaml,
            "# Header\n---\n# Reads.\nkind: Role\nrules:\n# First.\n- verbs:\n  - get\n# Second.\n- verbs:\n  - list\n"
        );
        let read: Value = serde_yaml::from_str(&yaml).unwrap();
        assert_eq!(
            read,
            json!({"kind": "Role", "rules": [{"verbs": ["get"]}, {"verbs": ["list"]}]})
        );
    }
}
