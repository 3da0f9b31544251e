//! Session policies: the boundary of what a vended credential reaches.
//!
//! One inline policy per user narrows the vending identity's own rights. Three rules in it were
//! learned by measuring servers:
//!
//! - `s3:prefix` is exactly `<prefix>/*` for each prefix. With `<prefix>` beside it, `bob` lists `bobby/…`.
//!   Only who reaches all of a bucket lists without that condition.
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

/// As long as a prefix gets (the table in `names/prefix.rs`), and without repetition: stores may measure a
/// packed form of the policy.
const LONGEST_PREFIX: &[u8; 63] =
    b"q7w2e9r4t6y1u8i3o5p0a.s-d@f_gzhxjckvlbznxmcqvwbenrtmyuaisodpfgh";

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

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = match self.access {
            Access::ReadOnly => "ReadOnly",
            Access::ReadWrite => "ReadWrite",
        };
        write!(f, "{} {access}", self.place.within(&self.bucket))
    }
}

/// What all grants of one bucket together let its users reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted<G> {
    /// Of two buckets where this is the same, everybody lists the same.
    pub alike: G,
    /// What a user could reach; not to read where all may write.
    pub reaches: Vec<Reach>,
    /// Whether all of them list everything, so that nobody's policy has a condition for it.
    pub is_listed_by_all: bool,
}

/// What of a bucket is listed: patterns of prefixes, and none for everything.
type Listed = BTreeSet<Option<String>>;

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
         grant fewer prefixes, or use shorter ones and shorter bucket names"
    )]
    TooLong(usize),
    /// The same, before anybody comes.
    #[error(
        "the session policy of some user could have {0} characters, the limit is 2048; \
         grant fewer prefixes, or use shorter ones and shorter bucket names"
    )]
    MayBeTooLong(usize),
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

        let mut listings: BTreeMap<&BucketName, Listed> = BTreeMap::new();
        for reach in &reaches {
            let listed = listings.entry(&reach.bucket).or_default();
            listed.insert(reach.place.listing());
        }
        // Buckets share a statement only where their prefixes are the same: otherwise a prefix
        // granted in one would list in the other. Where everything is listed, no prefix counts.
        let mut sharing: BTreeMap<Option<Vec<&String>>, Vec<&BucketName>> = BTreeMap::new();
        for (bucket, listed) in &listings {
            let prefixes = listed.iter().map(Option::as_ref).collect();
            sharing.entry(prefixes).or_default().push(bucket);
        }
        Self::of(&reaches, sharing)
    }

    /// A policy as long as any user's gets, or longer, whatever they are called and whichever groups they
    /// are in; `None` if nobody is granted anything. `granted` tells of each bucket what all grants together let
    /// a user with this prefix reach.
    ///
    /// No user need have it. A group more can make a policy shorter: its member may read what they could
    /// write already, list without a condition, or list in two buckets by one statement where others need
    /// two. So nothing counts here that a user might not have: what is granted twice is there twice, a
    /// condition stays, and a statement is shared by buckets that have the same grants, who share it in
    /// everybody's policy. What is granted to everyone, all users do have: where nothing is granted to groups,
    /// the user with the longest name has exactly this policy.
    ///
    /// # Errors
    /// [`PolicyError::MayBeTooLong`] with its length.
    pub fn of_longest_user<G: Ord>(
        granted: impl FnOnce(&Prefix) -> Vec<Granted<G>>,
    ) -> Result<Option<Self>, PolicyError> {
        let longest = longest_prefix();
        let granted = granted(&longest);
        let reaches: BTreeSet<&Reach> = granted.iter().flat_map(|of| &of.reaches).collect();
        if reaches.is_empty() {
            return Ok(None);
        }
        let mut alike: BTreeMap<&G, (BTreeSet<&BucketName>, Listed)> = BTreeMap::new();
        for of in &granted {
            for reach in &of.reaches {
                let (buckets, listed) = alike.entry(&of.alike).or_default();
                buckets.insert(&reach.bucket);
                let listing = reach.place.listing();
                listed.insert(listing.filter(|_| !of.is_listed_by_all));
            }
        }
        let whole = alike.values().filter(|(_, listed)| listed.contains(&None));
        let whole = whole.flat_map(|(buckets, _)| buckets.iter().copied());
        let mut sharing = vec![(None, whole.collect::<Vec<_>>())];
        for (buckets, listed) in alike.values() {
            let prefixes: Vec<_> = listed.iter().flatten().collect();
            sharing.push((Some(prefixes), buckets.iter().copied().collect()));
        }
        sharing.retain(|(prefixes, buckets)| {
            !buckets.is_empty() && prefixes.as_ref().is_none_or(|it| !it.is_empty())
        });
        let reaches: Vec<&Reach> = reaches.into_iter().collect();
        match Self::of(&reaches, sharing) {
            Err(PolicyError::TooLong(length)) => Err(PolicyError::MayBeTooLong(length)),
            policy => policy.map(Some),
        }
    }

    /// Of what is reached, and of which buckets list which prefixes, or everything.
    fn of<'r>(
        reaches: &[&'r Reach],
        sharing: impl IntoIterator<Item = (Option<Vec<&'r String>>, Vec<&'r BucketName>)>,
    ) -> Result<Self, PolicyError> {
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
        let buckets: BTreeSet<&BucketName> = reaches.iter().map(|reach| &reach.bucket).collect();
        let resource = buckets.into_iter().map(arn).collect();
        statement.push(Statement::allowing(&["s3:GetBucketLocation"], resource));

        let json = Document::of(statement);
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

/// The same where sessions are tagged with the prefix of their user: of their own prefixes they reach the one
/// that they are tagged with, whatever their session policy says, and beside it what is `shared`. A session
/// without the tag reaches no prefix: the variable stands for nothing then, and a statement with it never
/// matches (IAM User Guide, "Policy variables with no value").
pub fn ceiling_by_tag(ceiling: &Ceiling, tag: &str, shared: &BTreeSet<Reach>) -> String {
    let tagged = format!("${{aws:PrincipalTag/{tag}}}");
    let buckets: Vec<String> = ceiling.iter().map(arn).collect();
    let own = buckets.iter().map(|bucket| format!("{bucket}/{tagged}/*"));
    let mut statements = vec![Statement::allowing(READ_WRITE, own.collect())];
    for (access, action) in [(Access::ReadWrite, READ_WRITE), (Access::ReadOnly, READ)] {
        let places = shared.iter().filter(|reach| reach.access == access);
        let places: Vec<String> = places
            .map(|reach| format!("arn:aws:s3:::{}/*", reach.place.within(&reach.bucket)))
            .collect();
        if !places.is_empty() {
            statements.push(Statement::allowing(action, places));
        }
    }
    let listing = |prefixes: Option<Vec<String>>, resource: Vec<String>| Statement {
        condition: prefixes.map(|prefixes| Condition {
            string_like: PrefixCondition { prefixes },
        }),
        ..Statement::allowing(&["s3:ListBucket"], resource)
    };
    statements.push(listing(Some(vec![format!("{tagged}/*")]), buckets.clone()));
    for reach in shared {
        let prefixes = reach.place.listing().map(|pattern| vec![pattern]);
        statements.push(listing(prefixes, vec![arn(&reach.bucket)]));
    }
    statements.push(Statement::allowing(&["s3:GetBucketLocation"], buckets));
    Document::of(statements)
}

/// A prefix as long as any user's.
pub fn longest_prefix() -> Prefix {
    Prefix::escaped(LONGEST_PREFIX)
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
mod tests;
