//! One controller leads. A lease cannot fence a cloud: every write is safe twice, every call
//! ends before the lease does, and the process that loses the lease exits.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hubstorage_core::api::SYSTEM_NAMESPACE;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{Api, Client};
use kube_lease_manager::LeaseManagerBuilder;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::manifests::CONTROLLER_LEASE;

/// Seconds that a lease is valid without renewal.
const DURATION: u64 = 60;

/// Seconds before its end at which the leader renews it: every 15 s.
const GRACE: u64 = 45;

/// How long a call to a store may take with all its retries (`hubstorage_cloud::s3`): a leader
/// that has not seen its lease renewed stops so long before the lease ends.
const LONGEST_CALL: Duration = Duration::from_secs(30);

/// How often the leader looks whether its lease is renewed, and how long it waits for an answer.
const LOOK: Duration = Duration::from_secs(5);

/// Held while this process leads.
pub struct Leadership {
    leads: watch::Receiver<bool>,
    lease: tokio::task::JoinHandle<kube_lease_manager::Result<kube_lease_manager::LeaseManager>>,
}

impl Leadership {
    /// Waits until this process leads; `None` if it is to stop first.
    ///
    /// # Errors
    /// If leases cannot be had at all.
    pub async fn acquire(
        client: Client,
        identity: &str,
        stop: &CancellationToken,
    ) -> anyhow::Result<Option<Self>> {
        let manager = LeaseManagerBuilder::new(client, CONTROLLER_LEASE)
            .with_namespace(SYSTEM_NAMESPACE)
            .with_identity(identity)
            .with_duration(DURATION)
            .with_grace(GRACE)
            .build()
            .await
            .with_context(|| {
                format!("Lease {SYSTEM_NAMESPACE}/{CONTROLLER_LEASE} cannot be used")
            })?;
        let (mut leads, lease) = manager.watch().await;
        tracing::info!(identity, "waiting for the lease");
        tokio::select! {
            waited = leads.wait_for(|leads| *leads) => {
                if waited.is_err() {
                    bail!("the lease's task ended before this process led");
                }
            }
            () = stop.cancelled() => return Ok(None),
        }
        tracing::info!(identity, "leading");
        Ok(Some(Self { leads, lease }))
    }

    /// Returns when the lease is lost, or may be: the lease's own task goes on trying while the
    /// API server is out of reach, and others may take the lease meanwhile.
    pub async fn lost(&self, client: &Client, identity: &str) {
        let mut leads = self.leads.clone();
        tokio::select! {
            // An error means that the lease's task is gone, and the lease with it.
            _ = leads.wait_for(|leads| !*leads) => {}
            () = overdue(client, identity) => {
                tracing::error!("the lease could not be seen renewed in time");
            }
        }
    }

    /// Gives the lease back, so that the next leader need not wait for its end.
    pub async fn release(self) {
        drop(self.leads);
        if let Err(error) = self.lease.await {
            tracing::warn!(%error, "the lease was not released; it ends by itself");
        }
    }
}

/// Returns when the lease has not been seen renewed by `identity` for too long.
async fn overdue(client: &Client, identity: &str) {
    let leases: Api<Lease> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let mut renewals = Renewals::starting_at(Instant::now());
    while !renewals.are_overdue(Instant::now()) {
        let asked = Instant::now();
        let answer = tokio::time::timeout(LOOK, leases.get(CONTROLLER_LEASE)).await;
        let spec = answer
            .ok()
            .and_then(Result::ok)
            .and_then(|lease| lease.spec);
        if let Some(spec) = spec.filter(|spec| spec.holder_identity.as_deref() == Some(identity)) {
            renewals.seen(spec.renew_time, asked);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// When the lease was last known to be renewed, by the clock of this process alone.
struct Renewals {
    time: Option<MicroTime>,
    known: Instant,
}

impl Renewals {
    fn starting_at(now: Instant) -> Self {
        Self {
            time: None,
            known: now,
        }
    }

    /// The API server said, when asked at `asked`, that the lease was renewed at `time`. Another
    /// time than before is a renewal since the last look, and not later than this one.
    fn seen(&mut self, time: Option<MicroTime>, asked: Instant) {
        if time != self.time {
            self.time = time;
            // It was renewed at some moment since the last look, perhaps right after that.
            self.known = asked.checked_sub(2 * LOOK).unwrap_or(asked).max(self.known);
        }
    }

    fn are_overdue(&self, now: Instant) -> bool {
        now.duration_since(self.known) + LONGEST_CALL >= Duration::from_secs(DURATION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::Timestamp;

    fn renewed(second: i64) -> Option<MicroTime> {
        Some(MicroTime(Timestamp::from_second(second).unwrap()))
    }

    #[test]
    fn a_lease_that_is_renewed_is_never_overdue() {
        let start = Instant::now();
        let mut renewals = Renewals::starting_at(start);
        for look in 1..100u32 {
            let now = start + look * LOOK;
            // Renewed every 15 s.
            renewals.seen(renewed(i64::from(look / 3)), now);
            assert!(!renewals.are_overdue(now), "look {look}");
        }
    }

    #[test]
    fn a_lease_that_is_not_seen_renewed_is_overdue_before_others_may_take_it() {
        let start = Instant::now();
        let mut renewals = Renewals::starting_at(start);
        renewals.seen(renewed(1), start);

        // The API server answers, but what it says is always the same.
        renewals.seen(renewed(1), start + Duration::from_secs(25));

        assert!(renewals.are_overdue(start + Duration::from_secs(30)));
        // A call that began just before still ends within the lease.
        assert!(Duration::from_secs(30) + LONGEST_CALL <= Duration::from_secs(DURATION));
    }
}
