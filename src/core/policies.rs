//! Session policies: the boundary of what a vended credential reaches.
//!
//! One inline policy per user narrows the vending identity's own rights. Three rules in it were
//! learned by measuring servers:
//!
//! - `s3:prefix` is exactly `<prefix>/*`. With `<prefix>` beside it, `bob` lists `bobby/…`.
//! - `s3:GetBucketLocation` is granted, or `s3fs.makedirs`, and so Zarr and Dask writers, fail.
//! - Actions are enumerated: `s3:PutObject*` would include ACLs and legal holds.
//!
//! The JSON is compact: Ceph RGW rejects a policy that contains spaces.

use std::fmt;

use serde::Serialize;

use crate::names::{BucketName, Prefix};

/// The longest session policy that STS takes, in characters (`sessionPolicyDocumentType`).
pub const MAX_SESSION_POLICY: usize = 2048;

const READ: &[&str] = &["s3:GetObject"];
const READ_WRITE: &[&str] = &[
    "s3:GetObject",
    "s3:PutObject",
    "s3:DeleteObject",
    "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts",
];

/// What may be done with objects in reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Get and list.
    ReadOnly,
    /// Get, list, put, delete, and multipart uploads.
    ReadWrite,
}

/// One prefix in one bucket that a session reaches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reach {
    /// The bucket.
    pub bucket: BucketName,
    /// The prefix in it, without the closing `/`.
    pub prefix: Prefix,
    /// What may be done there.
    pub access: Access,
}

/// A session policy, as compact JSON of at most [`MAX_SESSION_POLICY`] characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PolicyDocument(String);

/// Why no policy could be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A session without a policy would have all of the vending identity's rights.
    #[error("no grant applies to this user, so there is nothing to vend")]
    Empty,
    /// Refused rather than widened.
    #[error(
        "the session policy has {0} characters, the limit is 2048; \
         grant fewer prefixes, or use shorter bucket names"
    )]
    TooLong(usize),
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    version: &'static str,
    statement: Vec<Statement>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    effect: &'static str,
    action: &'static [&'static str],
    resource: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    condition: Option<Condition>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Condition {
    string_like: PrefixCondition,
}

#[derive(Serialize)]
struct PrefixCondition {
    #[serde(rename = "s3:prefix")]
    prefixes: Vec<String>,
}

impl PolicyDocument {
    /// The policy that allows exactly `reaches`.
    ///
    /// # Errors
    /// [`PolicyError`] if there is nothing to allow, or if it does not fit.
    pub fn allowing(reaches: &[Reach]) -> Result<Self, PolicyError> {
        if reaches.is_empty() {
            return Err(PolicyError::Empty);
        }
        // Sorted, so that the same grants always give the same bytes: the cache key.
        let mut reaches: Vec<&Reach> = reaches.iter().collect();
        reaches.sort();
        reaches.dedup();

        let mut statement = Vec::new();
        for (access, action) in [(Access::ReadWrite, READ_WRITE), (Access::ReadOnly, READ)] {
            let resource: Vec<String> = reaches
                .iter()
                .filter(|reach| reach.access == access)
                .map(|reach| format!("arn:aws:s3:::{}/{}/*", reach.bucket, reach.prefix))
                .collect();
            if !resource.is_empty() {
                statement.push(Statement {
                    effect: "Allow",
                    action,
                    resource,
                    condition: None,
                });
            }
        }
        let mut buckets: Vec<&BucketName> = reaches.iter().map(|reach| &reach.bucket).collect();
        buckets.dedup();
        for bucket in &buckets {
            // One statement a bucket: merged, a prefix granted in one would list in all.
            let prefixes = reaches
                .iter()
                .filter(|reach| reach.bucket == **bucket)
                .map(|reach| format!("{}/*", reach.prefix))
                .collect();
            statement.push(Statement {
                effect: "Allow",
                action: &["s3:ListBucket"],
                resource: vec![format!("arn:aws:s3:::{bucket}")],
                condition: Some(Condition {
                    string_like: PrefixCondition { prefixes },
                }),
            });
        }
        statement.push(Statement {
            effect: "Allow",
            action: &["s3:GetBucketLocation"],
            resource: buckets
                .iter()
                .map(|bucket| format!("arn:aws:s3:::{bucket}"))
                .collect(),
            condition: None,
        });

        let document = Document {
            version: "2012-10-17",
            statement,
        };
        // Strings and lists of strings: serialising them has no way to fail.
        let json = serde_json::to_string(&document).unwrap_or_default();
        match json.len() {
            0 => Err(PolicyError::Empty),
            len if len > MAX_SESSION_POLICY => Err(PolicyError::TooLong(len)),
            _ => Ok(Self(json)),
        }
    }

    /// The compact JSON.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A short, stable name of this policy for cache keys and audit lines: 100 bits of its hash.
    pub fn fingerprint(&self) -> String {
        crate::names::fingerprint(self.0.as_bytes())
    }
}

impl fmt::Display for PolicyDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(bucket: &str, user: &str, access: Access) -> Reach {
        Reach {
            bucket: BucketName::parse(bucket).unwrap(),
            prefix: Prefix::escaped(user.as_bytes()),
            access,
        }
    }

    #[test]
    fn one_user_in_one_bucket_gets_exactly_this_policy() {
        let policy = PolicyDocument::allowing(&[reach("hub", "bob", Access::ReadWrite)]).unwrap();
        assert_eq!(
            policy.as_str(),
            concat!(
                r#"{"Version":"2012-10-17","Statement":["#,
                r#"{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject","s3:DeleteObject","#,
                r#""s3:AbortMultipartUpload","s3:ListMultipartUploadParts"],"#,
                r#""Resource":["arn:aws:s3:::hub/bob/*"]},"#,
                r#"{"Effect":"Allow","Action":["s3:ListBucket"],"Resource":["arn:aws:s3:::hub"],"#,
                r#""Condition":{"StringLike":{"s3:prefix":["bob/*"]}}},"#,
                r#"{"Effect":"Allow","Action":["s3:GetBucketLocation"],"Resource":["arn:aws:s3:::hub"]}]}"#,
            )
        );
    }

    #[test]
    fn a_prefix_granted_in_one_bucket_lists_nothing_in_another() {
        let policy = PolicyDocument::allowing(&[
            reach("scratch", "bob", Access::ReadWrite),
            reach("shared", "ocean", Access::ReadOnly),
        ])
        .unwrap();
        let json: serde_json::Value = serde_json::from_str(policy.as_str()).unwrap();
        for statement in json["Statement"].as_array().unwrap() {
            if statement["Action"][0] == "s3:ListBucket" {
                assert_eq!(statement["Resource"].as_array().unwrap().len(), 1);
                let prefix = &statement["Condition"]["StringLike"]["s3:prefix"];
                let expected = if statement["Resource"][0] == "arn:aws:s3:::shared" {
                    "ocean/*"
                } else {
                    "bob/*"
                };
                assert_eq!(prefix, &serde_json::json!([expected]));
            }
        }
    }

    #[test]
    fn a_read_only_reach_cannot_write_or_delete() {
        let policy =
            PolicyDocument::allowing(&[reach("shared", "ocean", Access::ReadOnly)]).unwrap();
        assert!(!policy.as_str().contains("Put") && !policy.as_str().contains("Delete"));
    }

    #[test]
    fn the_order_of_grants_does_not_change_the_policy() {
        let (a, b) = (
            reach("a-bucket", "bob", Access::ReadWrite),
            reach("b-bucket", "bob", Access::ReadOnly),
        );
        let one = PolicyDocument::allowing(&[a.clone(), b.clone()]).unwrap();
        let other = PolicyDocument::allowing(&[b, a.clone(), a]).unwrap();
        assert_eq!(one, other);
        assert_eq!(one.fingerprint(), other.fingerprint());
    }

    #[test]
    fn a_policy_holds_no_space() {
        let policy =
            PolicyDocument::allowing(&[reach("hub", "a name with spaces", Access::ReadWrite)])
                .unwrap();
        assert!(!policy.as_str().contains(' '));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_never_widened() {
        let many: Vec<Reach> = (0..30)
            .map(|i| reach("hub", &format!("group-{i:040}"), Access::ReadOnly))
            .collect();
        assert!(
            matches!(PolicyDocument::allowing(&many), Err(PolicyError::TooLong(len)) if len > 2048)
        );
        assert_eq!(PolicyDocument::allowing(&[]), Err(PolicyError::Empty));
    }
}
