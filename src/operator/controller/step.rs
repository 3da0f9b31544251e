//! How a step of a reconcile ends. `Err` is left for what nobody expected.

use std::hash::Hash;
use std::time::Duration;

use hubstorage_cloud::{CloudError, Disposition};
use hubstorage_core::api::{ConditionStatus, ConditionType, Reason, Verdict};

use super::Backoff;
use super::backoff::{LONGEST, jittered};
use crate::providers::{ConnectError, reason_of};

/// Why a hub counts for nothing: the broker refuses its users, in every mode and whatever was found before.
pub(super) const REFUSED: [Reason; 2] = [Reason::NamespaceNotAllowed, Reason::SecondHubStorage];

/// The end of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Everything is as it should be.
    Done,
    /// Something has to happen first; it is tried again with growing pauses.
    Wait {
        /// For machines.
        reason: Reason,
        /// For people.
        message: String,
    },
    /// Nothing moves until somebody changes something.
    Stalled {
        /// For machines.
        reason: Reason,
        /// For people, with the way out.
        message: String,
    },
}

impl Step {
    /// Stalled, for this reason.
    pub fn stalled(reason: Reason, message: impl Into<String>) -> Self {
        Self::Stalled {
            reason,
            message: message.into(),
        }
    }

    /// Tried again with growing pauses.
    pub fn retry(reason: Reason, message: impl Into<String>) -> Self {
        Self::Wait {
            reason,
            message: message.into(),
        }
    }

    /// The word for this end in metrics.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Done => Reason::Applied,
            Self::Wait { reason, .. } | Self::Stalled { reason, .. } => *reason,
        }
    }

    /// The pause until the object at `key` is looked at again: `interval` where all is well, and
    /// those of `backoff` while something has to happen first.
    pub(super) fn pause<Key: Eq + Hash>(
        &self,
        key: Key,
        backoff: &Backoff<Key>,
        interval: Duration,
    ) -> Duration {
        let interval = match self {
            Self::Wait { .. } => return backoff.failed(key),
            Self::Done => interval,
            // What it waits for at the store (a policy, a bucket's tag) is not watched.
            Self::Stalled { .. } => interval.min(LONGEST),
        };
        backoff.succeeded(&key);
        jittered(interval)
    }
}

/// `Ready` is not, and why: `Reconciling` while it is tried again, `Stalled` until somebody
/// changes something.
pub(super) fn not_ready(why: ConditionType, reason: Reason, message: &str) -> Vec<Verdict> {
    use ConditionStatus::{False, True};
    vec![
        Verdict::new(ConditionType::Ready, False, reason, message),
        Verdict::new(why, True, reason, message),
    ]
}

/// What a part says when the reconcile did not get as far as the store.
pub(super) fn not_reached(type_: ConditionType, step: &Step) -> Verdict {
    use ConditionStatus::{True, Unknown};
    match step {
        Step::Stalled { reason, message } | Step::Wait { reason, message } => {
            Verdict::new(type_, Unknown, *reason, message)
        }
        Step::Done => Verdict::new(type_, True, Reason::NotDeclared, "no bucket is declared"),
    }
}

impl From<&CloudError> for Step {
    fn from(error: &CloudError) -> Self {
        match error.disposition() {
            Disposition::Retry => Self::retry(reason_of(error), error.to_string()),
            Disposition::Stall => Self::stalled(reason_of(error), error.to_string()),
        }
    }
}

impl From<&ConnectError> for Step {
    fn from(error: &ConnectError) -> Self {
        match error.disposition() {
            Disposition::Retry => Self::retry(error.reason(), error.to_string()),
            Disposition::Stall => Self::stalled(error.reason(), error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(3600);

    fn seconds(step: &Step, backoff: &Backoff<&'static str>) -> f64 {
        step.pause("hub", backoff, INTERVAL).as_secs_f64()
    }

    #[test]
    fn a_step_that_waits_is_tried_soon_and_ever_later_until_it_ends_otherwise() {
        let backoff = Backoff::default();
        let waits = Step::retry(Reason::StoreFailed, "503");
        assert!((0.9..=1.1).contains(&seconds(&waits, &backoff)));
        assert!((1.8..=2.2).contains(&seconds(&waits, &backoff)));
        seconds(&Step::Done, &backoff);
        assert!((0.9..=1.1).contains(&seconds(&waits, &backoff)));
    }

    #[test]
    fn what_stalls_is_looked_at_every_five_minutes_where_all_is_well_waits_its_interval() {
        let backoff = Backoff::default();
        let stalled = Step::stalled(Reason::AccessDenied, "403");
        assert!((270.0..=330.0).contains(&seconds(&stalled, &backoff)));
        assert!((3240.0..=3960.0).contains(&seconds(&Step::Done, &backoff)));
    }
}
