//! The one retry policy: growing pauses with jitter, for each object on its own.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::RngExt as _;

/// First pause; doubled at every failure in a row.
const FIRST: Duration = Duration::from_secs(1);

/// Longest pause: what a platform engineer who has just mended a policy will wait for.
pub const LONGEST: Duration = Duration::from_secs(300);

/// Counts failures in a row.
#[derive(Debug)]
pub struct Backoff<Key> {
    failures: Mutex<HashMap<Key, u32>>,
}

impl<Key> Default for Backoff<Key> {
    fn default() -> Self {
        Self {
            failures: Mutex::default(),
        }
    }
}

impl<Key: Eq + Hash> Backoff<Key> {
    /// Notes a failure, and says how long to wait.
    pub fn failed(&self, key: Key) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key).or_default();
        let pause = FIRST.saturating_mul(1 << (*count).min(16)).min(LONGEST);
        *count += 1;
        jittered(pause)
    }

    /// Notes a success, or that the object is gone.
    pub fn succeeded(&self, key: &Key) {
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
    }
}

/// ± 10 %, so that what started together does not stay together.
pub fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(rand::rng().random_range(0.9..1.1))
}

/// Any time within the interval: what starts at once for many is spread over all of it, and ends
/// within it for each.
pub fn spread(interval: Duration) -> Duration {
    interval.mul_f64(rand::rng().random_range(0.0..1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_five_minutes_and_start_anew_after_a_success() {
        let backoff = Backoff::default();
        let pauses: Vec<f64> = (0..12)
            .map(|_| backoff.failed("hub").as_secs_f64())
            .collect();
        assert!((0.9..=1.1).contains(&pauses[0]) && (1.8..=2.2).contains(&pauses[1]));
        assert!((270.0..=330.0).contains(&pauses[11]));
        assert!(backoff.failed("other").as_secs_f64() <= 1.1);
        backoff.succeeded(&"hub");
        assert!(backoff.failed("hub").as_secs_f64() <= 1.1);
    }
}
