//! Lifecycle rules: what a bucket that expires needs, and how it lives beside rules of others.
//!
//! `PutBucketLifecycleConfiguration` replaces a bucket's whole set, so ours are told apart by
//! a prefix of their id, and every write is the merged set.

use std::fmt;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

/// Rule ids that start with this are ours; all others are left as they are.
pub const RULE_ID_PREFIX: &str = "hubstorage/";

/// Whole days, at least one. Stores round an expiry up to the next midnight UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Days(pub NonZeroU16);

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}",
            self.0,
            if self.0.get() == 1 { "day" } else { "days" }
        )
    }
}

/// What one of our rules does to a whole bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Delete objects this long after they were written.
    Expire(Days),
    /// Abort multipart uploads this long after they began: their parts are billed, but no
    /// listing of objects shows them.
    AbortIncompleteUploads(Days),
    /// Delete versions this long after they were replaced or deleted; without it, expiry on
    /// a versioned bucket frees nothing.
    ExpireNoncurrent(Days),
    /// Remove delete markers that hide nothing any more. A rule of its own: S3 refuses it
    /// beside an expiry in days.
    RemoveExpiredDeleteMarkers,
}

impl Effect {
    /// The id of the rule with this effect.
    pub fn rule_id(&self) -> String {
        format!("{RULE_ID_PREFIX}{}", self.slug())
    }

    fn slug(&self) -> &'static str {
        match self {
            Self::Expire(_) => "expire",
            Self::AbortIncompleteUploads(_) => "abort-incomplete-uploads",
            Self::ExpireNoncurrent(_) => "expire-noncurrent",
            Self::RemoveExpiredDeleteMarkers => "remove-expired-delete-markers",
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expire(days) => write!(f, "expire objects after {days}"),
            Self::AbortIncompleteUploads(days) => {
                write!(f, "abort incomplete uploads after {days}")
            }
            Self::ExpireNoncurrent(days) => write!(f, "expire noncurrent versions after {days}"),
            Self::RemoveExpiredDeleteMarkers => f.write_str("remove expired delete markers"),
        }
    }
}

/// A rule as a store reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule<Foreign> {
    /// The rule's id; stores invent one where the caller gave none.
    pub id: String,
    /// What the rule means.
    pub body: RuleBody<Foreign>,
}

/// The meaning of a rule, compared instead of its spelling: stores echo the same rule in
/// different shapes (Ceph RGW returns `Filter.Prefix` as the older `Prefix`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleBody<Foreign> {
    /// An enabled rule on the whole bucket with exactly one effect that we know.
    Known(Effect),
    /// Anything else, kept in the store's own type so that it survives a merge unchanged.
    Other(Foreign),
}

/// A store's limit that keeps a rule from being applied there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Supports {
    /// MinIO rejects a whole rule set as malformed when it holds this action (measured on
    /// v0.0.0-20260212201848; it purges stale uploads by a server setting instead).
    pub abort_incomplete_uploads: bool,
}

impl Supports {
    /// What a store is taken to support until it has shown otherwise.
    pub const ALL: Self = Self {
        abort_incomplete_uploads: true,
    };

    /// The same without `effect`; effects that every store has are not taken away.
    #[must_use]
    pub fn without(self, effect: Effect) -> Self {
        match effect {
            Effect::AbortIncompleteUploads(_) => Self {
                abort_incomplete_uploads: false,
            },
            Effect::Expire(_)
            | Effect::ExpireNoncurrent(_)
            | Effect::RemoveExpiredDeleteMarkers => self,
        }
    }
}

/// The full rule set of a bucket whose objects expire after `days`.
pub fn expiring(days: Days) -> Vec<Effect> {
    let one = Days(NonZeroU16::MIN);
    // A day suffices to finish any single upload that anybody waits for, but a run of several
    // days may keep one open: as long as the data itself may live, and a week at the most.
    let uploads = days.min(Days(WEEK));
    vec![
        Effect::Expire(days),
        Effect::AbortIncompleteUploads(uploads),
        Effect::ExpireNoncurrent(one),
        Effect::RemoveExpiredDeleteMarkers,
    ]
}

const WEEK: NonZeroU16 = NonZeroU16::new(7).unwrap();

/// What is declared, split by what the store can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Achievable {
    /// Effects to apply, in a fixed order.
    pub apply: Vec<Effect>,
    /// Effects the store cannot do; said in status, never left out silently.
    pub omitted: Vec<Effect>,
}

/// Splits `declared` by what the store supports.
pub fn achievable(declared: &[Effect], supports: Supports) -> Achievable {
    let (apply, omitted) = declared.iter().partition(|effect| match effect {
        Effect::AbortIncompleteUploads(_) => supports.abort_incomplete_uploads,
        Effect::Expire(_) | Effect::ExpireNoncurrent(_) | Effect::RemoveExpiredDeleteMarkers => {
            true
        }
    });
    Achievable { apply, omitted }
}

/// How a bucket's rules differ from those that should be there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Declared but absent.
    pub missing: Vec<Effect>,
    /// Under one of our ids, but with another meaning: the id, and what should be there
    /// (`None` where nothing should).
    pub changed: Vec<(String, Option<Effect>)>,
}

impl Difference {
    /// Whether nothing needs to be written.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.changed.is_empty()
    }
}

/// Compares the rules of a bucket with the declared effects, by meaning; rules of others do
/// not count.
pub fn difference<F>(observed: &[Rule<F>], declared: &[Effect]) -> Difference {
    let ours = |rule: &&Rule<F>| rule.id.starts_with(RULE_ID_PREFIX);
    let missing = declared
        .iter()
        .filter(|effect| {
            !observed
                .iter()
                .filter(ours)
                .any(|rule| rule.id == effect.rule_id())
        })
        .copied()
        .collect();
    let changed = observed
        .iter()
        .filter(ours)
        .filter_map(|rule| {
            let wanted = declared.iter().find(|effect| effect.rule_id() == rule.id).copied();
            let is_right = matches!((&rule.body, wanted), (RuleBody::Known(is), Some(should)) if *is == should);
            (!is_right).then(|| (rule.id.clone(), wanted))
        })
        .collect();
    Difference { missing, changed }
}

/// The whole set to write: every rule of others as it is, then ours.
pub fn merge<F: Clone>(observed: &[Rule<F>], declared: &[Effect]) -> Vec<Rule<F>> {
    let others = observed
        .iter()
        .filter(|rule| !rule.id.starts_with(RULE_ID_PREFIX))
        .cloned();
    let ours = declared.iter().map(|effect| Rule {
        id: effect.rule_id(),
        body: RuleBody::Known(*effect),
    });
    others.chain(ours).collect()
}
