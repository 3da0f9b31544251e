//! An object store in memory, for tests: shared state, several accounts, a clock that is set.
//!
//! It answers as the real ones were seen to answer; `tests/contract.rs` holds it to that.

mod calls;
mod policy;
mod probe;
mod roles;
mod session;
mod state;
mod store;

pub use calls::Call;
pub use probe::MemoryProbe;
#[cfg(test)]
pub(crate) use probe::names as probe_names;
pub use roles::MemoryRoles;
pub use session::{MemorySession, MemorySource, Refusal};
pub use state::{Behaviour, Bucket};
pub use store::MemoryStore;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hubstorage_core::names::{BucketName, RoleName};
use hubstorage_core::roles::FoundRole;
use jiff::{SignedDuration, Timestamp};

use crate::{CloudError, Credential, Operation};
use state::State;

/// The cloud; clones share everything.
#[derive(Debug, Clone)]
pub struct MemoryCloud {
    state: Arc<Mutex<State>>,
}

impl MemoryCloud {
    /// An empty cloud.
    pub fn new(behaviour: Behaviour) -> Self {
        Self {
            state: Arc::new(Mutex::new(State::new(behaviour))),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The managing side, as `account`.
    pub fn store(&self, account: &str) -> MemoryStore {
        MemoryStore {
            cloud: self.clone(),
            account: account.to_owned(),
        }
    }

    /// The roles, as `account` manages them.
    pub fn roles(&self, account: &str) -> MemoryRoles {
        MemoryRoles {
            cloud: self.clone(),
            account: account.to_owned(),
        }
    }

    /// The vending side, as `account`.
    pub fn source(&self, account: &str) -> MemorySource {
        MemorySource {
            cloud: self.clone(),
            account: account.to_owned(),
        }
    }

    /// What a user does with `credential`.
    pub fn session(&self, credential: &Credential) -> MemorySession {
        MemorySession {
            cloud: self.clone(),
            token: credential.session_token.expose().to_owned(),
        }
    }

    /// The negative probe of this cloud.
    pub fn probe(&self) -> MemoryProbe {
        MemoryProbe {
            cloud: self.clone(),
        }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.state().now
    }

    /// Sets the clock.
    pub fn set_now(&self, now: Timestamp) {
        self.state().now = now;
    }

    /// Puts the clock forward.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state();
        let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
        state.now = state.now.saturating_add(by).unwrap_or(Timestamp::MAX);
    }

    /// Changes what the cloud can do.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.state().behaviour);
    }

    /// From here on every call of the managing and the vending side fails with `error`, until
    /// it is `None` again.
    pub fn fail_with(&self, error: Option<CloudError>) {
        self.state().outage = error;
    }

    /// A bucket as it is.
    pub fn bucket(&self, bucket: &BucketName) -> Option<Bucket> {
        self.state().buckets.get(bucket).cloned()
    }

    /// The names of all buckets.
    pub fn bucket_names(&self) -> Vec<BucketName> {
        self.state().buckets.keys().cloned().collect()
    }

    /// Puts a bucket there by hand; nothing is recorded.
    pub fn insert_by_hand(&self, bucket: &BucketName, contents: Bucket) {
        self.state().buckets.insert(bucket.clone(), contents);
    }

    /// Changes a bucket by hand, as somebody at the console would: drift. `None` without bucket.
    pub fn edit_by_hand<T>(
        &self,
        bucket: &BucketName,
        edit: impl FnOnce(&mut Bucket) -> T,
    ) -> Option<T> {
        self.state().buckets.get_mut(bucket).map(edit)
    }

    /// Removes a bucket by hand, whatever it holds.
    pub fn remove_by_hand(&self, bucket: &BucketName) -> Option<Bucket> {
        self.state().buckets.remove(bucket)
    }

    /// A role as it is.
    pub fn role(&self, name: &RoleName) -> Option<FoundRole> {
        self.state().roles.get(name).cloned()
    }

    /// Changes the roles by hand: drift.
    pub fn edit_roles_by_hand<T>(
        &self,
        edit: impl FnOnce(&mut BTreeMap<RoleName, FoundRole>) -> T,
    ) -> T {
        edit(&mut self.state().roles)
    }

    /// From here on nothing is told of the role for so long.
    pub fn hide_role(&self, name: &RoleName, long: Duration) {
        let mut state = self.state();
        let long = SignedDuration::try_from(long).unwrap_or(SignedDuration::MAX);
        let until = state.now.saturating_add(long).unwrap_or(Timestamp::MAX);
        state.lagging_roles.insert(name.clone(), (until, None));
    }

    /// Every call so far, in order, those that failed included.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// How often `operation` was called.
    pub fn count(&self, operation: Operation) -> usize {
        self.state()
            .calls
            .iter()
            .filter(|call| call.operation == operation)
            .count()
    }

    /// The calls that may change something.
    pub fn writes(&self) -> Vec<Call> {
        self.calls()
            .into_iter()
            .filter(|call| call.operation.is_write())
            .collect()
    }

    /// Starts the log anew.
    pub fn forget_calls(&self) {
        self.state().calls.clear();
    }
}
