//! One budget of calls for all who call one store.
//!
//! A store that throttles is asked too much by all of its callers together, so they back off
//! together: its answer to one closes the budget for everybody, for pauses that grow and are
//! jittered. Whoever comes meanwhile is refused here, with the store's own words, and costs it
//! nothing. After a pause calls are let through one by one, ever closer to each other while
//! they succeed, so that hundreds of hubs do not come back at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hubstorage_core::names::BucketName;
use hubstorage_core::policies::PolicyDocument;
use tokio::time::{Instant, sleep_until};

use crate::{AssumedRole, CloudError, Credential, CredentialSource, Layer, Operation};

/// The first pause; each that follows without a recovery in between is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest one: users wait for the first credential as long.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Time between the first calls after a pause.
const FIRST_SPACING: Duration = Duration::from_millis(250);

/// What is left of it after each call that succeeds.
const SHRINKS_TO: f64 = 0.9;

/// Calls that are closer than this need no spacing: the store has recovered. It takes 31 of
/// them to get there.
const FINEST_SPACING: Duration = Duration::from_millis(10);

/// Who would have to wait longer for a turn is refused.
const PATIENCE: Duration = Duration::from_secs(2);

/// How much may be asked of a store; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Budget(Arc<Mutex<Option<Limit>>>);

/// What is left of a budget once the store has throttled.
#[derive(Debug)]
struct Limit {
    /// What the store said.
    said: CloudError,
    /// Nobody calls before.
    closed_until: Instant,
    /// Pauses since the store was last well.
    pauses: u32,
    spacing: Duration,
    /// When the next call may begin.
    next: Instant,
}

impl Budget {
    fn limit(&self) -> MutexGuard<'_, Option<Limit>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call when it is its turn.
    ///
    /// # Errors
    /// Those of the call, and [`CloudError::Throttled`] without a call while the budget is closed.
    pub async fn spend<T>(
        &self,
        call: impl Future<Output = Result<T, CloudError>>,
    ) -> Result<T, CloudError> {
        let turn = self.limit().as_mut().map_or(Ok(None), Limit::turn)?;
        if let Some(turn) = turn {
            sleep_until(turn).await;
            // Somebody whose turn was earlier may have been throttled again.
            self.limit().as_ref().map_or(Ok(()), Limit::check)?;
        }
        let answer = call.await;
        match &answer {
            Err(throttled @ CloudError::Throttled { .. }) => self.throttled(throttled),
            // Of its load, a store that is away says nothing.
            Err(CloudError::Unreachable { .. }) => {}
            _ => self.answered(),
        }
        answer
    }

    fn throttled(&self, said: &CloudError) {
        let mut limit = self.limit();
        let pauses = match &*limit {
            // It was under way already when the budget was closed: the same news.
            Some(limit) if limit.check().is_err() => return,
            Some(limit) => limit.pauses,
            None => 0,
        };
        let pause = FIRST_PAUSE.saturating_mul(1 << pauses.min(16));
        let jitter = rand::random_range(0.8..=1.2);
        let closed_until = Instant::now() + pause.min(LONGEST_PAUSE).mul_f64(jitter);
        *limit = Some(Limit {
            said: said.clone(),
            closed_until,
            pauses: pauses + 1,
            spacing: FIRST_SPACING,
            next: closed_until,
        });
    }

    fn answered(&self) {
        let mut limit = self.limit();
        let has_recovered = limit.as_mut().is_some_and(|limit| {
            if limit.check().is_ok() {
                limit.spacing = limit.spacing.mul_f64(SHRINKS_TO);
            }
            limit.spacing < FINEST_SPACING
        });
        if has_recovered {
            *limit = None;
        }
    }
}

impl Limit {
    /// Whether calls may be made now.
    fn check(&self) -> Result<(), CloudError> {
        match Instant::now() < self.closed_until {
            true => Err(self.said.clone()),
            false => Ok(()),
        }
    }

    /// When the next call may begin.
    fn turn(&mut self) -> Result<Option<Instant>, CloudError> {
        self.check()?;
        let now = Instant::now();
        let turn = self.next.max(now);
        if turn > now + PATIENCE {
            return Err(self.said.clone());
        }
        self.next = turn + self.spacing;
        Ok(Some(turn))
    }
}

impl Layer for Budget {
    async fn around<T: Send>(
        &self,
        _operation: Operation,
        _bucket: Option<&BucketName>,
        call: impl Future<Output = Result<T, CloudError>> + Send,
    ) -> Result<T, CloudError> {
        self.spend(call).await
    }
}

/// A vending side whose calls come out of a [`Budget`].
#[derive(Debug, Clone)]
pub struct Budgeted<S> {
    inner: S,
    budget: Budget,
}

impl<S> Budgeted<S> {
    /// `inner`, within `budget`.
    pub fn new(inner: S, budget: Budget) -> Self {
        Self { inner, budget }
    }
}

#[async_trait]
impl<S: CredentialSource> CredentialSource for Budgeted<S> {
    async fn assume(
        &self,
        role: Option<AssumedRole<'_>>,
        session: &str,
        policy: &PolicyDocument,
        lifetime: Duration,
    ) -> Result<Credential, CloudError> {
        self.budget
            .spend(self.inner.assume(role, session, policy, lifetime))
            .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::task::JoinSet;
    use tokio::time::sleep;

    use super::*;

    const THROTTLED: CloudError = CloudError::Throttled {
        permission: "s3:GetBucketTagging",
    };

    /// A store that throttles while it is told to, and notes when it was called.
    #[derive(Debug, Clone, Default)]
    struct Store {
        throttles: Arc<AtomicBool>,
        calls: Arc<Mutex<Vec<Instant>>>,
    }

    impl Store {
        async fn call(&self) -> Result<(), CloudError> {
            self.calls.lock().unwrap().push(Instant::now());
            sleep(Duration::from_millis(5)).await;
            match self.throttles.load(Ordering::Relaxed) {
                true => Err(THROTTLED),
                false => Ok(()),
            }
        }

        fn throttle(&self, throttles: bool) {
            self.throttles.store(throttles, Ordering::Relaxed);
        }

        /// The calls since this was last asked.
        fn calls(&self) -> Vec<Instant> {
            std::mem::take(&mut *self.calls.lock().unwrap())
        }
    }

    /// Hubs that call every so often until they get through.
    fn hubs(number: usize, store: &Store, budget: &Budget) -> JoinSet<()> {
        let mut hubs = JoinSet::new();
        for _ in 0..number {
            let (store, budget) = (store.clone(), budget.clone());
            hubs.spawn(async move {
                while budget.spend(store.call()).await.is_err() {
                    sleep(Duration::from_secs(5)).await;
                }
            });
        }
        hubs
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_does_not_throttle_is_called_by_all_at_once() {
        let (store, budget) = (Store::default(), Budget::default());
        let start = Instant::now();

        hubs(500, &store, &budget).join_all().await;

        assert!(store.calls().iter().all(|at| *at == start));
    }

    #[tokio::test(start_paused = true)]
    async fn while_a_store_throttles_all_hubs_together_ask_it_as_often_as_one() {
        let (store, budget) = (Store::default(), Budget::default());
        store.throttle(true);
        let mut hubs = hubs(500, &store, &budget);
        sleep(Duration::from_secs(60)).await;
        let first = store.calls().len();

        sleep(Duration::from_secs(1200)).await;

        // All before the first answer, then one after each pause: 1, 2, 4, 8, 16, 32 s.
        assert!((501..=507).contains(&first), "{first}");
        // Of the longest pause, 20 minutes have between 16 and 25.
        let calls = store.calls().len();
        assert!((15..=25).contains(&calls), "{calls}");
        hubs.abort_all();
    }

    #[tokio::test(start_paused = true)]
    async fn hubs_come_back_one_by_one_and_all_get_through() {
        let (store, budget) = (Store::default(), Budget::default());
        store.throttle(true);
        let hubs = hubs(500, &store, &budget);
        sleep(Duration::from_secs(60)).await;
        store.throttle(false);
        store.calls();

        hubs.join_all().await;

        let calls = store.calls();
        assert_eq!(calls.len(), 500);
        let after = |call: usize| (calls[call] - calls[0]).as_secs_f64();
        assert!(
            after(1) >= 0.2 && after(8) >= 1.0,
            "{} {}",
            after(1),
            after(8)
        );
        assert!(budget.limit().is_none(), "the store has recovered");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_refused_is_told_at_once_what_the_store_said() {
        let (store, budget) = (Store::default(), Budget::default());
        store.throttle(true);
        assert_eq!(budget.spend(store.call()).await, Err(THROTTLED));
        store.calls();
        let start = Instant::now();

        let other = async { Ok::<_, CloudError>(()) };
        assert_eq!(budget.spend(other).await, Err(THROTTLED));

        assert_eq!((Instant::now(), store.calls().len()), (start, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_up_to_a_minute_and_begin_anew_once_the_store_has_recovered() {
        let (store, budget) = (Store::default(), Budget::default());
        let pause = async || {
            store.throttle(true);
            let closed = Instant::now();
            while store.calls().is_empty() {
                sleep(Duration::from_millis(10)).await;
                _ = budget.spend(store.call()).await;
            }
            (Instant::now() - closed).as_secs_f64()
        };
        pause().await;
        let mut expected = 1.0_f64;
        for _ in 0..9 {
            let took = pause().await;
            let longest = expected.min(60.0);
            assert!(
                (0.8 * longest..=1.2 * longest + 0.1).contains(&took),
                "{took} {longest}"
            );
            expected *= 2.0;
        }

        sleep(2 * LONGEST_PAUSE).await;
        store.throttle(false);
        for _ in 0..40 {
            _ = budget.spend(store.call()).await;
        }
        store.calls();
        pause().await;
        assert!(pause().await < 1.5);
    }
}
