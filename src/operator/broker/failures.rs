//! A limit on failed tries to authenticate: a pod that sends garbage in a loop is soon answered
//! without a look at its tokens.
//!
//! Counted by the agent's address together with the pod's: agents are few and carry the
//! requests of many pods, and the pod's address alone is only as true as who tells it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use moka::future::Cache;

/// Failures in a row that are nothing to worry about: an SDK tries three times.
const BURST: f64 = 20.0;

/// Failures that are forgotten in a second.
const FORGIVEN_PER_SECOND: f64 = 2.0;

/// Who is being counted, at most.
const COUNTED: u64 = 10_000;

/// Who failed: the connection's other end, and the pod that it speaks for.
pub type Sender = (IpAddr, IpAddr);

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: f64,
    at: Instant,
}

/// Counts failures.
pub struct FailureLimit {
    senders: Cache<Sender, Arc<Mutex<Failures>>>,
}

impl Default for FailureLimit {
    fn default() -> Self {
        let forgotten = Duration::from_secs_f64(BURST / FORGIVEN_PER_SECOND);
        Self {
            senders: Cache::builder()
                .max_capacity(COUNTED)
                .time_to_idle(forgotten)
                .build(),
        }
    }
}

impl FailureLimit {
    /// Whether `sender` has failed too often of late.
    pub async fn exceeded(&self, sender: &Sender, now: Instant) -> bool {
        let Some(failures) = self.senders.get(sender).await else {
            return false;
        };
        let failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.left(now) >= BURST
    }

    /// `sender` failed once more.
    pub async fn failed(&self, sender: Sender, now: Instant) {
        let none = async {
            Arc::new(Mutex::new(Failures {
                count: 0.0,
                at: now,
            }))
        };
        let failures = self.senders.get_with(sender, none).await;
        let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
        *failures = Failures {
            count: failures.left(now) + 1.0,
            at: now,
        };
    }
}

impl Failures {
    fn left(&self, now: Instant) -> f64 {
        let forgiven = now.saturating_duration_since(self.at).as_secs_f64() * FORGIVEN_PER_SECOND;
        (self.count - forgiven).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(pod: &str) -> Sender {
        ("10.0.0.1".parse().unwrap(), pod.parse().unwrap())
    }

    #[tokio::test]
    async fn a_pod_that_fails_in_a_loop_is_stopped_and_forgiven_after_a_while() {
        let limit = FailureLimit::default();
        let start = Instant::now();
        for _ in 0..20 {
            assert!(!limit.exceeded(&sender("10.1.0.7"), start).await);
            limit.failed(sender("10.1.0.7"), start).await;
        }
        assert!(limit.exceeded(&sender("10.1.0.7"), start).await);
        assert!(
            !limit
                .exceeded(&sender("10.1.0.7"), start + Duration::from_secs(1))
                .await
        );
    }

    #[tokio::test]
    async fn other_pods_of_the_same_node_are_not_stopped_with_it() {
        let limit = FailureLimit::default();
        let now = Instant::now();
        for _ in 0..100 {
            limit.failed(sender("10.1.0.7"), now).await;
        }
        assert!(!limit.exceeded(&sender("10.1.0.8"), now).await);
    }
}
