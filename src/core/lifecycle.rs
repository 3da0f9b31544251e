//! Lifecycle rules: what a bucket that expires needs, and how it lives beside rules of others.
//!
//! `PutBucketLifecycleConfiguration` replaces a bucket's whole set, so ours are told apart by
//! a prefix of their id, and every write is the merged set.

use std::fmt;
use std::num::NonZeroU16;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumIter, EnumString};

use crate::api::{Capability, Lifecycle};
use crate::supports::Supports;

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

/// A storage class of Amazon S3, by its name there; compatibles that have classes use the same
/// names for their own.
#[derive(
    Serialize,
    Deserialize,
    JsonSchema,
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Display,
    EnumString,
    EnumIter,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum StorageClass {
    /// Read seldom, at once.
    StandardIa,
    /// The store finds out by itself what is read seldom.
    IntelligentTiering,
    /// Read seldom, kept in one zone.
    OnezoneIa,
    /// Read once in a quarter, at once.
    GlacierIr,
    /// Read after hours.
    Glacier,
    /// Read after a day.
    DeepArchive,
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
    /// Move objects to another storage class this long after they were written.
    Transition(Days, StorageClass),
}

impl Effect {
    /// The id of the rule with this effect.
    pub fn rule_id(&self) -> String {
        let slug = match self {
            Self::Expire(_) => "expire",
            Self::AbortIncompleteUploads(_) => "abort-incomplete-uploads",
            Self::ExpireNoncurrent(_) => "expire-noncurrent",
            Self::RemoveExpiredDeleteMarkers => "remove-expired-delete-markers",
            Self::Transition(_, class) => {
                let class = class.to_string().to_lowercase().replace('_', "-");
                return format!("{RULE_ID_PREFIX}transition-{class}");
            }
        };
        format!("{RULE_ID_PREFIX}{slug}")
    }

    /// What a store needs to be able to do for it; none where every store with lifecycle rules
    /// can.
    pub fn needs(&self) -> Option<Capability> {
        match self {
            Self::AbortIncompleteUploads(_) => Some(Capability::AbortIncompleteUploads),
            Self::Transition(..) => Some(Capability::Transitions),
            Self::Expire(_) | Self::ExpireNoncurrent(_) | Self::RemoveExpiredDeleteMarkers => None,
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
            Self::Transition(days, class) => write!(f, "move objects to {class} after {days}"),
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

/// The rules that a bucket with this lifecycle has.
pub fn effects(lifecycle: &Lifecycle) -> Vec<Effect> {
    let expire = lifecycle.expire_after_days;
    // A day suffices to finish any single upload that anybody waits for, but a run of several
    // days may keep one open: as long as the data itself may live, and a week at the most.
    let uploads = lifecycle
        .abort_incomplete_uploads_after_days
        .or(expire.map(|days| days.min(Days(WEEK))));
    let one = Days(NonZeroU16::MIN);
    let moves = lifecycle
        .transitions
        .iter()
        .map(|step| Effect::Transition(step.after_days, step.storage_class));
    [
        expire.map(Effect::Expire),
        uploads.map(Effect::AbortIncompleteUploads),
        expire.map(|_| Effect::ExpireNoncurrent(one)),
        expire.map(|_| Effect::RemoveExpiredDeleteMarkers),
    ]
    .into_iter()
    .flatten()
    .chain(moves)
    .collect()
}

/// The full rule set of a bucket whose objects expire after `days`.
pub fn expiring(days: Days) -> Vec<Effect> {
    effects(&Lifecycle {
        expire_after_days: Some(days),
        abort_incomplete_uploads_after_days: None,
        transitions: Vec::new(),
    })
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
    let (apply, omitted) = declared
        .iter()
        .partition(|effect| effect.needs().is_none_or(|needed| supports.has(needed)));
    Achievable { apply, omitted }
}

/// How a bucket's rules differ from those that should be there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Declared but absent.
    pub missing: Vec<Effect>,
    /// Under one of our ids, but with another meaning.
    pub changed: Vec<Changed>,
}

/// A rule under one of our ids that is not as declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The id.
    pub id: String,
    /// What the rule does; none where it is nothing that we know.
    pub is: Option<Effect>,
    /// What it should do; none where it should not be there.
    pub should: Option<Effect>,
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, is, should } = self;
        match (is, should) {
            (Some(is), Some(_)) => write!(f, "rule {id} to {is}"),
            (Some(is), None) => write!(f, "rule {id} to {is}, which nobody declared"),
            (None, Some(_)) => write!(f, "rule {id} changed"),
            (None, None) => write!(f, "rule {id}, which nobody declared"),
        }
    }
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
            let should = declared
                .iter()
                .find(|effect| effect.rule_id() == rule.id)
                .copied();
            let is = match rule.body {
                RuleBody::Known(effect) => Some(effect),
                RuleBody::Other(_) => None,
            };
            let id = rule.id.clone();
            (is.is_none() || is != should).then_some(Changed { id, is, should })
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
