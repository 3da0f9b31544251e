//! One controller leads. A lease cannot fence a cloud: every write is safe twice, every call
//! ends before the lease does, and the process that loses the lease exits.

use anyhow::{Context as _, bail};
use hubstorage_core::api::SYSTEM_NAMESPACE;
use kube::Client;
use kube_lease_manager::LeaseManagerBuilder;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::manifests::CONTROLLER_LEASE;

/// Seconds that a lease is valid without renewal: above the 30 s that a call to a store may
/// take with all its retries.
const DURATION: u64 = 45;

/// Seconds before its end at which the leader renews it.
const GRACE: u64 = 15;

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

    /// Returns when the lease is lost.
    pub async fn lost(&mut self) {
        // An error means that the lease's task is gone, and the lease with it.
        let _ = self.leads.wait_for(|leads| !*leads).await;
    }

    /// Gives the lease back, so that the next leader need not wait for its end.
    pub async fn release(self) {
        drop(self.leads);
        if let Err(error) = self.lease.await {
            tracing::warn!(%error, "the lease was not released; it ends by itself");
        }
    }
}
