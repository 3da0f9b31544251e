//! One controller leads. A lease cannot fence a cloud: every write is safe twice, every call
//! ends before the lease does, and the process that loses the lease writes no more and exits.

use std::time::Duration;

use anyhow::{Context as _, bail};
use hubstorage_core::api::SYSTEM_NAMESPACE;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{Api, Client};
use kube_lease_manager::LeaseManagerBuilder;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::tenure::Tenure;
use crate::clock::Moment;
use crate::manifests::CONTROLLER_LEASE;

/// Seconds that a lease is valid without renewal.
const DURATION: u64 = 60;

/// Seconds before its end at which the leader renews it: every 15 s.
const GRACE: u64 = 45;

/// How long a call to a store may take with all its retries (`hubstorage_cloud::s3`): a leader
/// that has not seen its lease renewed stops so long before the lease ends.
const LONGEST_CALL: Duration = Duration::from_secs(30);

/// For how long after a renewal this process may begin to write.
const SAFE: Duration = Duration::from_secs(DURATION - LONGEST_CALL.as_secs());

/// How often the leader looks whether its lease is renewed, and how long it waits for an answer.
const LOOK: Duration = Duration::from_secs(5);

/// Held while this process leads.
pub struct Leadership {
    tenure: Tenure,
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
        let tenure = Tenure::default();
        // The lease's own task would renew what it last knew to be its own.
        let manager = LeaseManagerBuilder::new(tenure.client(&client), CONTROLLER_LEASE)
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
        tenure.extend(Moment::now() + SAFE);
        Ok(Some(Self {
            tenure,
            leads,
            lease,
        }))
    }

    /// How long this process may write.
    pub fn tenure(&self) -> &Tenure {
        &self.tenure
    }

    /// Returns when the lease is lost, or may be: the lease's own task goes on trying while the
    /// API server is out of reach, and others may take the lease meanwhile.
    pub async fn lost(&self, client: &Client, identity: &str) {
        let mut leads = self.leads.clone();
        tokio::select! {
            // An error means that the lease's task is gone, and the lease with it.
            _ = leads.wait_for(|leads| !*leads) => {}
            () = overdue(client, identity, &self.tenure) => {
                tracing::error!("the lease could not be seen renewed in time");
            }
        }
    }

    /// Gives the lease back, so that the next leader need not wait for its end.
    pub async fn release(self) {
        drop(self.leads);
        match tokio::time::timeout(RELEASED_WITHIN, self.lease).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the lease was not released; it ends by itself");
            }
            Err(_) => tracing::warn!("the lease was not released in time; it ends by itself"),
        }
    }
}

/// The process is ending: its pod is killed before long.
const RELEASED_WITHIN: Duration = Duration::from_secs(5);

/// Extends `tenure` whenever the lease is seen renewed by `identity`; returns when it is over, or
/// another has the lease.
async fn overdue(client: &Client, identity: &str, tenure: &Tenure) {
    let leases: Api<Lease> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let mut renewals = Renewals::starting_at(Moment::now());
    while !tenure.is_over(Moment::now()) {
        let asked = Moment::now();
        let answer = tokio::time::timeout(LOOK, leases.get(CONTROLLER_LEASE)).await;
        let spec = answer
            .ok()
            .and_then(Result::ok)
            .and_then(|lease| lease.spec);
        if let Some(spec) = spec {
            let holder = spec.holder_identity.as_deref().unwrap_or_default();
            if holder != identity {
                tracing::error!(holder, "another has the lease");
                return;
            }
            renewals.seen(spec.renew_time, asked);
            tenure.extend(renewals.known + SAFE);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// When the lease was last known to be renewed, by the clock of this process alone.
struct Renewals {
    time: Option<MicroTime>,
    known: Moment,
    looked: Moment,
}

impl Renewals {
    fn starting_at(now: Moment) -> Self {
        Self {
            time: None,
            known: now,
            looked: now,
        }
    }

    /// The API server said, when asked at `asked`, that the lease was renewed at `time`.
    fn seen(&mut self, time: Option<MicroTime>, asked: Moment) {
        if time != self.time {
            self.time = time;
            // At some moment since it said otherwise, perhaps right after that.
            self.known = self.looked;
        }
        self.looked = asked;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::Timestamp;

    fn renewed(second: i64) -> Option<MicroTime> {
        Some(MicroTime(Timestamp::from_second(second).unwrap()))
    }

    /// Whether a process that looks at these moments, in seconds, and finds the lease renewed
    /// every 15 s may write until the last of them.
    fn may_write_throughout(looks: impl Iterator<Item = f64>) -> bool {
        let start = Moment::now();
        let (mut renewals, tenure) = (Renewals::starting_at(start), Tenure::default());
        tenure.extend(start + SAFE);
        for look in looks {
            let now = start + Duration::from_secs_f64(look);
            if tenure.is_over(now) {
                return false;
            }
            #[allow(clippy::cast_possible_truncation, reason = "a few hundred seconds")]
            renewals.seen(renewed((look / 15.0) as i64), now);
            tenure.extend(renewals.known + SAFE);
        }
        true
    }

    #[test]
    fn a_lease_that_is_renewed_is_never_overdue() {
        // However looks and renewals meet.
        for tenths in 0..50 {
            let first = f64::from(tenths) / 10.0;
            let looks = (0..100).map(|look| first + 5.1 * f64::from(look));
            assert!(may_write_throughout(looks), "first look at {first} s");
        }
    }

    #[test]
    fn a_lease_that_is_not_seen_renewed_is_overdue_before_others_may_take_it() {
        let start = Moment::now();
        let mut renewals = Renewals::starting_at(start);
        renewals.seen(renewed(1), start);

        // The API server answers, but what it says is always the same.
        renewals.seen(renewed(1), start + Duration::from_secs(25));

        assert_eq!(renewals.known, start);
        // A call that begins just before still ends within the lease.
        assert!(SAFE + LONGEST_CALL <= Duration::from_secs(DURATION));
    }

    #[test]
    fn a_process_that_was_stopped_may_not_write_when_it_goes_on() {
        assert!(!may_write_throughout([0.0, 5.0, 10.0, 75.0].into_iter()));
    }
}
