//! `IsolationReady`: whether users cannot reach each other's data, by what we vend and by whatever else they
//! have. Pure.
//!
//! What is known to be wrong goes before what is not known: `False` before `Unknown`, and `True` only where
//! nothing is left to ask.

use std::collections::BTreeSet;

use super::injection::some_of;
use crate::controller::Step;
use crate::controller::bypasses::{Found, MetadataService, told_by_looking};
use crate::controller::step::not_reached;
use crate::controller::vending;
use crate::guard::GuardState;
use hubstorage_core::api::{
    Bucket, BucketVending, ConditionStatus, ConditionType, Grant, HubStorage, IsolationVerdict,
    Permission, Reason, StorageProvider, Verdict,
};
use hubstorage_core::bypass::Bypass;
use hubstorage_core::roles::session_role;

use ConditionStatus::{False, True, Unknown};
use ConditionType::IsolationReady;

/// What the verdict is made from.
pub(super) struct Known<'k> {
    pub(super) hub: &'k HubStorage,
    /// How the reconcile ended.
    pub(super) step: &'k Step,
    pub(super) provider: Option<&'k StorageProvider>,
    /// Names in the store of the buckets that exist.
    pub(super) buckets: &'k [&'k str],
    /// What others grant in buckets, in words.
    pub(super) grants: &'k [String],
    pub(super) guard: &'k GuardState,
    /// What users' pods have besides what is vended; `None` before this process has looked.
    pub(super) found: Option<Found>,
    /// Names of users' pods that nobody vouches for, in order.
    pub(super) unverified: &'k [String],
}

/// The verdict.
pub(super) fn verdict(known: &Known) -> Verdict {
    let tell =
        |(status, reason, message): Told| Verdict::new(IsolationReady, status, reason, message);
    let wrong = known.wrong_by_us().or_else(|| known.wrong_by_others());
    if let Some(wrong) = wrong {
        return tell(wrong);
    }
    match known.untold() {
        Some(verdict) => verdict,
        None => tell(known.of_others()),
    }
}

/// What follows in a message is told from the spec, and what goes before it was found.
const AS_DECLARED: &str = " As declared, ";

type Told = (ConditionStatus, Reason, String);

impl Known<'_> {
    /// What lets users reach each other's data by what we vend, or in the buckets themselves.
    fn wrong_by_us(&self) -> Option<Told> {
        if let GuardState::Missing { why } = self.guard {
            let message = format!("nothing is vended: {why}");
            return Some((False, Reason::GuardMissing, message));
        }
        if let Some(leak) = leak(self.hub, self.provider) {
            let message = format!("nothing is vended from {}: {}", leak.name, leak.message);
            return Some((False, Reason::ProbeLeaks, message));
        }
        if self.grants.is_empty() {
            return None;
        }
        let message = format!(
            "{}. By these, somebody may reach more than their own prefix. Once nobody needs them, take them out of \
             the bucket's policy or access control list: the operator leaves what others wrote",
            self.grants.join("; ")
        );
        Some((False, Reason::OtherGrants, message))
    }

    /// What lets them by something else that they have.
    fn wrong_by_others(&self) -> Option<Told> {
        let Some(found) = &self.found else {
            // What somebody found before this process began stands until it has looked.
            return self.as_wrong_as_it_stood();
        };
        if found.metadata.is_none() && found.bypasses.is_empty() {
            // And what the metadata service gave until that is tried.
            let is_of_service = |(_, reason, _): &Told| *reason == Reason::MetadataServiceReachable;
            return self.as_wrong_as_it_stood().filter(is_of_service);
        }
        let gives = match &found.metadata {
            Some(MetadataService::Gives(what)) => Some(format!(
                "the metadata service gives users' pods what is the node's: {what}"
            )),
            _ => None,
        };
        let bypasses = found.bypasses.iter();
        let reasons: BTreeSet<Reason> = bypasses.clone().map(Bypass::reason).collect();
        let reason = reasons.first().copied();
        let reason = reason.or(gives.is_some().then_some(Reason::MetadataServiceReachable))?;
        let told: Vec<String> = bypasses.map(ToString::to_string).chain(gives).collect();
        Some((False, reason, told.join("; ")))
    }

    fn as_wrong_as_it_stood(&self) -> Option<Told> {
        let (before, reason) = told_by_looking(self.hub)?;
        (before.status == "False").then(|| (False, reason, before.message.clone()))
    }

    /// Why it is not known whether the store holds users apart.
    fn untold(&self) -> Option<Verdict> {
        let tell = |reason: Reason, message: &str| {
            Some(Verdict::new(IsolationReady, Unknown, reason, message))
        };
        let Some(provider) = self.provider else {
            let message = "without a StorageProvider nothing is vended";
            return tell(Reason::ProviderNotFound, message);
        };
        if !provider.vends() {
            let reason = Reason::VendingNotConfigured;
            return tell(reason, reason.meaning());
        }
        let found = vending::probes(self.hub, provider);
        let by = |wanted| found.iter().find(|probe| probe.verdict == wanted);
        if let Some(unknown) = by(IsolationVerdict::Unknown) {
            let message = format!(
                "whether bucket {} holds users apart could not be tried; VendingReady says why",
                unknown.name
            );
            return tell(Reason::ProbeInconclusive, &message);
        }
        let is_tried = |bucket: &&str| found.iter().any(|probe| probe.bucket_name == **bucket);
        // What keeps the hub from having a bucket, or its role, keeps it from being tried, too.
        let is_reached = !self.buckets.is_empty() && session_role(self.hub, provider).is_ok();
        if !is_reached && *self.step != Step::Done {
            return Some(not_reached(IsolationReady, self.step));
        }
        if self.buckets.is_empty() || !self.buckets.iter().all(is_tried) {
            return tell(Reason::ProbePending, Reason::ProbePending.meaning());
        }
        None
    }

    /// What is left to know where the store holds users apart.
    fn of_others(&self) -> Told {
        // Declared, and so no lack of isolation; but who audits the hub is to read of it.
        let shared = shared_by_grant(self.hub).map(|shared| format!("{AS_DECLARED}{shared}."));
        let shared = shared.unwrap_or_default();
        if !self.unverified.is_empty() {
            let message = format!(
                "Users' pods that were made without the webhook, or before the guard was in force: {}. Nothing is vended \
                 to them, and nobody vouches for what else they have. Stop these servers and start them again.{shared}",
                some_of(self.unverified)
            );
            return (Unknown, Reason::PodsUnverified, message);
        }
        let untried = |why: &str| {
            let message = format!(
                "Vended credentials are held apart and the guard is in force; whether a metadata service gives users' \
                 pods credentials has not been tried: {why}.{shared}"
            );
            (Unknown, Reason::MetadataServiceUntried, message)
        };
        match self
            .found
            .as_ref()
            .and_then(|found| found.metadata.as_ref())
        {
            Some(MetadataService::GivesNothing(how)) => {
                let message = format!(
                    "Vended credentials are held apart, the guard is in force, and users' pods share no identity: {how}.{shared}"
                );
                (True, Reason::Isolated, message)
            }
            Some(MetadataService::Untried(why)) => untried(why),
            // Told already, as what is wrong.
            Some(MetadataService::Gives(_) | MetadataService::UnderWay) | None => self
                .as_it_stood(&shared)
                .unwrap_or_else(|| untried("it is about to be")),
        }
    }

    /// What a look before this one found, while another is under way.
    fn as_it_stood(&self, shared: &str) -> Option<Told> {
        let (before, reason) = told_by_looking(self.hub)?;
        let status = match before.status.as_str() {
            "True" => True,
            "Unknown" => Unknown,
            // Whatever it was is not there any more, or it would be told.
            _ => return None,
        };
        let found = before.message.split(AS_DECLARED).next().unwrap_or_default();
        Some((status, reason, format!("{found}{shared}")))
    }
}

/// Where users are not held apart because the hub says so.
fn shared_by_grant(hub: &HubStorage) -> Option<String> {
    let buckets = hub.spec.buckets.iter();
    let opened = buckets.filter_map(|bucket| Some((bucket, bucket.opened_by()?)));
    let told = |(bucket, grant): (&Bucket, &Grant)| {
        let may = match grant.permission {
            Permission::ReadOnly => "read",
            Permission::ReadWrite => "read, write and delete",
        };
        format!(
            "grant {} lets its subjects {may} every user's data in bucket {}",
            grant.name, bucket.name
        )
    };
    let told: Vec<String> = opened.map(told).collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// A bucket in which users are not held apart, where the provider vends at all.
fn leak<'h>(hub: &'h HubStorage, provider: Option<&StorageProvider>) -> Option<&'h BucketVending> {
    let provider = provider.filter(|provider| provider.vends())?;
    let found = vending::probes(hub, provider);
    found
        .into_iter()
        .find(|probe| probe.verdict == IsolationVerdict::Leaks)
}
