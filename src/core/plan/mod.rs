//! The plan: from what is declared and what was observed to what should be done.
//!
//! No client, no clock, no randomness: the same input gives the same plan. Each [`Action`] is one
//! external call that is safe to repeat. How an action reads ([`std::fmt::Display`]) is what
//! events, messages and mode Observe say.

mod action;
mod ownership;

use jiff::Timestamp;
use serde_json::json;

pub use action::{Action, Cause, Deed, TagCause};
pub use ownership::{Intent, Owner, Refusal, Sighting, Standing, stand};

use crate::api::{Adoption, Management, Origin};
use crate::bucket_policy::{BucketPolicy, Grant};
use crate::lifecycle::{self, Achievable, Effect, Rule};
use crate::names::{BucketName, fingerprint};
use crate::settings::{self, DeclaredSettings, Deviation, Setting, Wanted};
use crate::supports::Supports;

/// A bucket as the spec wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Name within the hub.
    pub name: String,
    /// Name in the store.
    pub bucket: BucketName,
    /// Who keeps it.
    pub management: Management,
    /// What is done if it is there already.
    pub adoption: Adoption,
    /// Lifecycle effects; none where the spec asks for none. Rules of ours that are there from
    /// an earlier spec go, or they would delete data that somebody has just decided to keep.
    pub lifecycle: Vec<Effect>,
    /// All other settings.
    pub settings: DeclaredSettings,
}

impl Declared {
    /// What is to be kept in the store, in brief: another digest wherever anything else is
    /// declared. The mode, pods and other buckets have no part in it.
    pub fn digest(&self) -> String {
        let effects: Vec<String> = self.lifecycle.iter().map(ToString::to_string).collect();
        let DeclaredSettings {
            versioning,
            encryption,
            public_access,
            insecure_transport,
            object_ownership,
            has_tls,
        } = &self.settings;
        let declared = json!([
            effects,
            versioning,
            encryption,
            public_access,
            insecure_transport,
            object_ownership,
            has_tls
        ]);
        fingerprint(declared.to_string().as_bytes())
    }
}

/// What a closer look at a bucket tells; nothing of one that is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// All its lifecycle rules.
    pub rules: Vec<Rule<()>>,
    /// Its policy.
    pub policy: BucketPolicy,
    /// What its access control list grants to others than its owner.
    pub access_list: Vec<Grant>,
    /// Wanted settings, but for those in the policy, that are not as they should be.
    pub deviations: Vec<Deviation>,
}

/// A bucket as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The first look.
    pub sighting: Sighting,
    /// The closer look; empty where the first one said that the bucket is not ours.
    pub found: Found,
}

/// What is remembered of a bucket from the last reconcile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remembered {
    /// An intent to create that was not followed up yet.
    pub intent: Option<Intent>,
    /// Whether the bucket was once seen to be there: if it is missing, it was lost.
    pub existed: bool,
    /// Whether what is declared now was fully applied when last anything was: a difference is
    /// then drift.
    pub settled: bool,
    /// How it came to be ours.
    pub origin: Option<Origin>,
    /// When the store says that it was created.
    pub created: Option<Timestamp>,
}

/// What to do about one bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketPlan {
    /// Name within the hub.
    pub name: String,
    /// Name in the store.
    pub bucket: BucketName,
    /// What to do, in this order; nothing on a steady bucket.
    pub actions: Vec<Action>,
    /// Why nothing may be done. Then `actions` is empty.
    pub refusal: Option<Refusal>,
    /// How the bucket comes to be ours; none on a refused one.
    pub origin: Option<Origin>,
    /// Effects that will be in force; none on a refused bucket.
    pub in_force: Vec<Effect>,
    /// Declared effects that this store cannot do.
    pub omitted: Vec<Effect>,
    /// Settings that will be kept, and those that this store cannot do.
    pub settings: Wanted,
    /// What the bucket's policy and its access control list grant to others.
    pub grants: Vec<Grant>,
    /// Of what is declared: [`Declared::digest`].
    pub digest: String,
}

impl BucketPlan {
    /// What is declared and this store cannot do, in words.
    pub fn omitted(&self) -> Vec<String> {
        let effects = self.omitted.iter().map(ToString::to_string);
        let settings = self.settings.omitted.iter().map(ToString::to_string);
        effects.chain(settings).collect()
    }

    /// A plan to do nothing: of a bucket that is refused, or that nobody could look at.
    pub fn nothing(declared: &Declared, refusal: Option<Refusal>) -> Self {
        Self {
            name: declared.name.clone(),
            bucket: declared.bucket.clone(),
            actions: Vec::new(),
            refusal,
            origin: None,
            in_force: Vec::new(),
            omitted: Vec::new(),
            settings: Wanted::default(),
            grants: Vec::new(),
            digest: declared.digest(),
        }
    }
}

/// What to do about one bucket, given all that is known of it.
pub fn plan_bucket(
    declared: &Declared,
    observed: &Observed,
    remembered: &Remembered,
    owner: &Owner,
    supports: Supports,
) -> BucketPlan {
    let Standing { origin, first } = match stand(declared, &observed.sighting, remembered, owner) {
        Ok(standing) => standing,
        Err(refusal) => return BucketPlan::nothing(declared, Some(refusal)),
    };
    let found = &observed.found;
    let mut grants = found.policy.grants();
    grants.extend(found.access_list.iter().cloned());
    if origin == Origin::AccessOnly {
        return BucketPlan {
            origin: Some(origin),
            grants,
            ..BucketPlan::nothing(declared, None)
        };
    }
    let cause = drift_if(remembered.settled);
    let mut actions: Vec<Action> = first.into_iter().collect();

    let Achievable { apply, omitted } = lifecycle::achievable(&declared.lifecycle, supports);
    let difference = lifecycle::difference(&found.rules, &apply);
    if !difference.is_empty() {
        actions.push(Action::SetLifecycle {
            bucket: declared.bucket.clone(),
            effects: apply.clone(),
            found: difference,
            cause,
        });
    }

    let is_new = observed.sighting == Sighting::Missing;
    let wanted = settings::wanted(&declared.settings, origin, supports);
    for setting in &wanted.apply {
        let deviation = deviation(&declared.bucket, setting, found, is_new);
        actions.extend(deviation.map(|found| Action::Configure {
            bucket: declared.bucket.clone(),
            setting: setting.clone(),
            found,
            cause,
        }));
    }
    BucketPlan {
        name: declared.name.clone(),
        bucket: declared.bucket.clone(),
        actions,
        refusal: None,
        origin: Some(origin),
        in_force: apply,
        omitted,
        settings: wanted,
        grants,
        digest: declared.digest(),
    }
}

/// What is there instead of a setting, in words; of a bucket that is yet to be created nothing
/// is known but that it has no policy.
fn deviation(
    bucket: &BucketName,
    setting: &Setting,
    found: &Found,
    is_new: bool,
) -> Option<String> {
    if let Setting::Statements(wanted) = setting {
        let deviations = found.policy.deviations(bucket, wanted);
        return (!deviations.is_empty()).then(|| deviations.join(", "));
    }
    if is_new {
        return Some(String::new());
    }
    found
        .deviations
        .iter()
        .find(|deviation| deviation.setting == *setting)
        .map(|deviation| deviation.found.clone())
}

/// A difference from what was once as declared is drift.
fn drift_if(known: bool) -> Cause {
    if known { Cause::Drift } else { Cause::Declared }
}
