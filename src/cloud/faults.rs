//! Faults at a chosen external call, for tests that ask what is left behind.
//!
//! One [`FaultPlan`] counts the calls of everything that shares it: the store, and in the
//! operator's tests the API server too. A clean run tells how many calls there are and what
//! they are; then each of them fails in each way.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hubstorage_core::names::BucketName;

use crate::{CloudError, Layer, Operation};

/// A way in which a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Nothing happens, and the caller is told so.
    Error,
    /// It happens, but the answer is lost.
    TimeoutAfterEffect,
    /// It happens, and the caller is dead: every later call fails too, until
    /// [`FaultPlan::restart`].
    Crash,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Error, Self::TimeoutAfterEffect, Self::Crash];
}

/// When which fault strikes, and every call so far; clones share it.
#[derive(Debug, Clone, Default)]
pub struct FaultPlan {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    strike: Option<(usize, Fault)>,
    crashed: bool,
    calls: Vec<String>,
}

impl FaultPlan {
    /// No fault: counts and names the calls of a clean run.
    pub fn none() -> Self {
        Self::default()
    }

    /// `fault` at call `k`, counted from 0.
    pub fn at(k: usize, fault: Fault) -> Self {
        let plan = Self::default();
        plan.shared().strike = Some((k, fault));
        plan
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names of all calls so far, in order, those included that never reached their effect.
    pub fn calls(&self) -> Vec<String> {
        self.shared().calls.clone()
    }

    /// Whether the caller is dead.
    pub fn has_crashed(&self) -> bool {
        self.shared().crashed
    }

    /// The caller starts again; the fault does not strike a second time.
    pub fn restart(&self) {
        let mut shared = self.shared();
        shared.crashed = false;
        shared.strike = None;
    }

    /// Carries out `effect` as the external call `name`, or lets the fault strike that is due;
    /// `failed` makes the error that the caller then sees.
    ///
    /// # Errors
    /// Those of `effect`, and `failed` of the fault.
    pub async fn call<T, E>(
        &self,
        name: impl Into<String>,
        effect: impl Future<Output = Result<T, E>>,
        failed: impl FnOnce(Fault) -> E,
    ) -> Result<T, E> {
        match self.next(name.into()) {
            None => effect.await,
            Some((fault, false)) => Err(failed(fault)),
            Some((fault, true)) => {
                // An effect that fails by itself is no longer the point.
                effect.await.and_then(|_| Err(failed(fault)))
            }
        }
    }

    /// Counts a call, and says which fault strikes it and whether its effect still happens.
    fn next(&self, name: String) -> Option<(Fault, bool)> {
        let mut shared = self.shared();
        let k = shared.calls.len();
        shared.calls.push(name);
        if shared.crashed {
            return Some((Fault::Crash, false));
        }
        let (at, fault) = shared.strike?;
        if at != k {
            return None;
        }
        shared.crashed = fault == Fault::Crash;
        Some((fault, fault != Fault::Error))
    }
}

impl Layer for FaultPlan {
    async fn around<T: Send>(
        &self,
        operation: Operation,
        bucket: Option<&BucketName>,
        call: impl Future<Output = Result<T, CloudError>> + Send,
    ) -> Result<T, CloudError> {
        let name = bucket.map_or_else(
            || operation.to_string(),
            |bucket| format!("{operation} {bucket}"),
        );
        self.call(name, call, |fault| CloudError::Unreachable {
            endpoint: "under test".into(),
            cause: format!("injected {fault:?}"),
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Behaviour, MemoryCloud, MemoryStore};
    use crate::{Layered, ObjectStore as _, Tags};

    fn faulty(plan: &FaultPlan) -> (MemoryCloud, Layered<FaultPlan, MemoryStore>, BucketName) {
        let cloud = MemoryCloud::new(Behaviour::aws());
        let store = Layered::new(Arc::new(cloud.store("earth")), plan.clone());
        (cloud, store, BucketName::parse("earth-scratch").unwrap())
    }

    #[tokio::test]
    async fn an_error_leaves_nothing_and_a_lost_answer_leaves_the_effect() {
        for (fault, happened) in [
            (Fault::Error, false),
            (Fault::TimeoutAfterEffect, true),
            (Fault::Crash, true),
        ] {
            let (cloud, store, bucket) = faulty(&FaultPlan::at(0, fault));
            let answer = store.create_bucket(&bucket, &Tags::default()).await;
            assert!(
                matches!(answer, Err(CloudError::Unreachable { .. })),
                "{answer:?}"
            );
            assert_eq!(cloud.bucket(&bucket).is_some(), happened, "{fault:?}");
        }
    }

    #[tokio::test]
    async fn after_a_crash_nothing_goes_through_until_the_restart() {
        let plan = FaultPlan::at(0, Fault::Crash);
        let (cloud, store, bucket) = faulty(&plan);
        store.check_access().await.unwrap_err();
        store
            .create_bucket(&bucket, &Tags::default())
            .await
            .unwrap_err();
        assert!(cloud.bucket(&bucket).is_none() && plan.has_crashed());
        plan.restart();
        store
            .create_bucket(&bucket, &Tags::default())
            .await
            .unwrap();
        assert_eq!(
            plan.calls(),
            [
                "check_access",
                "create_bucket earth-scratch",
                "create_bucket earth-scratch"
            ]
        );
    }

    #[tokio::test]
    async fn a_fault_strikes_once_and_only_its_call() {
        let plan = FaultPlan::at(1, Fault::Error);
        let (_, store, _) = faulty(&plan);
        let mut failed = Vec::new();
        for _ in 0..3 {
            failed.push(store.check_access().await.is_err());
        }
        assert_eq!(failed, [false, true, false]);
    }
}
