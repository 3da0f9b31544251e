//! Step 5: the credential, from the cache or from the store.
//!
//! Only the credential is cached, never the permission to have it. It is refreshed from 20
//! minutes before its end, since SDKs ask again 15 minutes before; an older one is served only
//! while the store does not give a new one, and until a minute before its end: so an outage of
//! the store's token service goes unnoticed for as long as credentials last. Of many requests for
//! one user at once, one goes to the store.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use hubstorage_cloud::{CloudError, Credential};
use hubstorage_core::names::session_name;
use hubstorage_core::policies::{PolicyDocument, PolicyError};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use moka::future::Cache;

use super::Metrics;
use super::authorise::Grantee;
use super::issuer::Issuer;
use crate::clock::Clock;
use crate::providers::{Connect, ConnectError};

/// What is asked for: the most that AWS gives to a role that was assumed by a role.
const LIFETIME: Duration = Duration::from_secs(3600);

/// botocore asks again 15 minutes before the end (`_advisory_refresh_timeout`).
const REFRESH_BEFORE: SignedDuration = SignedDuration::from_mins(20);

/// Less than this is of no use to anybody.
const SERVE_UNTIL: SignedDuration = SignedDuration::from_secs(60);

/// After a failure the store is left alone for so long, for each user.
const PAUSE: SignedDuration = SignedDuration::from_secs(2);

/// How long a call to the store may take; it goes on when nobody waits any more, and the next
/// request finds its result.
const CALL_WITHIN: Duration = Duration::from_secs(10);

/// How long a request waits for a new credential while it has an older one.
const WAIT_WITH_OLD: Duration = Duration::from_millis(500);

/// How long a request waits otherwise; the rest of the answer's time is for everything else.
const WAIT_WITHOUT: Duration = Duration::from_millis(1200);

/// Users whose credentials are kept.
const KEPT: u64 = 20_000;

/// Why there is no credential for a user who may have one.
#[derive(
    Debug, Clone, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr, strum::VariantNames,
)]
pub enum VendError {
    /// No policy could be made.
    #[error(transparent)]
    PolicyImpossible(#[from] PolicyError),
    /// The store takes none that is so long.
    #[error(
        "{0} (spec.buckets[].grants). Trying again gives the same policy: tell the administrators of the hub"
    )]
    PolicyRefused(CloudError),
    /// There is no connection to the store's vending side.
    #[error("{0}; credentials arrive by themselves once that is put right")]
    NotConnected(#[from] ConnectError),
    /// Whether the store holds users apart was tried with other keys.
    #[error(
        "the vending keys have just been changed, and whether the store holds users apart is tried with the new ones \
         first; retry in a few seconds"
    )]
    KeysChanged,
    /// The store refused or failed.
    #[error("the store issues no credentials: {0}; retry in a few seconds")]
    StoreFailed(CloudError),
    /// The store did not answer in time.
    #[error("the store has not issued a credential in time; retry: what it answers later is kept")]
    StoreSlow,
    /// The clocks disagree.
    #[error(
        "the store issued a credential that ends at {expires}, and it is {now} here; tell the administrators of the hub to compare the clocks of both"
    )]
    StoreClock {
        /// When the credential ends.
        expires: Timestamp,
        /// The broker's time.
        now: Timestamp,
    },
}

impl From<CloudError> for VendError {
    fn from(error: CloudError) -> Self {
        match error {
            refused @ CloudError::PolicyRefused { .. } => Self::PolicyRefused(refused),
            failed => Self::StoreFailed(failed),
        }
    }
}

/// A credential for one request.
#[derive(Debug, Clone)]
pub struct Vended {
    /// The credential.
    pub credential: Arc<Credential>,
    /// Of the policy that limits it.
    pub fingerprint: String,
    /// Whether the store was asked for this request, or for one before it.
    pub cached: bool,
}

/// What a credential depends on: another value means another credential.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    hub_uid: String,
    provider_uid: String,
    provider_generation: i64,
    /// Sessions of former keys and roles end with them at most stores.
    issuer: Issuer,
    user: String,
    fingerprint: String,
}

type Attempt = Shared<BoxFuture<'static, Result<Arc<Credential>, VendError>>>;

#[derive(Default)]
struct Slot {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    current: Option<Arc<Credential>>,
    attempt: Option<Attempt>,
    failed: Option<(Timestamp, VendError)>,
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Vends, and keeps what was vended.
pub struct Vendor {
    connect: Arc<dyn Connect>,
    clock: Clock,
    metrics: Metrics,
    slots: Cache<Key, Arc<Slot>>,
}

impl Vendor {
    /// Nothing vended yet.
    pub fn new(connect: Arc<dyn Connect>, clock: Clock, metrics: Metrics) -> Self {
        // What nobody asked for during two lifetimes has ended long ago.
        let slots = Cache::builder()
            .max_capacity(KEPT)
            .time_to_idle(2 * LIFETIME)
            .build();
        Self {
            connect,
            clock,
            metrics,
            slots,
        }
    }

    /// A credential for `grantee`, who was authorised just now.
    ///
    /// # Errors
    /// [`VendError`] if there is no usable one, old or new.
    pub async fn vend(&self, grantee: &Grantee) -> Result<Vended, VendError> {
        let policy = PolicyDocument::allowing(&grantee.reaches)?;
        let fingerprint = policy.fingerprint();
        let key = Key {
            hub_uid: grantee.hub_uid.clone(),
            provider_uid: grantee.provider.uid().unwrap_or_default(),
            provider_generation: grantee.provider.metadata.generation.unwrap_or_default(),
            issuer: grantee.issuer.clone(),
            user: grantee.user.as_str().to_owned(),
            fingerprint: fingerprint.clone(),
        };
        let slot = self.slots.get_with(key, async { Arc::default() }).await;
        let cached = |credential| Vended {
            credential,
            fingerprint: fingerprint.clone(),
            cached: true,
        };

        let now = (self.clock)();
        let (old, attempt) = {
            let mut state = slot.state();
            let left = |credential: &Arc<Credential>| credential.expires.duration_since(now);
            let usable = state
                .current
                .clone()
                .filter(|credential| left(credential) > SERVE_UNTIL);
            match (&usable, &state.failed) {
                (Some(fresh), _) if left(fresh) > REFRESH_BEFORE => {
                    return Ok(cached(fresh.clone()));
                }
                (old, Some((at, error))) if now.duration_since(*at) < PAUSE => {
                    return old.clone().map(cached).ok_or_else(|| error.clone());
                }
                _ => {}
            }
            let start = || self.start(slot.clone(), grantee, policy);
            (usable, state.attempt.get_or_insert_with(start).clone())
        };

        let wait = if old.is_some() {
            WAIT_WITH_OLD
        } else {
            WAIT_WITHOUT
        };
        let answer = tokio::time::timeout(wait, attempt)
            .await
            .unwrap_or(Err(VendError::StoreSlow));
        match (answer, old) {
            (Ok(credential), _) => Ok(Vended {
                credential,
                fingerprint,
                cached: false,
            }),
            (Err(_), Some(old)) => Ok(cached(old)),
            (Err(error), None) => Err(error),
        }
    }

    /// Asks the store in a task of its own, which outlives the requests that wait for it.
    fn start(&self, slot: Arc<Slot>, grantee: &Grantee, policy: PolicyDocument) -> Attempt {
        let (connect, clock, metrics) = (
            self.connect.clone(),
            self.clock.clone(),
            self.metrics.clone(),
        );
        let grantee = grantee.clone();
        let task = tokio::spawn(async move {
            let issuing = issue(&*connect, &grantee, &policy);
            let issued = tokio::time::timeout(CALL_WITHIN, issuing)
                .await
                .unwrap_or(Err(VendError::StoreSlow));
            let now = (clock)();
            let issued = issued.and_then(|credential| match credential.expires {
                expires if expires.duration_since(now) <= SERVE_UNTIL => {
                    Err(VendError::StoreClock { expires, now })
                }
                _ => Ok(Arc::new(credential)),
            });
            metrics.issued(issued.is_ok());
            let mut state = slot.state();
            state.attempt = None;
            match &issued {
                Ok(credential) => {
                    state.current = Some(credential.clone());
                    state.failed = None;
                }
                Err(error) => {
                    tracing::warn!(provider = grantee.provider.name_any(), %error, "no new credential");
                    state.failed = Some((now, error.clone()));
                }
            }
            issued
        });
        // A task ends early only with its runtime.
        task.map(|ended| ended.unwrap_or(Err(VendError::StoreSlow)))
            .boxed()
            .shared()
    }
}

async fn issue(
    connect: &dyn Connect,
    grantee: &Grantee,
    policy: &PolicyDocument,
) -> Result<Credential, VendError> {
    let side = connect.vending(&grantee.provider).await?;
    if side.secret_version != grantee.issuer.secret_version {
        return Err(VendError::KeysChanged);
    }
    let session = session_name(&grantee.prefix);
    let role = grantee.issuer.assumed_for(&grantee.prefix);
    Ok(side.source.assume(role, &session, policy, LIFETIME).await?)
}

#[cfg(test)]
mod tests;
