//! How much one sender may cost.
//!
//! A pod that sends garbage in a loop is soon answered without a look at its tokens. One with a
//! good token may ask as often as it has processes, and then no more than a few times a second:
//! its answers and its lines in the log are bounded, and so are the questions that they cost the
//! API server.

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use moka::future::Cache;

/// What is nothing to worry about.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    /// At once.
    burst: f64,
    /// Forgotten in a second.
    forgiven: f64,
}

/// Failures to authenticate: an SDK tries three times.
const FAILURES: Allowance = Allowance {
    burst: 20.0,
    forgiven: 2.0,
};

/// Failures of everybody who asks from one address. Behind an agent are no more pods than the kubelet
/// takes, 110 unless it is told otherwise (`maxPods`), each with its own [`FAILURES`]: all of them
/// together do not get here. Who reaches the broker without an agent, and says another pod's address
/// each time, does.
const FAILURES_OF_ADDRESS: Allowance = Allowance {
    burst: 2500.0,
    forgiven: 250.0,
};

/// Requests of a pod that has shown who it is. SDKs keep a credential for three quarters of an hour
/// in each process, so that only a start is busy: 100 Dask or multiprocessing workers at once,
/// each of which may try three times while the first credential is being issued.
const REQUESTS: Allowance = Allowance {
    burst: 300.0,
    forgiven: 2.0,
};

/// Senders that are counted, at most.
const COUNTED: u64 = 10_000;

/// Who failed: the connection's other end, and the pod that it speaks for. Agents are few and
/// carry the requests of many pods, and the pod's address alone is only as true as who tells it.
pub type Sender = (IpAddr, IpAddr);

/// UID of a pod, as its token's signature has proven it.
pub type PodUid = String;

#[derive(Debug, Clone, Copy)]
struct Level {
    count: f64,
    at: Instant,
}

/// Counts what each sender does, and forgets it at a steady rate.
pub struct Limit<S> {
    allowance: Allowance,
    senders: Cache<S, Arc<Mutex<Level>>>,
}

impl Limit<Sender> {
    /// On failures to authenticate.
    pub fn on_failures() -> Self {
        Self::new(FAILURES)
    }
}

impl Limit<IpAddr> {
    /// On failures to authenticate, whomever they were for.
    pub fn on_failures_of_address() -> Self {
        Self::new(FAILURES_OF_ADDRESS)
    }
}

impl Limit<PodUid> {
    /// On requests of pods that have shown who they are.
    pub fn on_requests() -> Self {
        Self::new(REQUESTS)
    }
}

impl<S: Hash + Eq + Send + Sync + 'static> Limit<S> {
    fn new(allowance: Allowance) -> Self {
        let forgotten = Duration::from_secs_f64(allowance.burst / allowance.forgiven);
        Self {
            allowance,
            senders: Cache::builder()
                .max_capacity(COUNTED)
                .time_to_idle(forgotten)
                .build(),
        }
    }

    /// Whether `sender` has used its allowance up.
    pub async fn exceeded(&self, sender: &S, now: Instant) -> bool {
        let Some(level) = self.senders.get(sender).await else {
            return false;
        };
        let level = level.lock().unwrap_or_else(PoisonError::into_inner);
        level.left(now, self.allowance) >= self.allowance.burst
    }

    /// `sender` did it once more.
    pub async fn count(&self, sender: S, now: Instant) {
        let none = async {
            Arc::new(Mutex::new(Level {
                count: 0.0,
                at: now,
            }))
        };
        let level = self.senders.get_with(sender, none).await;
        let mut level = level.lock().unwrap_or_else(PoisonError::into_inner);
        *level = Level {
            count: level.left(now, self.allowance) + 1.0,
            at: now,
        };
    }
}

impl Level {
    fn left(&self, now: Instant, allowance: Allowance) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.count - passed * allowance.forgiven).max(0.0)
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
        let limit = Limit::on_failures();
        let start = Instant::now();
        for _ in 0..20 {
            assert!(!limit.exceeded(&sender("10.1.0.7"), start).await);
            limit.count(sender("10.1.0.7"), start).await;
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
        let limit = Limit::on_failures();
        let now = Instant::now();
        for _ in 0..100 {
            limit.count(sender("10.1.0.7"), now).await;
        }
        assert!(!limit.exceeded(&sender("10.1.0.8"), now).await);
    }

    #[tokio::test]
    async fn a_node_full_of_pods_that_fail_in_a_loop_stays_below_what_stops_its_agent() {
        let (of_pods, of_agent) = (Limit::on_failures(), Limit::on_failures_of_address());
        let agent = sender("10.1.0.0").0;
        let start = Instant::now();
        for tenth in 0..100 {
            let now = start + Duration::from_millis(100) * tenth;
            for pod in (0..110).map(|pod| sender(&format!("10.1.0.{pod}"))) {
                assert!(!of_agent.exceeded(&agent, now).await);
                if !of_pods.exceeded(&pod, now).await {
                    of_pods.count(pod, now).await;
                    of_agent.count(agent, now).await;
                }
            }
        }
    }

    #[tokio::test]
    async fn a_hundred_processes_may_start_at_once_and_a_loop_gets_two_answers_a_second() {
        let limit = Limit::on_requests();
        let start = Instant::now();
        let answered = async |requests: usize, now| {
            let mut answered = 0;
            for _ in 0..requests {
                if !limit.exceeded(&"bob".to_owned(), now).await {
                    limit.count("bob".to_owned(), now).await;
                    answered += 1;
                }
            }
            answered
        };
        assert_eq!(answered(3 * 100, start).await, 300);
        assert_eq!(answered(1000, start).await, 0);
        assert_eq!(answered(1000, start + Duration::from_secs(5)).await, 10);
    }
}
