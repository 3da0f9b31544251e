//! Does the store really hold users apart? Tried beside the answers, by one replica at a time.
//!
//! A canary's session is tried on the keys of another canary; both prefixes are reserved, so no
//! user is ever involved. The verdict stands in `status.vending` of the HubStorage, for exactly
//! this provider, its generation, its vending Secret's version and the bucket's name; without it
//! nothing is vended. A probe that could not be carried out takes no verdict away: an outage of the
//! store proves nothing about its policies, and credentials are to outlast it. Other keys in the
//! vending Secret are another identity, and what was found about the former one says nothing about
//! it: every replica sees the new version at once, and so vends nothing until it was tried.
//!
//! With a hub's first bucket its longest session policy is tried, until the store takes it: whether it fits
//! says the store alone, since Amazon measures a packed form of it. The canary's own was taken just before, so
//! that a refusal is about the policy. The controller tells people of it.
//!
//! [`schedule`] says what is due, [`verdicts`] writes down what was found.

mod schedule;
mod verdicts;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hubstorage_cloud::{CloudError, Disposition, ProbeVerdict};
use hubstorage_core::api::{
    Bucket, HubStorage, IsolationVerdict, PolicyTrial, PolicyVerdict, Reason, SYSTEM_NAMESPACE,
    StorageProvider,
};
use hubstorage_core::hubs::hub_of_namespace;
use hubstorage_core::names::{Prefix, session_name};
use hubstorage_core::policies::{Access, Place, PolicyDocument, Reach, longest_prefix};
use hubstorage_core::roles::session_role;
use kube::{Client, ResourceExt};
use kube_lease_manager::LeaseManagerBuilder;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Metrics;
use super::authorise::{World, bucket_in_store, verdict};
use super::informers::Informers;
use super::issuer::{Issuer, vending_secret};
use crate::clock::Clock;
use crate::manifests::SERVE_LEASE;
use crate::providers::{Connect, ConnectError, VendingSide};
use schedule::{Probe, Schedule, Target, Wanted};
use verdicts::News;

/// Seconds that the Lease lasts, and how long before its end it is renewed.
const LEASE_SECONDS: u64 = 15;
const LEASE_GRACE_SECONDS: u64 = 5;

/// How long one bucket's probe may take.
const PROBE_WITHIN: Duration = Duration::from_secs(60);

/// The shortest that stores issue.
const CANARY_LIFETIME: Duration = Duration::from_secs(900);

/// The longest time between two looks at what is due.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Probes what is due.
#[derive(Clone)]
pub struct Prober {
    pub(super) client: Client,
    pub(super) informers: Arc<Informers>,
    pub(super) connect: Arc<dyn Connect>,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
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

    /// Never ends by itself. Each probe is a task, so that a store that hangs keeps nobody else
    /// waiting; what runs ends with this.
    async fn probe_what_is_due(&self) {
        let mut schedule = Schedule::default();
        let mut tasks = JoinSet::new();
        let mut running = HashMap::new();
        loop {
            let now = (self.clock)();
            schedule.update(&self.wanted(), now);
            for probe in schedule.start_due(now) {
                let (prober, target) = (self.clone(), probe.target.clone());
                let task = tasks.spawn(async move { prober.carry_out(probe).await });
                running.insert(task.id(), target);
            }
            let pause = schedule.pause((self.clock)()).min(LOOK_EVERY);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.informers.changed.notified() => {}
                Some(ended) = tasks.join_next_with_id() => {
                    let (id, conclusive) = match ended {
                        Ok(ended) => ended,
                        Err(panicked) => (panicked.id(), false),
                    };
                    if let Some(target) = running.remove(&id) {
                        schedule.ended(&target, conclusive, (self.clock)());
                    }
                }
            }
        }
    }

    /// Every bucket that something is vended from.
    fn wanted(&self) -> Vec<Wanted> {
        let mut namespaces: HashMap<String, Vec<Arc<_>>> = HashMap::new();
        for hub in self.informers.hubs.state() {
            namespaces
                .entry(hub.namespace().unwrap_or_default())
                .or_default()
                .push(hub);
        }
        let mut wanted = Vec::new();
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
            if provider.vends() {
                // What is not there yet cannot be tried.
                let Ok(role) = session_role(hub, provider) else {
                    continue;
                };
                let secret = vending_secret(provider);
                let issuer = Issuer {
                    secret_version: secret.and_then(|name| self.informers.vending_secret(name)),
                    role,
                };
                let provider = Arc::new(provider.clone());
                wanted.extend(buckets_of(hub, &provider, &issuer));
            }
        }
        wanted
    }

    /// Probes a bucket and writes down what was found; whether anything could be told.
    async fn carry_out(&self, probe: Probe) -> bool {
        let (found, trial) = match self.probe(&probe).await {
            Some((found, trial)) => (Some(found), trial),
            None => (None, None),
        };
        // Whatever was found with former keys, or of a former role, must not be written over what is found
        // with these.
        let mut wanted = self.wanted().into_iter();
        let now = wanted.find(|now| now.target == probe.target);
        let (Some(found), Some(now)) = (found, now) else {
            return false;
        };
        let Found {
            verdict: found,
            failure,
        } = found;
        let (verdict, outcome) = match found {
            ProbeVerdict::Isolated => (IsolationVerdict::Isolated, "isolated"),
            ProbeVerdict::Leaks { .. } => (IsolationVerdict::Leaks, "leaks"),
            ProbeVerdict::Unknown { .. } => (IsolationVerdict::Unknown, "unknown"),
        };
        let Probe {
            target,
            namespace,
            hub,
            ..
        } = &probe;
        self.metrics
            .probed(namespace, hub, &target.name, outcome, (self.clock)());
        tracing::info!(
            namespace,
            hub,
            bucket = target.bucket.as_str(),
            outcome,
            %found,
            "isolation probe"
        );
        let message = match verdict {
            IsolationVerdict::Isolated => String::new(),
            _ => found.to_string(),
        };
        let reason = failure.map(|failure| failure.reason);
        let entry = target.entry(verdict, reason, message);
        let stays = failure.is_some_and(|failure| failure.stays);
        let hubs = &self.informers.hubs;
        // What was found of the bucket stands whatever is granted in it by now; what the store said to a policy
        // that nobody gets any more does not.
        let told = trial.as_ref().filter(|_| now.policy == probe.policy);
        let news = News {
            found: &entry,
            stays,
            issued: failure.is_none_or(|failure| failure.issued),
            trial: told,
        };
        let written = verdicts::write(&self.client, hubs, &probe, &news).await;
        if let Err(error) = &written {
            tracing::warn!(namespace, hub, %error, "status.vending was not written");
        }
        let tried = probe.policy.is_none() || trial.is_some() || verdict == IsolationVerdict::Leaks;
        written.is_ok() && verdict != IsolationVerdict::Unknown && tried
    }

    /// What was found, and what the store said to the policy if that was tried; nothing at all if the keys are
    /// no longer those that were to be tried.
    async fn probe(&self, probe: &Probe) -> Option<(Found, Option<PolicyTrial>)> {
        let probing = async {
            let side = match self.connect.vending(&probe.provider).await {
                Ok(side) => side,
                Err(error) => return Some((Found::failed("connect", &error), None)),
            };
            if side.secret_version != probe.target.issuer.secret_version {
                return None;
            }
            let found = canary(&side, probe).await;
            let trial = match &probe.policy {
                Some(policy) if found.verdict == ProbeVerdict::Isolated => {
                    try_policy(&side, probe, policy).await
                }
                _ => None,
            };
            Some((found, trial))
        };
        tokio::time::timeout(PROBE_WITHIN, probing)
            .await
            .unwrap_or_else(|_| {
                let cause = format!("it took longer than {} s", PROBE_WITHIN.as_secs());
                Some((Found::unknown("finish", cause), None))
            })
    }
}

/// The end of one try.
#[derive(Debug)]
struct Found {
    verdict: ProbeVerdict,
    /// Why the verdict is `Unknown`.
    failure: Option<Failure>,
}

/// Why a try could not be carried out.
#[derive(Debug, Clone, Copy)]
struct Failure {
    reason: Reason,
    /// Whether no session is issued until somebody changes something.
    stays: bool,
    /// Whether there was a session to try.
    issued: bool,
}

impl Found {
    /// It could not be carried out, for a reason that has no name of its own.
    fn unknown(call: &'static str, cause: String) -> Self {
        let failure = Failure {
            reason: Reason::ProbeInconclusive,
            stays: false,
            issued: false,
        };
        Self {
            verdict: ProbeVerdict::Unknown { call, cause },
            failure: Some(failure),
        }
    }

    /// There was no session to try.
    fn failed(call: &'static str, error: &ConnectError) -> Self {
        let failure = Failure {
            reason: error.reason(),
            stays: error.disposition() == Disposition::Stall,
            issued: false,
        };
        Self {
            verdict: ProbeVerdict::Unknown {
                call,
                cause: error.to_string(),
            },
            failure: Some(failure),
        }
    }
}

/// What trying a session gave.
impl From<ProbeVerdict> for Found {
    fn from(verdict: ProbeVerdict) -> Self {
        let failure = match verdict {
            ProbeVerdict::Unknown { .. } => Some(Failure {
                reason: Reason::ProbeInconclusive,
                stays: false,
                issued: true,
            }),
            ProbeVerdict::Isolated | ProbeVerdict::Leaks { .. } => None,
        };
        Self { verdict, failure }
    }
}

/// Tries a canary's session on the keys of another.
async fn canary(side: &VendingSide, probe: &Probe) -> Found {
    let (own, foreign) = (Prefix::reserved("canary-a"), Prefix::reserved("canary-b"));
    let bucket = &probe.target.bucket;
    let reach = Reach {
        bucket: bucket.clone(),
        place: Place::Own(own.clone()),
        access: Access::ReadWrite,
    };
    let policy = match PolicyDocument::allowing(&[reach]) {
        Ok(policy) => policy,
        Err(error) => return Found::unknown("make the canary's policy", error.to_string()),
    };
    let role = probe.target.issuer.role_arn();
    let name = session_name(&own);
    let assumed = probe.target.issuer.assumed_for(&own);
    let session = side.source.assume(assumed, &name, &policy, CANARY_LIFETIME);
    match session.await {
        Ok(session) => {
            let probing = &side.probe;
            let writes = probe.writes();
            let found = probing
                .probe(bucket, role, &session, &own, &foreign, writes)
                .await;
            found.into()
        }
        Err(error) => Found::failed("get a credential", &error.into()),
    }
}

/// Asks for a session with the policy, which nobody gets; nothing if the store says nothing about it.
async fn try_policy(
    side: &VendingSide,
    probe: &Probe,
    policy: &PolicyDocument,
) -> Option<PolicyTrial> {
    let session = session_name(&Prefix::reserved("canary-a"));
    // A tag counts towards the packed size, too.
    let longest = longest_prefix();
    let role = probe.target.issuer.assumed_for(&longest);
    let asked = side.source.assume(role, &session, policy, CANARY_LIFETIME);
    let (namespace, hub) = (&probe.namespace, &probe.hub);
    match asked.await {
        Ok(_) => Some(probe.trial(policy, PolicyVerdict::Accepted, String::new())),
        Err(refused @ CloudError::PolicyRefused { .. }) => {
            tracing::warn!(namespace, hub, %refused, "the longest session policy");
            Some(probe.trial(policy, PolicyVerdict::Refused, refused.to_string()))
        }
        Err(error) => {
            tracing::warn!(namespace, hub, %error, "the longest session policy was not tried");
            None
        }
    }
}

/// A session policy as long as any user's of the hub gets, unless this provider took it before. One that was
/// refused is tried again with each probe: stores are upgraded.
fn policy_to_try(hub: &HubStorage, provider: &StorageProvider) -> Option<PolicyDocument> {
    let in_store = |bucket: &Bucket| bucket_in_store(hub, provider, &bucket.name).ok();
    // Until all are there, it is not the one that there will be.
    hub.spec
        .buckets
        .iter()
        .all(|bucket| in_store(bucket).is_some())
        .then_some(())?;
    let policy = hub.spec.policy_of_longest_user(in_store).ok()??;
    let status = hub.status.as_ref();
    let trial = status.and_then(|status| status.vending.as_ref()?.policy.as_ref());
    let is_taken = |trial: &PolicyTrial| {
        trial.verdict == PolicyVerdict::Accepted && trial.is_of(&policy, provider)
    };
    (!trial.is_some_and(is_taken)).then_some(policy)
}

/// The buckets of a hub that something is vended from.
fn buckets_of(hub: &HubStorage, provider: &Arc<StorageProvider>, issuer: &Issuer) -> Vec<Wanted> {
    let granting = hub.spec.buckets.iter().filter(|b| b.grants_something());
    let wanted = granting.filter_map(|bucket| {
        let in_store = bucket_in_store(hub, provider, &bucket.name).ok()?;
        Some(Wanted {
            known: verdict(hub, provider, issuer, &bucket.name, &in_store)
                .map(|found| found.verdict),
            target: Target {
                hub_uid: hub.uid().unwrap_or_default(),
                name: bucket.name.clone(),
                bucket: in_store,
                provider_uid: provider.uid().unwrap_or_default(),
                provider_generation: provider.metadata.generation.unwrap_or_default(),
                issuer: issuer.clone(),
            },
            namespace: hub.namespace().unwrap_or_default(),
            hub: hub.name_any(),
            provider: provider.clone(),
            policy: None,
        })
    });
    let mut wanted: Vec<Wanted> = wanted.collect();
    if let (Some(first), Some(policy)) = (wanted.first_mut(), policy_to_try(hub, provider)) {
        first.policy = Some(policy);
    }
    wanted
}
