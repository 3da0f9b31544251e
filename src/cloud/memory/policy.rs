//! As much of IAM's evaluation as session policies of HubStorage use; what it does not know
//! never allows anything.

use serde_json::Value;

/// A parsed policy.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    statements: Vec<Statement>,
}

#[derive(Debug, Clone)]
struct Statement {
    allows: bool,
    actions: Vec<String>,
    resources: Vec<String>,
    /// Patterns of `s3:prefix` under `StringLike`; `None` without a condition.
    prefixes: Option<Vec<String>>,
}

/// One thing that a session wants to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub action: &'a str,
    /// `bucket` or `bucket/key`.
    pub resource: &'a str,
    /// The prefix of a listing.
    pub prefix: Option<&'a str>,
}

impl Policy {
    /// `None` if it is no policy, or holds a condition that is not known here.
    pub fn parse(json: &str) -> Option<Self> {
        let document: Value = serde_json::from_str(json).ok()?;
        let statements = document["Statement"]
            .as_array()?
            .iter()
            .map(Statement::parse);
        Some(Self {
            statements: statements.collect::<Option<_>>()?,
        })
    }

    /// Denials win; without a statement that allows, nothing is allowed.
    pub fn allows(&self, request: Request<'_>) -> bool {
        let mut matching = self
            .statements
            .iter()
            .filter(|statement| statement.matches(request))
            .peekable();
        matching.peek().is_some() && matching.all(|statement| statement.allows)
    }
}

impl Statement {
    fn parse(json: &Value) -> Option<Self> {
        let prefixes = match &json["Condition"] {
            Value::Null => None,
            Value::Object(operators) if operators.len() == 1 => {
                let keys = operators.get("StringLike")?.as_object()?;
                Some(strings(keys.get("s3:prefix").filter(|_| keys.len() == 1)?)?)
            }
            _ => return None,
        };
        Some(Self {
            allows: match json["Effect"].as_str()? {
                "Allow" => true,
                "Deny" => false,
                _ => return None,
            },
            actions: strings(&json["Action"])?,
            resources: strings(&json["Resource"])?,
            prefixes,
        })
    }

    fn matches(&self, request: Request<'_>) -> bool {
        let resource = format!("arn:aws:s3:::{}", request.resource);
        let prefix = request.prefix.unwrap_or_default();
        self.actions
            .iter()
            .any(|pattern| like(pattern, request.action))
            && self
                .resources
                .iter()
                .any(|pattern| like(pattern, &resource))
            && self
                .prefixes
                .as_ref()
                .is_none_or(|patterns| patterns.iter().any(|pattern| like(pattern, prefix)))
    }
}

fn strings(json: &Value) -> Option<Vec<String>> {
    match json {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(many) => many
            .iter()
            .map(|one| one.as_str().map(str::to_owned))
            .collect(),
        _ => None,
    }
}

/// `*` stands for any characters, `?` for one.
fn like(pattern: &str, text: &str) -> bool {
    match pattern.chars().next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = &pattern[1..];
            text.char_indices().any(|(at, _)| like(rest, &text[at..])) || like(rest, "")
        }
        Some(c) => match text.chars().next() {
            Some(first) if c == '?' || c == first => {
                like(&pattern[c.len_utf8()..], &text[first.len_utf8()..])
            }
            _ => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_iam() {
        for (pattern, text, expected) in [
            ("bob/*", "bob/", true),
            ("bob/*", "bob/a/b", true),
            ("bob/*", "bobby/", false),
            ("*", "", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*b", "aab", true),
        ] {
            assert_eq!(like(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_denial_wins_over_an_allowance() {
        let policy = Policy::parse(
            r#"{"Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"},
                             {"Effect":"Deny","Action":"s3:GetObject","Resource":"*"}]}"#,
        )
        .unwrap();
        let allows = |action| {
            policy.allows(Request {
                action,
                resource: "hub/key",
                prefix: None,
            })
        };
        assert!(allows("s3:PutObject"));
        assert!(!allows("s3:GetObject"));
        assert!(!allows("sts:AssumeRole"));
    }

    #[test]
    fn an_unknown_condition_makes_the_policy_unusable() {
        let json = r#"{"Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*",
                       "Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}]}"#;
        assert!(Policy::parse(json).is_none());
    }
}
