//! Step 8: does the store really hold users apart? Tried by one replica at a time.
//!
//! A canary's session is tried on the keys of another canary; both prefixes are reserved, so no
//! user is ever involved. The verdict stands in `status.vending` of the HubStorage, for exactly
//! this provider, its generation and the bucket's name; without it nothing is vended. A probe that
//! could not be carried out takes no verdict away: an outage of the store proves nothing about its
//! policies, and credentials are to outlast it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use hubstorage_cloud::ProbeVerdict;
use hubstorage_core::api::{
    BucketVending, HubStorage, IsolationVerdict, SYSTEM_NAMESPACE, StorageProvider,
};
use hubstorage_core::hubs::hub_of_namespace;
use hubstorage_core::names::{BucketName, Prefix, session_name};
use hubstorage_core::policies::{Access, PolicyDocument, Reach};
use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use kube_lease_manager::LeaseManagerBuilder;
use tokio_util::sync::CancellationToken;

use super::authorise::{World, bucket_in_store, verdict};
use super::informers::Informers;
use super::{FIELD_MANAGER, Metrics};
use crate::clock::Clock;
use crate::manifests::SERVE_LEASE;
use crate::providers::Connect;

/// Seconds that the Lease lasts, and how long before its end it is renewed.
const LEASE_SECONDS: u64 = 15;
const LEASE_GRACE_SECONDS: u64 = 5;

/// How often a verdict is tried again, ± 10 %.
const AGAIN_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// How soon after a probe that could not be carried out; doubled each time, up to the second.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(5);
const RETRY_AT_MOST: SignedDuration = SignedDuration::from_secs(60);

/// How long one bucket's probe may take.
const PROBE_WITHIN: Duration = Duration::from_secs(60);

/// Hubs that are probed at the same time.
const AT_A_TIME: usize = 4;

/// How long our own write is believed before the watch shows it.
const ECHO_WITHIN: SignedDuration = SignedDuration::from_secs(10);

/// The longest time between two looks at what is due.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Probes what is due.
pub struct Prober {
    pub(super) client: Client,
    pub(super) informers: Arc<Informers>,
    pub(super) connect: Arc<dyn Connect>,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
}

/// One bucket to probe: another value is another verdict.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Target {
    hub_uid: String,
    name: String,
    bucket: BucketName,
    provider_uid: String,
    provider_generation: i64,
}

/// When a bucket is probed next.
#[derive(Debug, Clone, Copy)]
struct Next {
    at: Timestamp,
    failures: u32,
}

/// One hub, and which of its buckets are due.
struct Job {
    namespace: String,
    hub: String,
    hub_uid: String,
    provider: StorageProvider,
    targets: Vec<Target>,
    due: Vec<Target>,
    /// What status says, or what we made it say a moment ago.
    stored: Vec<BucketVending>,
}

#[derive(Default)]
struct Schedule {
    next: HashMap<Target, Next>,
    written: HashMap<String, (Timestamp, Vec<BucketVending>)>,
}

impl Prober {
    /// Competes for the Lease and probes while it is held, until `stop`.
    pub async fn run(self, identity: String, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.hold_lease(&identity, &stop).await {
                tracing::warn!(lease = SERVE_LEASE, %error, "no leader election; it is tried again");
            }
            self.metrics.leads(false);
            let pause = tokio::time::sleep(Duration::from_secs(5));
            stop.run_until_cancelled(pause).await;
        }
    }

    async fn hold_lease(&self, identity: &str, stop: &CancellationToken) -> anyhow::Result<()> {
        let manager = LeaseManagerBuilder::new(self.client.clone(), SERVE_LEASE)
            .with_namespace(SYSTEM_NAMESPACE)
            .with_identity(identity)
            .with_duration(LEASE_SECONDS)
            .with_grace(LEASE_GRACE_SECONDS)
            .build()
            .await?;
        let (mut held, task) = manager.watch().await;
        loop {
            let leads = *held.borrow_and_update();
            self.metrics.leads(leads);
            tokio::select! {
                () = stop.cancelled() => break,
                changed = held.changed() => if changed.is_err() { break },
                () = self.probe_what_is_due(), if leads => {}
            }
        }
        // Releases the Lease, so that another replica need not wait for its end.
        drop(held);
        task.await??;
        Ok(())
    }

    /// Never ends by itself.
    async fn probe_what_is_due(&self) {
        let mut schedule = Schedule::default();
        loop {
            let now = (self.clock)();
            let jobs = self.jobs(&mut schedule, now);
            let done: Vec<_> = stream::iter(jobs)
                .map(|job| self.carry_out(job))
                .buffer_unordered(AT_A_TIME)
                .collect()
                .await;
            let now = (self.clock)();
            for (hub_uid, written, probed) in done {
                if let Some(entries) = written {
                    schedule.written.insert(hub_uid, (now, entries));
                }
                for (target, conclusive) in probed {
                    schedule.probed(target, conclusive, now);
                }
            }
            let earliest = schedule.next.values().map(|next| next.at).min();
            let wait = earliest.map_or(LOOK_EVERY, |at| {
                at.duration_since((self.clock)())
                    .try_into()
                    .unwrap_or(Duration::ZERO)
            });
            let pause = tokio::time::sleep(wait.min(LOOK_EVERY));
            tokio::select! {
                () = pause => {}
                () = self.informers.changed.notified() => {}
            }
        }
    }

    /// The hubs with a bucket that is due.
    fn jobs(&self, schedule: &mut Schedule, now: Timestamp) -> Vec<Job> {
        let mut namespaces: HashMap<String, Vec<Arc<_>>> = HashMap::new();
        for hub in self.informers.hubs.state() {
            namespaces
                .entry(hub.namespace().unwrap_or_default())
                .or_default()
                .push(hub);
        }
        let mut jobs = Vec::new();
        for hubs in namespaces.values() {
            let readable: Vec<&HubStorage> =
                hubs.iter().filter_map(|hub| hub.0.as_ref().ok()).collect();
            let hub =
                hub_of_namespace(&readable).filter(|hub| hub.metadata.deletion_timestamp.is_none());
            let Some(hub) = hub else { continue };
            let Some(found) = self.informers.provider(&hub.spec.provider_ref.name) else {
                continue;
            };
            let Ok(provider) = &found.0 else { continue };
            jobs.extend(schedule.job(hub, provider, now));
        }
        let alive: std::collections::HashSet<&Target> =
            jobs.iter().flat_map(|job| &job.targets).collect();
        schedule.next.retain(|target, _| alive.contains(target));
        jobs.retain(|job| !job.due.is_empty());
        jobs
    }

    /// Probes what is due of a hub and writes down what was found. Returns what was written, and
    /// for each probe whether it was conclusive.
    async fn carry_out(
        &self,
        job: Job,
    ) -> (String, Option<Vec<BucketVending>>, Vec<(Target, bool)>) {
        let mut entries = job.stored.clone();
        let mut probed = Vec::new();
        for target in &job.due {
            let before = entries
                .iter()
                .find(|entry| target.is_of(entry))
                .map(|entry| entry.verdict);
            let first = before.is_none_or(|verdict| verdict == IsolationVerdict::Unknown);
            let found = self.probe(&job.provider, target, first).await;
            let (verdict, outcome) = match found {
                ProbeVerdict::Isolated => (IsolationVerdict::Isolated, "isolated"),
                ProbeVerdict::Leaks { .. } => (IsolationVerdict::Leaks, "leaks"),
                ProbeVerdict::Unknown { .. } => (IsolationVerdict::Unknown, "unknown"),
            };
            self.metrics.probed(
                &job.namespace,
                &job.hub,
                &target.name,
                outcome,
                (self.clock)(),
            );
            tracing::info!(
                namespace = job.namespace,
                hub = job.hub,
                bucket = target.bucket.as_str(),
                outcome,
                %found,
                "isolation probe"
            );
            probed.push((target.clone(), verdict != IsolationVerdict::Unknown));
            if verdict == IsolationVerdict::Unknown && !first {
                continue;
            }
            let message = if verdict == IsolationVerdict::Isolated {
                String::new()
            } else {
                found.to_string()
            };
            entries.retain(|entry| entry.name != target.name);
            entries.push(target.entry(verdict, message));
        }
        entries.retain(|entry| job.targets.iter().any(|target| target.is_of(entry)));
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let written = if entries == job.stored {
            None
        } else {
            self.write(&job, entries).await
        };
        (job.hub_uid, written, probed)
    }

    async fn probe(
        &self,
        provider: &StorageProvider,
        target: &Target,
        writes: bool,
    ) -> ProbeVerdict {
        let unknown = |call, cause: String| ProbeVerdict::Unknown { call, cause };
        let (own, foreign) = (Prefix::reserved("canary-a"), Prefix::reserved("canary-b"));
        let bucket = target.bucket.clone();
        let reach = Reach {
            bucket: bucket.clone(),
            prefix: own.clone(),
            access: Access::ReadWrite,
        };
        let policy = match PolicyDocument::allowing(&[reach]) {
            Ok(policy) => policy,
            Err(error) => return unknown("make the canary's policy", error.to_string()),
        };
        let probing = async {
            let side = match self.connect.vending(provider).await {
                Ok(side) => side,
                Err(error) => return unknown("connect", error.to_string()),
            };
            match side
                .source
                .assume(&session_name(&own), &policy, Duration::from_secs(900))
                .await
            {
                Ok(session) => {
                    side.probe
                        .probe(&bucket, &session, &own, &foreign, writes)
                        .await
                }
                Err(error) => unknown("get a credential", error.to_string()),
            }
        };
        tokio::time::timeout(PROBE_WITHIN, probing)
            .await
            .unwrap_or_else(|_| {
                unknown(
                    "finish",
                    format!("it took longer than {} s", PROBE_WITHIN.as_secs()),
                )
            })
    }

    async fn write(&self, job: &Job, entries: Vec<BucketVending>) -> Option<Vec<BucketVending>> {
        let patch = serde_json::json!({
            "apiVersion": "hubstorage.io/v1alpha1",
            "kind": "HubStorage",
            // The UID, so that a hub that was deleted meanwhile is not met under the same name.
            "metadata": {"name": job.hub, "uid": job.hub_uid},
            "status": {"vending": {"buckets": entries}},
        });
        let api = Api::<HubStorage>::namespaced(self.client.clone(), &job.namespace);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        match api
            .patch_status(&job.hub, &params, &Patch::Apply(patch))
            .await
        {
            Ok(_) => Some(entries),
            Err(error) => {
                tracing::warn!(namespace = job.namespace, hub = job.hub, %error, "status.vending was not written");
                None
            }
        }
    }
}

impl Target {
    fn is_of(&self, entry: &BucketVending) -> bool {
        entry.name == self.name
            && entry.bucket_name == self.bucket.as_str()
            && entry.provider_uid == self.provider_uid
            && entry.provider_generation == self.provider_generation
    }

    fn entry(&self, verdict: IsolationVerdict, message: String) -> BucketVending {
        BucketVending {
            name: self.name.clone(),
            bucket_name: self.bucket.to_string(),
            provider_uid: self.provider_uid.clone(),
            provider_generation: self.provider_generation,
            verdict,
            message,
        }
    }
}

impl Schedule {
    fn job(&mut self, hub: &HubStorage, provider: &StorageProvider, now: Timestamp) -> Option<Job> {
        provider.spec.s3.as_ref()?.vending.as_ref()?;
        let hub_uid = hub.uid().unwrap_or_default();
        self.written
            .retain(|_, (at, _)| now.duration_since(*at) < ECHO_WITHIN);
        let in_status = || {
            hub.status
                .iter()
                .filter_map(|status| status.vending.as_ref())
                .flat_map(|v| v.buckets.clone())
        };
        let stored: Vec<BucketVending> = self
            .written
            .get(&hub_uid)
            .map_or_else(|| in_status().collect(), |(_, entries)| entries.clone());
        let mut targets = Vec::new();
        let mut due = Vec::new();
        for bucket in hub
            .spec
            .buckets
            .iter()
            .filter(|bucket| !bucket.grants.is_empty())
        {
            let Ok(in_store) = bucket_in_store(hub, provider, &bucket.name) else {
                continue;
            };
            let known = verdict(hub, provider, &bucket.name, &in_store).map(|found| found.verdict);
            let target = Target {
                hub_uid: hub_uid.clone(),
                name: bucket.name.clone(),
                bucket: in_store,
                provider_uid: provider.uid().unwrap_or_default(),
                provider_generation: provider.metadata.generation.unwrap_or_default(),
            };
            let next = *self.next.entry(target.clone()).or_insert_with(|| Next {
                // Verdicts that a former leader left are tried again at some time within the
                // interval, not all at once; missing ones now.
                at: match known {
                    Some(IsolationVerdict::Isolated | IsolationVerdict::Leaks) => {
                        now + some_of(AGAIN_AFTER, 0.0, 1.0)
                    }
                    Some(IsolationVerdict::Unknown) | None => now,
                },
                failures: 0,
            });
            if next.at <= now {
                due.push(target.clone());
            }
            targets.push(target);
        }
        Some(Job {
            namespace: hub.namespace().unwrap_or_default(),
            hub: hub.name_any(),
            hub_uid,
            provider: provider.clone(),
            targets,
            due,
            stored,
        })
    }

    fn probed(&mut self, target: Target, conclusive: bool, now: Timestamp) {
        let failures = match self.next.get(&target) {
            Some(next) if !conclusive => next.failures.saturating_add(1),
            _ => 0,
        };
        let pause = match failures {
            0 => some_of(AGAIN_AFTER, 0.9, 1.1),
            failed => RETRY_AT_MOST.min(RETRY_AFTER * 2_i32.pow((failed - 1).min(10))),
        };
        self.next.insert(
            target,
            Next {
                at: now + pause,
                failures,
            },
        );
    }
}

fn some_of(whole: SignedDuration, least: f64, most: f64) -> SignedDuration {
    whole.mul_f64(rand::random_range(least..=most))
}
