//! A bucket's policy: our statements in it, told apart by their `Sid`, beside those of others.
//!
//! `PutBucketPolicy` replaces the whole document, so every write is the merged one, and what
//! others wrote is kept as the JSON that it was. Statements are compared by meaning: MinIO answers
//! `"Principal":{"AWS":["*"]}` where `"*"` was written, and lists where single strings were.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value, json};

use crate::names::BucketName;
use crate::statements::{listed, meaning, principals, strings};

/// Statements whose `Sid` starts with this are ours. Letters only: IAM takes nothing else.
pub const SID_PREFIX: &str = "HubStorage";

/// One of our statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Statement {
    /// Nobody gets in without credentials, whatever other statements grant.
    DenyAnonymous,
    /// Nobody gets in without TLS.
    DenyInsecureTransport,
}

impl Statement {
    /// Its `Sid`.
    pub fn sid(self) -> String {
        format!("{SID_PREFIX}{self:?}")
    }

    /// The statement for one bucket.
    fn json(self, bucket: &BucketName) -> Value {
        let condition = match self {
            // In small letters: MinIO refuses every other spelling (`MalformedPolicy`), to others it
            // is all the same.
            Self::DenyAnonymous => json!({"StringEquals": {"aws:principaltype": "Anonymous"}}),
            Self::DenyInsecureTransport => json!({"Bool": {"aws:SecureTransport": "false"}}),
        };
        let resource = [
            format!("arn:aws:s3:::{bucket}"),
            format!("arn:aws:s3:::{bucket}/*"),
        ];
        json!({
            "Sid": self.sid(), "Effect": "Deny", "Principal": "*", "Action": "s3:*",
            "Resource": resource, "Condition": condition,
        })
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DenyAnonymous => "refuse requests without credentials",
            Self::DenyInsecureTransport => "refuse requests without TLS",
        })
    }
}

/// Where others have granted something on a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrantedBy {
    /// In a statement of the bucket's policy: its `Sid`; none where it has none.
    Statement(Option<String>),
    /// In the bucket's access control list.
    AccessList,
}

impl fmt::Display for GrantedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Statement(Some(sid)) => write!(f, "statement {sid}"),
            Self::Statement(None) => f.write_str("a statement without Sid"),
            Self::AccessList => f.write_str("the access control list"),
        }
    }
}

/// What others let somebody do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Where it is written.
    pub by: GrantedBy,
    /// To whom: ARNs, account numbers, canonical user ids, e-mail addresses, groups in words, or `*`.
    pub principals: Vec<String>,
    /// What: `s3:GetObject` in a policy, `READ` in a list.
    pub actions: Vec<String>,
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} grants {} to {}",
            self.by,
            some(&self.actions),
            some(&self.principals)
        )
    }
}

/// The first of them, and how many there are besides: a policy may name hundreds.
fn some(words: &[String]) -> String {
    const NAMED: usize = 4;
    let named = words[..words.len().min(NAMED)].join(", ");
    match words.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// The policy of a bucket as the store has it; empty where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BucketPolicy {
    document: Map<String, Value>,
}

impl BucketPolicy {
    /// Reads a policy document.
    ///
    /// # Errors
    /// If it is not a JSON object.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let document = serde_json::from_str(text)?;
        Ok(Self { document })
    }

    fn statements(&self) -> Vec<&Value> {
        self.document.get("Statement").map_or_else(Vec::new, listed)
    }

    /// How our statements differ from `wanted`, in words; empty where they do not.
    pub fn deviations(&self, bucket: &BucketName, wanted: &BTreeSet<Statement>) -> Vec<String> {
        let found: Vec<&Value> = self.statements().into_iter().filter(is_ours).collect();
        let missing = wanted.iter().filter_map(|statement| {
            let there: Vec<&&Value> = found
                .iter()
                .filter(|found| sid(found) == Some(&statement.sid()))
                .collect();
            match there.as_slice() {
                [] => Some(format!("no statement {}", statement.sid())),
                [one] if meaning(one) == meaning(&statement.json(bucket)) => None,
                _ => Some(format!("statement {} changed", statement.sid())),
            }
        });
        let is_wanted = |found: &&&Value| {
            wanted
                .iter()
                .any(|statement| sid(found) == Some(&statement.sid()))
        };
        let surplus = found
            .iter()
            .filter(|found| !is_wanted(found))
            .filter_map(|found| sid(found))
            .map(|sid| format!("statement {sid}, which nobody declared"));
        missing.chain(surplus).collect()
    }

    /// The document to write so that exactly `wanted` are our statements, those of others as they
    /// are; none where nothing would be left in it.
    pub fn with(&self, bucket: &BucketName, wanted: &BTreeSet<Statement>) -> Option<String> {
        let others = self.statements().into_iter().filter(|one| !is_ours(one));
        let ours = wanted.iter().map(|statement| statement.json(bucket));
        let statements: Vec<Value> = others.cloned().chain(ours).collect();
        if statements.is_empty() {
            return None;
        }
        let mut document = self.document.clone();
        document
            .entry("Version")
            .or_insert_with(|| "2012-10-17".into());
        document.insert("Statement".into(), statements.into());
        Some(Value::Object(document).to_string())
    }

    /// What others' statements grant.
    pub fn grants(&self) -> Vec<Grant> {
        self.statements()
            .into_iter()
            .filter(|statement| !is_ours(statement) && statement["Effect"] == "Allow")
            .map(|statement| Grant {
                by: GrantedBy::Statement(sid(statement).filter(|sid| !sid.is_empty()).cloned()),
                principals: match statement.get("NotPrincipal") {
                    Some(_) => vec!["everybody but some".to_owned()],
                    None => principals(&statement["Principal"]).into_iter().collect(),
                },
                actions: match statement.get("NotAction") {
                    Some(_) => vec!["everything but some".to_owned()],
                    None => strings(&statement["Action"]).into_iter().collect(),
                },
            })
            .collect()
    }
}

fn sid(statement: &Value) -> Option<&String> {
    match statement.get("Sid") {
        Some(Value::String(sid)) => Some(sid),
        _ => None,
    }
}

fn is_ours(statement: &&Value) -> bool {
    sid(statement).is_some_and(|sid| sid.starts_with(SID_PREFIX))
}
