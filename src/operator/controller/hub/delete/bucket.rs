//! The deletion of one bucket, as far as one round goes. What is left is in the store itself:
//! whoever goes on, after a crash or beside somebody else, needs to know nothing of what was done.

use std::sync::Arc;

use hubstorage_cloud::{Batch, CloudError, ObjectStore, Removal};
use hubstorage_core::api::{BucketStatus, Emptying, HubStorage, OWNER_TAG, Reason};
use hubstorage_core::names::BucketName;
use hubstorage_core::plan::{Intent, Owner};

use super::fate::{Fate, How, Why, fate};
use super::{BATCHES_PER_ROUND, newest};
use crate::controller::{Context, Step};

/// What became of a bucket in one round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It stays.
    Retained(Why),
    /// It is not in the store any more.
    Gone,
    /// There is more to do, at once.
    Continues,
    /// Something has to happen first.
    Held(Step),
}

/// Where a bucket is, and who deletes it.
pub struct Deletion<'c> {
    /// The hub that is being deleted.
    pub hub: &'c HubStorage,
    /// Whose tag the bucket has to bear.
    pub owner: &'c Owner,
    /// The connection to the store.
    pub store: Arc<dyn ObjectStore>,
    /// Which store that is.
    pub location: String,
    /// What every reconciler is given.
    pub context: &'c Context,
}

/// Whose a bucket is.
enum Standing {
    Missing,
    Ours,
    /// Made by us, and nobody has used it: the crash came before the tag.
    Unused,
    OthersOwn {
        owner: String,
    },
    Untagged,
}

impl Deletion<'_> {
    /// Deletes a bucket, as far as a round goes; `known` keeps count.
    pub async fn of(&self, known: &mut BucketStatus, how: How) -> Outcome {
        if how == How::IfEmpty {
            known.emptying = None;
        }
        if known.store != self.location {
            return self.moved(known);
        }
        let bucket = match BucketName::parse(&known.bucket_name) {
            Ok(bucket) => bucket,
            Err(error) => {
                return Outcome::Held(Step::stalled(Reason::BucketNameInvalid, error.to_string()));
            }
        };
        for _ in 0..BATCHES_PER_ROUND {
            // Whoever edits the spec in the meantime is heard before anything more is deleted.
            let is_wanted = newest(self.hub, self.context)
                .is_some_and(|hub| fate(&hub, known, self.owner) == Fate::Deleted(how));
            if !is_wanted {
                break;
            }
            match self.step(&bucket, known, how).await {
                Ok(Some(outcome)) => return outcome,
                Ok(None) => {}
                Err(error) => return Outcome::Held(with_way_out(Step::from(&error), known)),
            }
        }
        Outcome::Continues
    }

    /// One batch, or what ends the deletion. Whose the bucket is, is asked first each time.
    async fn step(
        &self,
        bucket: &BucketName,
        known: &mut BucketStatus,
        how: How,
    ) -> Result<Option<Outcome>, CloudError> {
        let mut has_moved = false;
        match self.standing(bucket, known).await? {
            Standing::Missing => return Ok(Some(Outcome::Gone)),
            Standing::OthersOwn { owner } => {
                return Ok(Some(Outcome::Retained(Why::OthersOwn { owner })));
            }
            Standing::Untagged => return Ok(Some(self.untagged(known))),
            // The store keeps it if somebody has put anything there since.
            Standing::Unused => {}
            Standing::Ours if how == How::IfEmpty => {
                let contents = self.store.contents(bucket).await?;
                if !contents.is_empty() {
                    return Ok(Some(not_empty(known, &contents.to_string())));
                }
            }
            Standing::Ours => {
                let batch = self.store.empty_some(bucket).await?;
                count(known, &batch);
                has_moved = batch.has_moved();
                if batch.is_left {
                    return Ok(match has_moved {
                        true => None,
                        false => Some(refused(known, &batch)),
                    });
                }
            }
        }
        match self.store.delete_bucket(bucket).await? {
            Removal::Deleted | Removal::AlreadyGone => Ok(Some(Outcome::Gone)),
            Removal::NotEmpty if how == How::IfEmpty => {
                Ok(Some(not_empty(known, "something that it does not list")))
            }
            // Written meanwhile.
            Removal::NotEmpty if has_moved => Ok(None),
            Removal::NotEmpty => {
                let message = format!(
                    "the store does not delete bucket {bucket} because it is not empty, and nothing that it lists is left \
                     to delete"
                );
                let step = Step::retry(Reason::BucketNotEmpty, message);
                Ok(Some(Outcome::Held(with_way_out(step, known))))
            }
        }
    }

    async fn standing(
        &self,
        bucket: &BucketName,
        known: &BucketStatus,
    ) -> Result<Standing, CloudError> {
        let Some(tags) = self.store.bucket_tags(bucket).await? else {
            return Ok(Standing::Missing);
        };
        match tags.get(OWNER_TAG) {
            Some(tag) if tag == self.owner.to_string() => return Ok(Standing::Ours),
            Some(other) => {
                let owner = other.to_owned();
                return Ok(Standing::OthersOwn { owner });
            }
            None => {}
        }
        let Some(creation) = &known.creation else {
            return Ok(Standing::Untagged);
        };
        let intent = Intent::from(creation);
        let found = self.store.unclaimed(bucket).await?;
        Ok(match intent.explains(found.created, found.empty) {
            true => Standing::Unused,
            // It was never ours: somebody made it before we did.
            false => Standing::OthersOwn {
                owner: "nobody".to_owned(),
            },
        })
    }

    fn untagged(&self, known: &BucketStatus) -> Outcome {
        let message = format!(
            "bucket {} bears no owner tag, so nothing is deleted. Tag it {OWNER_TAG}={} if it is to be deleted",
            known.bucket_name, self.owner
        );
        let step = Step::stalled(Reason::BucketOwnedByOthers, message);
        Outcome::Held(with_way_out(step, known))
    }

    fn moved(&self, known: &BucketStatus) -> Outcome {
        let message = format!(
            "bucket {} is at {}, and StorageProvider {} is at {} now; nothing is deleted there. Change the provider back",
            known.bucket_name, known.store, self.hub.spec.provider_ref.name, self.location
        );
        let step = Step::stalled(Reason::ProviderMoved, message);
        Outcome::Held(with_way_out(step, known))
    }
}

/// The same step, and how the HubStorage goes without it.
pub fn with_way_out(step: Step, known: &BucketStatus) -> Step {
    let told = |message: &str| {
        format!(
            "{message}. To keep bucket {} and let the HubStorage go, set deletionPolicy of spec.buckets[{}] to Retain",
            known.bucket_name, known.name
        )
    };
    match step {
        Step::Done => Step::Done,
        Step::Wait { reason, message } => Step::retry(reason, told(&message)),
        Step::Stalled { reason, message } => Step::stalled(reason, told(&message)),
    }
}

fn count(known: &mut BucketStatus, batch: &Batch) {
    let more = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let emptying = known.emptying.get_or_insert(Emptying::default());
    emptying.deleted_versions += more(batch.deleted_versions);
    emptying.aborted_uploads += more(batch.aborted_uploads);
}

fn not_empty(known: &BucketStatus, contents: &str) -> Outcome {
    let message = format!(
        "bucket {} holds {contents}, and deletionPolicy of spec.buckets[{}] is DeleteIfEmpty. Empty it, or set \
         deletionPolicy to DeleteContents to delete all of that",
        known.bucket_name, known.name
    );
    let step = Step::stalled(Reason::BucketNotEmpty, message);
    Outcome::Held(with_way_out(step, known))
}

fn refused(known: &BucketStatus, batch: &Batch) -> Outcome {
    let what = match &batch.refused {
        Some(refused) => refused.to_string(),
        None => "what it lists".to_owned(),
    };
    let message = format!(
        "the store does not delete {what} in bucket {}. Lift its lock or wait for the end of its retention, or give the \
         managing identity s3:DeleteObjectVersion",
        known.bucket_name
    );
    let step = Step::stalled(Reason::BucketNotEmpty, message);
    Outcome::Held(with_way_out(step, known))
}
