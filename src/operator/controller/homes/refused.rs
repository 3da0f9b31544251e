//! What the API server refused: every change of a claim or a user wakes the reconciler, and a full quota would be
//! asked again by each of them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hubstorage_core::homes::{Growth, StorageSize};
use jiff::{SignedDuration, Timestamp};

use super::STUCK;

/// Growths that were refused a short while ago, by the UID of the claim.
#[derive(Debug, Default)]
pub struct RefusedGrowths(Mutex<HashMap<String, Refused>>);

#[derive(Debug)]
struct Refused {
    to: StorageSize,
    at: Timestamp,
    why: String,
}

impl RefusedGrowths {
    /// Why this growth was refused, if it was not so long ago that it is to be tried again.
    pub(super) fn of(&self, growth: &Growth, now: Timestamp) -> Option<String> {
        let mut refused = self.locked();
        let since = |at: Timestamp| now.duration_since(at);
        refused.retain(|_, refused| since(refused.at) < stuck());
        let refused = refused.get(&growth.uid)?;
        (refused.to == growth.to).then(|| refused.why.clone())
    }

    pub(super) fn remember(&self, growth: &Growth, why: String, now: Timestamp) {
        let refused = Refused {
            to: growth.to.clone(),
            at: now,
            why,
        };
        self.locked().insert(growth.uid.clone(), refused);
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<String, Refused>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A little less than the pause until the next look, which is to find it forgotten.
fn stuck() -> SignedDuration {
    SignedDuration::try_from(STUCK).unwrap_or(SignedDuration::MAX) - SignedDuration::from_secs(10)
}
