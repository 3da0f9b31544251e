//! Carries plans out: one safe-to-repeat call after the other, and stops at the first that
//! fails.

use std::collections::BTreeMap;

use hubstorage_cloud::{CloudError, Creation, Tags};
use hubstorage_core::api::{Capability, HubStorage, OWNER_TAG, Origin, Reason};
use hubstorage_core::lifecycle::Effect;
use hubstorage_core::names::BucketName;
use hubstorage_core::plan::{Action, BucketPlan, Declared, Deed as _, Intent, Remembered};
use jiff::Timestamp;
use kube::Resource as _;
use rand::distr::{Alphanumeric, SampleString as _};

use super::Target;
use super::status::Pending;
use crate::controller::{Context, Step};

/// What became of one bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketOutcome {
    /// What was to be done.
    pub plan: BucketPlan,
    /// The store that it was looked for at.
    pub location: String,
    /// Whether the store was asked how the bucket is, and did not tell.
    pub unseen: bool,
    /// How it ended.
    pub step: Step,
    /// Whether the bucket exists and is ours.
    pub ours: bool,
    /// An intent to create that is not followed up yet.
    pub intent: Option<Intent>,
    /// What the store turned out not to support.
    pub unsupported: Option<Capability>,
    /// When the store says that the bucket was created.
    pub created: Option<Timestamp>,
}

impl BucketOutcome {
    /// A bucket that could not be observed: nothing was planned, nothing is known.
    pub fn unobserved(
        declared: &Declared,
        target: &Target,
        error: &CloudError,
        remembered: Remembered,
    ) -> Self {
        Self {
            plan: BucketPlan::nothing(declared, None),
            location: target.location.clone(),
            unseen: true,
            step: Step::from(error),
            ours: false,
            intent: remembered.intent,
            unsupported: None,
            created: remembered.created,
        }
    }

    /// A bucket that was looked at and left as it is: mode Observe.
    pub fn foreseen(plan: BucketPlan, target: &Target, remembered: Remembered) -> Self {
        let step = match (&plan.refusal, plan.actions.len()) {
            (Some(refusal), _) => Step::stalled(refusal.reason, &refusal.message),
            (None, 0) => Step::Done,
            (None, changes) => {
                let message = format!("{changes} changes that mode Enforce would make");
                Step::stalled(Reason::Observing, message)
            }
        };
        Self {
            location: target.location.clone(),
            unseen: false,
            step,
            ours: is_ours(&plan),
            intent: remembered.intent,
            unsupported: None,
            created: remembered.created,
            plan,
        }
    }
}

/// Whether the bucket is ours already: a plan that is not refused, and does not have to create or
/// claim the bucket, has found our tag on it.
fn is_ours(plan: &BucketPlan) -> bool {
    let makes_it_ours =
        |action: &Action| matches!(action, Action::Create { .. } | Action::Tag { .. });
    plan.refusal.is_none() && !plan.actions.iter().any(makes_it_ours)
}

/// What is pending once these plans are about to be carried out, by the bucket's name within the
/// hub: intents that are not followed up yet, and a new one for each bucket to create.
pub fn pending<'p>(
    plans: impl Iterator<Item = &'p BucketPlan>,
    remembered: &BTreeMap<String, Remembered>,
    now: Timestamp,
) -> BTreeMap<String, Pending> {
    let creates = |plan: &BucketPlan| {
        plan.actions
            .iter()
            .any(|action| matches!(action, Action::Create { .. }))
    };
    plans
        .filter_map(|plan| {
            let before = remembered
                .get(&plan.name)
                .and_then(|remembered| remembered.intent.clone());
            let intent = before.or_else(|| creates(plan).then(|| new_intent(now)))?;
            Some((
                plan.name.clone(),
                Pending {
                    bucket: plan.bucket.clone(),
                    intent,
                },
            ))
        })
        .collect()
}

fn new_intent(now: Timestamp) -> Intent {
    // 16 alphanumeric characters, 95 bits: two intents never share a nonce. Whole seconds, as
    // the API server stores them: the intent must read back as it was written.
    Intent {
        nonce: Alphanumeric.sample_string(&mut rand::rng(), 16),
        time: Timestamp::from_second(now.as_second()).unwrap_or(now),
    }
}

/// Carries the plan of one bucket out.
pub async fn bucket(
    hub: &HubStorage,
    target: &Target,
    plan: BucketPlan,
    intent: Option<&Intent>,
    created: Option<Timestamp>,
    context: &Context,
) -> BucketOutcome {
    let mut outcome = BucketOutcome {
        plan,
        location: target.location.clone(),
        unseen: false,
        step: Step::Done,
        ours: false,
        intent: intent.cloned(),
        unsupported: None,
        created,
    };
    if let Some(refusal) = &outcome.plan.refusal {
        outcome.step = Step::stalled(refusal.reason, &refusal.message);
        return outcome;
    }
    outcome.ours = is_ours(&outcome.plan);

    for action in outcome.plan.actions.clone() {
        let result = act(target, &action, outcome.intent.as_ref()).await;
        context.metrics.action(&action, result.is_ok());
        match result {
            Ok(()) => {
                tracing::info!(
                    namespace = target.owner.namespace,
                    name = target.owner.name,
                    reason = %action.reason(),
                    "{action}"
                );
                context.events.done(&hub.object_ref(&()), &action).await;
            }
            Err(Failure::Store(error)) => {
                if let CloudError::Unsupported { capability } = error {
                    outcome.unsupported = Some(capability);
                    // All other rules are in force by now.
                    if let Some(rest) = without(action, capability) {
                        context.events.done(&hub.object_ref(&()), &rest).await;
                    }
                }
                outcome.step = Step::from(&error);
                return outcome;
            }
            Err(Failure::Raced(message)) => {
                outcome.step = Step::retry(Reason::Progressing, message);
                return outcome;
            }
        }
        if matches!(action, Action::Create { .. }) {
            outcome.created = None;
        }
        outcome.ours = true;
    }
    if outcome.ours {
        outcome.intent = None;
    }
    if outcome.ours && outcome.created.is_none() && outcome.plan.origin != Some(Origin::AccessOnly)
    {
        // Asked once in the life of a bucket.
        match target.store.created(&outcome.plan.bucket).await {
            Ok(created) => outcome.created = created,
            Err(error) => outcome.step = Step::from(&error),
        }
    }
    outcome
}

/// What was done of the action by a store that lacks `capability`; none where that is nothing.
fn without(action: Action, capability: Capability) -> Option<Action> {
    let Action::SetLifecycle {
        bucket,
        mut effects,
        mut found,
        cause,
    } = action
    else {
        return None;
    };
    let is_possible = |effect: &Effect| effect.needs() != Some(capability);
    effects.retain(is_possible);
    found.missing.retain(is_possible);
    Some(Action::SetLifecycle {
        bucket,
        effects,
        found,
        cause,
    })
}

/// Why an action was not carried out.
pub enum Failure {
    /// The store did not do it.
    Store(CloudError),
    /// The bucket appeared between observing and creating: look again whose it is.
    Raced(String),
}

impl From<CloudError> for Failure {
    fn from(error: CloudError) -> Self {
        Self::Store(error)
    }
}

async fn act(target: &Target, action: &Action, intent: Option<&Intent>) -> Result<(), Failure> {
    let nonce = intent.map_or("", |intent| intent.nonce.as_str());
    let tags: Tags = target.owner.creation_tags(nonce).into_iter().collect();
    match action {
        Action::Create { bucket, .. } => match target.store.create_bucket(bucket, &tags).await? {
            Creation::Created { tagged: true } => Ok(()),
            Creation::Created { tagged: false } => claim(target, bucket, intent, &tags).await,
            Creation::AlreadyThere => Err(Failure::Raced(format!(
                "bucket {bucket} appeared while it was being created; looking whose it is"
            ))),
        },
        Action::Tag {
            bucket,
            origin: Origin::Created,
            ..
        } => tag(target, bucket, &tags).await,
        Action::Tag { bucket, .. } => {
            let tags: Tags = target.owner.adoption_tags().into_iter().collect();
            tag(target, bucket, &tags).await
        }
        Action::SetLifecycle {
            bucket, effects, ..
        } => Ok(target.store.set_lifecycle_rules(bucket, effects).await?),
        Action::Configure {
            bucket, setting, ..
        } => Ok(target.store.apply_setting(bucket, setting).await?),
    }
}

/// Marks a bucket as ours that was just created, if it was: in us-east-1, AWS answers the same
/// when the account has had the bucket for long (CreateBucket, `BucketAlreadyOwnedByYou`).
pub async fn claim(
    target: &Target,
    bucket: &BucketName,
    intent: Option<&Intent>,
    tags: &Tags,
) -> Result<(), Failure> {
    let found = target.store.unclaimed(bucket).await?;
    if intent.is_some_and(|intent| intent.explains(found.created, found.empty)) {
        return tag(target, bucket, tags).await;
    }
    Err(Failure::Raced(format!(
        "bucket {bucket} was there before it was created; looking whose it is"
    )))
}

/// Marks a bucket as ours, unless somebody else's tag is on it by now.
async fn tag(target: &Target, bucket: &BucketName, tags: &Tags) -> Result<(), Failure> {
    match target.store.bucket_tags(bucket).await? {
        Some(found) if found.get(OWNER_TAG).is_none() => {
            Ok(target.store.set_bucket_tags(bucket, tags).await?)
        }
        _ => Err(Failure::Raced(format!(
            "bucket {bucket} changed hands while it was being tagged; looking whose it is"
        ))),
    }
}
