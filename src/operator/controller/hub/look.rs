//! From what is declared to plans: every bucket is looked at first, so that all plans know what
//! the store cannot do.

use std::collections::{BTreeMap, BTreeSet};

use hubstorage_cloud::CloudError;
use hubstorage_core::api::{Capability, Management};
use hubstorage_core::plan::{BucketPlan, Declared, Observed, Refusal, Remembered, plan_bucket};
use hubstorage_core::supports::Supports;

use super::{Target, observe};

/// What a look at the store tells.
pub struct Looked {
    /// A plan for each bucket, in the order in which they were given; of one that could not be
    /// seen, why.
    pub plans: Vec<Result<BucketPlan, CloudError>>,
    /// What the store turned out to be unable to do, beyond what was known.
    pub lacking: BTreeSet<Capability>,
}

/// Looks at `buckets`, and plans. Both modes that look do it by this, so that Enforce does what
/// Observe says.
pub async fn all(
    target: &Target,
    buckets: &[Declared],
    remembered: &BTreeMap<String, Remembered>,
    mut supports: Supports,
) -> Looked {
    let remembered_of = |declared: &Declared| {
        let known = remembered.get(&declared.name);
        known.cloned().unwrap_or_default()
    };
    let mut lacking = BTreeSet::new();
    let mut seen = Vec::with_capacity(buckets.len());
    for declared in buckets {
        let store = match declared.management {
            Management::Full => target.store.as_ref(),
            Management::AccessOnly => target.store_of_others.as_ref(),
        };
        if let Some(taken) = target.taken.get(&declared.name) {
            // The same tag refuses whoever else names the bucket, however old that claim is. But one that has it
            // lets go of it first, at its own next look: until then its users are at it.
            let is_ours = match taken.is_held {
                true => Ok(false),
                false => observe::is_tagged(store, &declared.bucket, &target.owner).await,
            };
            match is_ours {
                Ok(true) => {}
                Ok(false) => {
                    seen.push(Ok(Seen::Taken(&taken.refusal)));
                    continue;
                }
                Err(error) => {
                    seen.push(Err(error));
                    continue;
                }
            }
        }
        let remembered = remembered_of(declared);
        let look = observe::bucket(store, declared, &remembered, &target.owner, supports).await;
        seen.push(look.map(|look| {
            supports = supports.without_all(look.lacking.iter().copied());
            lacking.extend(look.lacking);
            Seen::Bucket(look.observed)
        }));
    }
    let plan = |declared: &Declared, seen| match seen {
        Seen::Taken(refusal) => BucketPlan::nothing(declared, Some(refusal.clone())),
        Seen::Bucket(observed) => {
            let remembered = remembered_of(declared);
            plan_bucket(declared, &observed, &remembered, &target.owner, supports)
        }
    };
    let each = buckets.iter().zip(seen);
    Looked {
        plans: each
            .map(|(declared, seen)| seen.map(|seen| plan(declared, seen)))
            .collect(),
        lacking,
    }
}

/// What was seen of a bucket; of one that is another hub's, at most the tag.
enum Seen<'t> {
    Taken(&'t Refusal),
    Bucket(Observed),
}
