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

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use crate::names::{BucketName, Prefix, SharedPrefix};

/// The longest session policy that STS takes, in characters (`sessionPolicyDocumentType`).
pub const MAX_SESSION_POLICY: usize = 2048;

/// The longest prefix, in characters (the table in `names/prefix.rs`).
const MAX_PREFIX: usize = 63;

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

/// What of a bucket a session reaches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// What is under a user's own prefix.
    Own(Prefix),
    /// What is under a prefix that users share.
    Shared(SharedPrefix),
    /// All of it.
    Whole,
}

impl Place {
    /// The part of `bucket` that this is, as what comes after `s3://` or `arn:aws:s3:::`, without a
    /// closing `/`.
    pub fn within(&self, bucket: &BucketName) -> String {
        match self {
            Self::Own(prefix) => format!("{bucket}/{prefix}"),
            Self::Shared(prefix) => format!("{bucket}/{prefix}"),
            Self::Whole => bucket.to_string(),
        }
    }

    /// The pattern of what may be listed there; none for everything.
    fn listing(&self) -> Option<String> {
        match self {
            Self::Own(prefix) => Some(format!("{prefix}/*")),
            Self::Shared(prefix) => Some(format!("{prefix}/*")),
            Self::Whole => None,
        }
    }
}

/// A part of one bucket that a session reaches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reach {
    /// The bucket.
    pub bucket: BucketName,
    /// What of it.
    pub place: Place,
    /// What may be done there.
    pub access: Access,
}

/// The buckets that sessions reach at most.
pub type Ceiling = BTreeSet<BucketName>;

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

impl Document {
    /// The compact JSON of a document with these statements.
    fn of(statement: Vec<Statement>) -> String {
        let document = Self {
            version: "2012-10-17",
            statement,
        };
        // Strings and lists of strings: serialising them has no way to fail.
        serde_json::to_string(&document).unwrap_or_default()
    }
}

impl Statement {
    fn allowing(action: &'static [&'static str], resource: Vec<String>) -> Self {
        Self {
            effect: "Allow",
            action,
            resource,
            condition: None,
        }
    }
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
        // The widest counts of what is granted twice.
        let mut reaches: Vec<&Reach> = reaches.iter().collect();
        reaches.sort_by(|one, other| other.cmp(one));
        reaches.dedup_by(|narrower, wider| {
            (&narrower.bucket, &narrower.place) == (&wider.bucket, &wider.place)
        });
        reaches.reverse();

        let mut statement = Vec::new();
        for (access, action) in [(Access::ReadWrite, READ_WRITE), (Access::ReadOnly, READ)] {
            let resource: Vec<String> = reaches
                .iter()
                .filter(|reach| reach.access == access)
                .map(|reach| format!("arn:aws:s3:::{}/*", reach.place.within(&reach.bucket)))
                .collect();
            if !resource.is_empty() {
                statement.push(Statement::allowing(action, resource));
            }
        }
        let mut listings: BTreeMap<&BucketName, BTreeSet<Option<String>>> = BTreeMap::new();
        for reach in &reaches {
            let listing = listings.entry(&reach.bucket).or_default();
            listing.insert(reach.place.listing());
        }
        // Buckets share a statement only where their prefixes are the same: otherwise a prefix
        // granted in one would list in the other. Where everything is listed, no prefix counts.
        let mut sharing: BTreeMap<Option<Vec<&String>>, Vec<&BucketName>> = BTreeMap::new();
        for (bucket, prefixes) in &listings {
            let prefixes = prefixes.iter().map(Option::as_ref).collect();
            sharing.entry(prefixes).or_default().push(bucket);
        }
        for (prefixes, buckets) in sharing {
            let condition = prefixes.map(|prefixes| Condition {
                string_like: PrefixCondition {
                    prefixes: prefixes.into_iter().cloned().collect(),
                },
            });
            let resource = buckets.into_iter().map(arn).collect();
            statement.push(Statement {
                condition,
                ..Statement::allowing(&["s3:ListBucket"], resource)
            });
        }
        // A statement of its own: this call has no prefix, so that the condition above would
        // never hold for it.
        let resource = listings.keys().copied().map(arn).collect();
        statement.push(Statement::allowing(&["s3:GetBucketLocation"], resource));

        let json = Document::of(statement);
        match json.len() {
            0 => Err(PolicyError::Empty),
            len if len > MAX_SESSION_POLICY => Err(PolicyError::TooLong(len)),
            _ => Ok(Self(json)),
        }
    }

    /// Whether the policy of every user fits, whatever they are called: that of a user with the
    /// longest prefix, of whom `reaches` tells what they reach.
    ///
    /// # Errors
    /// [`PolicyError::TooLong`] with the length that such a user's policy would have.
    pub fn fits_every_user(reaches: impl FnOnce(&Prefix) -> Vec<Reach>) -> Result<(), PolicyError> {
        let longest = Prefix::escaped(&[b'a'; MAX_PREFIX]);
        match Self::allowing(&reaches(&longest)) {
            Err(too_long @ PolicyError::TooLong(_)) => Err(too_long),
            Ok(_) | Err(PolicyError::Empty) => Ok(()),
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

/// The policy of an identity whose sessions reach at most `ceiling`, as compact JSON. `ceiling` is not
/// empty: no store takes a policy without statements.
///
/// Also a bucket that users only read is there with every action: the canary of the negative probe
/// writes, and each session's own policy says what its user may do.
pub fn ceiling(ceiling: &Ceiling) -> String {
    let objects = ceiling.iter().map(|bucket| format!("{}/*", arn(bucket)));
    Document::of(vec![
        Statement::allowing(READ_WRITE, objects.collect()),
        Statement::allowing(
            &["s3:ListBucket", "s3:GetBucketLocation"],
            ceiling.iter().map(arn).collect(),
        ),
    ])
}

fn arn(bucket: &BucketName) -> String {
    format!("arn:aws:s3:::{bucket}")
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
            place: Place::Own(Prefix::escaped(user.as_bytes())),
            access,
        }
    }

    fn shared(bucket: &str, prefix: &str, access: Access) -> Reach {
        Reach {
            place: Place::Shared(SharedPrefix::parse(prefix).unwrap()),
            ..reach(bucket, "nobody", access)
        }
    }

    fn whole(bucket: &str, access: Access) -> Reach {
        Reach {
            place: Place::Whole,
            ..reach(bucket, "nobody", access)
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
    fn buckets_with_the_same_prefixes_share_a_statement_and_others_do_not() {
        let policy = PolicyDocument::allowing(&[
            reach("scratch", "bob", Access::ReadWrite),
            reach("persistent", "bob", Access::ReadOnly),
            reach("shared", "bob", Access::ReadOnly),
            reach("shared", "ocean", Access::ReadOnly),
        ])
        .unwrap();
        let json: serde_json::Value = serde_json::from_str(policy.as_str()).unwrap();
        let lists: Vec<(&serde_json::Value, &serde_json::Value)> = json["Statement"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|statement| statement["Action"][0] == "s3:ListBucket")
            .map(|statement| {
                let condition = &statement["Condition"]["StringLike"]["s3:prefix"];
                (&statement["Resource"], condition)
            })
            .collect();
        assert_eq!(
            lists,
            [
                (
                    &serde_json::json!(["arn:aws:s3:::persistent", "arn:aws:s3:::scratch"]),
                    &serde_json::json!(["bob/*"])
                ),
                (
                    &serde_json::json!(["arn:aws:s3:::shared"]),
                    &serde_json::json!(["bob/*", "ocean/*"])
                ),
            ]
        );
    }

    /// The most buckets that a HubStorage may declare, with default names.
    fn eight_buckets(namespace: &str, prefix: &Prefix) -> Vec<Reach> {
        let bucket = |number| {
            let purpose = format!("scratch-{number}");
            BucketName::derive("installation", namespace, "hub", &purpose)
        };
        let reach = |number| Reach {
            bucket: bucket(number),
            place: Place::Own(prefix.clone()),
            access: Access::ReadWrite,
        };
        (0..8).map(reach).collect()
    }

    #[test]
    fn eight_buckets_with_default_names_fit_for_everybody() {
        assert_eq!(
            PolicyDocument::fits_every_user(|prefix| eight_buckets("earth", prefix)),
            Ok(())
        );
    }

    #[test]
    fn what_fits_every_user_fits_each_one() {
        let names: Vec<String> = (1..=255).map(|length| "ü".repeat(length)).collect();
        let ordinary = (1..=255).map(|length| "a".repeat(length));
        for user in ordinary.chain(names) {
            let reaches = eight_buckets("earth", &Prefix::escaped(user.as_bytes()));
            assert!(PolicyDocument::allowing(&reaches).is_ok(), "{user}");
        }
    }

    #[test]
    fn buckets_that_are_too_many_for_some_user_are_told_before_that_user_comes() {
        let long = "a-namespace-with-a-name-as-long-as-they-get";
        assert!(matches!(
            PolicyDocument::fits_every_user(|prefix| eight_buckets(long, prefix)),
            Err(PolicyError::TooLong(length)) if length > MAX_SESSION_POLICY
        ));
        assert_eq!(PolicyDocument::fits_every_user(|_| Vec::new()), Ok(()));
    }

    /// The statements about listing: buckets, and the prefixes there.
    fn listings(policy: &PolicyDocument) -> Vec<(serde_json::Value, serde_json::Value)> {
        let json: serde_json::Value = serde_json::from_str(policy.as_str()).unwrap();
        let statements = json["Statement"].as_array().unwrap().iter();
        let lists = statements.filter(|it| it["Action"][0] == "s3:ListBucket");
        let told = |it: &serde_json::Value| {
            let prefixes = &it["Condition"]["StringLike"]["s3:prefix"];
            (it["Resource"].clone(), prefixes.clone())
        };
        lists.map(told).collect()
    }

    #[test]
    fn what_is_shared_and_what_is_whole_stay_in_their_buckets() {
        let policy = PolicyDocument::allowing(&[
            reach("scratch", "bob", Access::ReadWrite),
            shared("scratch", "_groups/ocean", Access::ReadOnly),
            whole("data", Access::ReadOnly),
            reach("data", "bob", Access::ReadWrite),
        ])
        .unwrap();
        let json: serde_json::Value = serde_json::from_str(policy.as_str()).unwrap();
        assert_eq!(
            json["Statement"][0]["Resource"],
            serde_json::json!(["arn:aws:s3:::data/bob/*", "arn:aws:s3:::scratch/bob/*"])
        );
        assert_eq!(
            json["Statement"][1]["Resource"],
            serde_json::json!([
                "arn:aws:s3:::data/*",
                "arn:aws:s3:::scratch/_groups/ocean/*"
            ])
        );
        assert_eq!(
            json["Statement"][1]["Action"],
            serde_json::json!(["s3:GetObject"])
        );
        let everything = serde_json::Value::Null;
        let some = serde_json::json!(["_groups/ocean/*", "bob/*"]);
        assert_eq!(
            listings(&policy),
            [
                (serde_json::json!(["arn:aws:s3:::data"]), everything),
                (serde_json::json!(["arn:aws:s3:::scratch"]), some),
            ]
        );
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
        let less = reach("a-bucket", "bob", Access::ReadOnly);
        let one = PolicyDocument::allowing(&[a.clone(), b.clone()]).unwrap();
        let other = PolicyDocument::allowing(&[b, less.clone(), a.clone(), a, less]).unwrap();
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
