//! Homes: how large they are, may be, and what is done about it.
//!
//! A home is a PersistentVolumeClaim that KubeSpawner makes. Volumes grow and never shrink, so what is too large
//! is told, and what is too small grows.

mod admission;
mod claim;
mod size;
mod usage;

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{
    Home, HomeCount, HomeFinding, HomeOverride, HomeUsage, HomesStatus, HubUser, OnOversize, Reason,
};

pub use admission::{HomeAdmission, Resized};
pub use claim::{CLAIM_LABEL, CLAIM_LABEL_VALUE, HomeClaim, Resize};
pub use size::{SizeError, StorageSize};
pub use usage::{FULL, Measurements, NodeSummary, SeenHome, VolumeUsage};

/// Entries of `status.homes.findings`, and of `status.homes.overrides`, as the schema bounds them.
const FINDINGS: usize = 64;
const OVERRIDES: usize = 512;

/// Findings of each reason that have room in any case.
const OF_EACH: usize = FINDINGS / FINDINGS_IN_ORDER.len();

/// Entries of `status.homes` of a HubUser, as the schema bounds them.
const HOMES: usize = 32;

/// What may be found of a claim, what says most about what is to be done first. The last two are no matter of the size
/// that is declared.
pub const FINDINGS_IN_ORDER: [Reason; 6] = [
    Reason::ClaimGrowthFailed,
    Reason::ClaimNotExpandable,
    Reason::ClaimTooLarge,
    Reason::Observing,
    Reason::ClaimFull,
    Reason::ClaimDuplicate,
];

/// Characters of what others say that go into a finding.
const WORDS: usize = 500;

/// What one user's homes have, and may ask for.
#[derive(Debug, Clone, Copy)]
pub struct Limits<'h> {
    size: &'h StorageSize,
    max: &'h StorageSize,
    on_oversize: OnOversize,
}

impl<'h> Limits<'h> {
    /// Of a user for whom `overrides` may name another size.
    pub fn of(home: &'h Home, overrides: &'h [HomeOverride], username: &str) -> Self {
        let own = overrides.iter().find(|own| own.username == username);
        let size = own.and_then(|own| own.size.as_ref()).unwrap_or(&home.size);
        let max = own.and_then(|own| own.max_size.as_ref());
        let max = max.or(home.max_size.as_ref()).unwrap_or(&home.size);
        Self {
            size,
            max: max.max(size),
            on_oversize: home.on_oversize,
        }
    }

    /// What a new claim is given instead of what it asks for, where that is something else. One that is to be
    /// refused keeps what it asks for: the admission policy refuses it.
    pub fn instead(&self, asked: &StorageSize) -> Option<&'h StorageSize> {
        if asked < self.size {
            return Some(self.size);
        }
        (asked > self.max && self.on_oversize == OnOversize::Clamp).then_some(self.max)
    }
}

/// What HubUsers say of homes, once for each user: of several the largest sizes.
pub fn overrides<'u>(users: impl IntoIterator<Item = &'u HubUser>) -> Vec<HomeOverride> {
    let mut overrides: BTreeMap<&str, HomeOverride> = BTreeMap::new();
    for user in users {
        let Some(home) = &user.spec.home else {
            continue;
        };
        let username = &user.spec.username;
        let own = overrides.entry(username).or_insert_with(|| HomeOverride {
            username: username.clone(),
            size: None,
            max_size: None,
        });
        // None is less than any.
        own.size = own.size.take().max(home.size.clone());
        own.max_size = own.max_size.take().max(home.max_size.clone());
    }
    overrides.into_values().collect()
}

/// Whether a StorageClass lets its volumes grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expansion {
    /// It does.
    Allowed,
    /// It does not.
    Forbidden,
    /// There is no such class.
    NoClass,
}

/// A claim that is to ask for more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    /// Name of the claim.
    pub claim: String,
    /// UID and resource version of the claim as it was seen.
    pub uid: String,
    /// See `uid`.
    pub version: String,
    /// What it asks for.
    pub from: StorageSize,
    /// What it is to ask for.
    pub to: StorageSize,
    /// How full it is, in percent, where it grows for that.
    pub full: Option<i32>,
}

/// What is to be done, and what is to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct HomesPlan {
    /// Claims that are to ask for more.
    pub growths: Vec<Growth>,
    /// How full the homes of each user are that a HubUser is to tell, the fullest first.
    pub usage: BTreeMap<String, Vec<HomeUsage>>,
    /// What status tells, but for what was found.
    status: HomesStatus,
    findings: Vec<HomeFinding>,
}

/// Names of the StorageClasses that decide whether these claims grow.
pub fn classes<'c>(
    home: &Home,
    overrides: &[HomeOverride],
    claims: &[SeenHome<'c>],
) -> BTreeSet<&'c str> {
    let wanting = claims.iter().filter(|seen| {
        let limits = Limits::of(home, overrides, &seen.claim.username);
        wanted(seen, &limits, home).is_some()
    });
    wanting
        .filter_map(|seen| seen.claim.class.as_deref())
        .collect()
}

/// What a claim is to ask for, where that is more than it does. One that has no volume yet cannot ask for more (API
/// server, `ValidatePersistentVolumeClaimUpdate`), and is looked at again when it has.
fn wanted(seen: &SeenHome<'_>, limits: &Limits, home: &Home) -> Option<StorageSize> {
    let claim = seen.claim;
    let capacity = claim.capacity.as_ref().filter(|_| !claim.is_deleting)?;
    if claim.requested < *limits.size {
        return Some(limits.size.clone());
    }
    let growth = home.growth.as_ref()?;
    let is_full = seen.percent()? >= growth.threshold_percent;
    // While a volume is being made larger nobody knows how full it will be. One that is larger than its claim, because
    // its driver has whole GiB, say, grows from there: a claim that asks for as much as it has gains nothing.
    let may = *capacity >= claim.requested && capacity < limits.max;
    (is_full && may).then(|| capacity.plus(&growth.step).min(limits.max.clone()))
}

/// What is to be done about the claims of a hub whose spec is of this `generation`, where `expansion` tells of each
/// of their [`classes`].
pub fn plan(
    home: &Home,
    generation: i64,
    mut overrides: Vec<HomeOverride>,
    claims: &[SeenHome<'_>],
    expansion: &BTreeMap<String, Expansion>,
) -> HomesPlan {
    // What admission does not go by does not make a claim grow, either.
    let left_out = overrides.len().saturating_sub(OVERRIDES);
    overrides.truncate(OVERRIDES);
    let mut growths = Vec::new();
    let mut findings = duplicates(claims.iter().map(|seen| seen.claim));
    let (mut growing, mut awaiting_server) = (0, 0);
    for seen in claims {
        let claim = seen.claim;
        let limits = Limits::of(home, &overrides, &claim.username);
        let mut find = |reason, message| findings.push(finding(claim, reason, message));
        if claim.requested > *limits.max {
            let message = format!(
                "asks for {}, and may have {}: volumes do not shrink",
                claim.requested, limits.max
            );
            find(Reason::ClaimTooLarge, message);
        }
        let full = seen.step().filter(|step| *step >= FULL);
        let wanted = wanted(seen, &limits, home);
        let is_small = claim.requested < *limits.size;
        // What keeps a home from the size that is declared, and what keeps a full one from room.
        let mut kept = |reason, message: String| {
            if let Some(full) = full {
                find(
                    Reason::ClaimFull,
                    format!("is {full} % full, and {message}"),
                );
            }
            if is_small || reason == Reason::ClaimGrowthFailed {
                find(reason, message);
            }
        };
        match (wanted, &claim.resize) {
            (Some(to), _) => match why_not(claim, expansion) {
                None => growths.push(Growth {
                    claim: claim.name.to_string(),
                    uid: claim.uid.to_string(),
                    version: claim.version.to_string(),
                    full: seen.step().filter(|_| !is_small),
                    from: claim.requested.clone(),
                    to,
                }),
                Some(why) => {
                    let message = format!("has {} instead of {to}: {why}", claim.requested);
                    kept(Reason::ClaimNotExpandable, message);
                }
            },
            (None, Resize::Failed(why)) => {
                let why = shortened(why);
                let message = format!("does not grow to {}: {why}", claim.requested);
                kept(Reason::ClaimGrowthFailed, message);
            }
            (None, _) => {
                if let Some(why) = why_it_stays(seen, &limits, home) {
                    kept(Reason::ClaimFull, why);
                }
            }
        }
        match (&claim.resize, &claim.capacity) {
            (Resize::AwaitsServer, _) => awaiting_server += 1,
            (Resize::Idle, Some(capacity)) if *capacity < claim.requested => growing += 1,
            (Resize::Idle | Resize::Failed(_), _) => {}
        }
    }
    let status = HomesStatus {
        observed_generation: generation,
        claims: number(claims.len()),
        growing,
        awaiting_server,
        overrides,
        overrides_left_out: number(left_out),
        usage_unknown: None,
        found: Vec::new(),
        findings: Vec::new(),
    };
    HomesPlan {
        growths,
        usage: usage_of_users(claims),
        status,
        findings,
    }
}

/// Why a full home is not to ask for more, if it is not being made larger already, and will not be once it is as full as
/// that.
fn why_it_stays(seen: &SeenHome<'_>, limits: &Limits, home: &Home) -> Option<String> {
    let claim = seen.claim;
    let capacity = claim.capacity.as_ref().filter(|_| !claim.is_deleting)?;
    if *capacity < claim.requested {
        return None;
    }
    if capacity >= limits.max {
        return Some(format!("has the {} that it may have", limits.max));
    }
    home.growth
        .is_none()
        .then(|| "spec.home.growth is not set, by which it would grow".to_owned())
}

fn usage_of_users(claims: &[SeenHome<'_>]) -> BTreeMap<String, Vec<HomeUsage>> {
    let mut usage: BTreeMap<String, Vec<HomeUsage>> = BTreeMap::new();
    for seen in claims {
        let of_user = usage.entry(seen.claim.username.to_string()).or_default();
        of_user.extend(seen.usage());
    }
    for of_user in usage.values_mut() {
        of_user.sort_by(|one, other| {
            let fullest = other.used_percent.cmp(&one.used_percent);
            fullest.then_with(|| one.claim.cmp(&other.claim))
        });
        of_user.truncate(HOMES);
    }
    usage
}

/// Ten exactly, and more rounded up: status is not written for each of a thousand volumes that grow.
fn in_steps(number: i32) -> i32 {
    let step = match number {
        ..=10 => 1,
        11..=100 => 10,
        _ => 100,
    };
    number.saturating_add(step - 1) / step * step
}

fn number(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

impl HomesPlan {
    /// What status tells when so many of the claims were made to ask for more, and that was found at others.
    pub fn status(&self, asked: usize, found: &[HomeFinding]) -> HomesStatus {
        let rank = |reason: &str| {
            let mut known = FINDINGS_IN_ORDER.iter();
            known.position(|known| <&str>::from(known) == reason)
        };
        let mut findings: Vec<&HomeFinding> = self.findings.iter().chain(found).collect();
        findings.sort_by_key(|finding| (rank(&finding.reason), &finding.claim));
        let chunks = || findings.chunk_by(|one, other| one.reason == other.reason);
        let found = chunks().map(|of_reason| HomeCount {
            reason: of_reason[0].reason.clone(),
            claims: number(of_reason.len()),
        });
        let found = found.collect();
        // A few of each reason, however many there are of another, and then as many as there is room for.
        let in_order: Vec<(usize, &HomeFinding)> = chunks()
            .flat_map(|of_reason| of_reason.iter().copied().enumerate())
            .collect();
        let (first, more): (Vec<_>, Vec<_>) = in_order
            .into_iter()
            .partition(|(index, _)| *index < OF_EACH);
        let mut findings: Vec<&HomeFinding> = first
            .into_iter()
            .chain(more)
            .map(|(_, finding)| finding)
            .take(FINDINGS)
            .collect();
        findings.sort_by_key(|finding| (rank(&finding.reason), &finding.claim));
        HomesStatus {
            growing: in_steps(self.status.growing.saturating_add(number(asked))),
            awaiting_server: in_steps(self.status.awaiting_server),
            found,
            findings: findings.into_iter().cloned().collect(),
            ..self.status.clone()
        }
    }
}

/// A finding about a growth that did not come about, for this reason: of a full home that it is full, and nothing of one
/// that is not as full as that.
pub fn of_growth(growth: &Growth, reason: Reason, why: &str) -> Option<HomeFinding> {
    let (from, to, why) = (&growth.from, &growth.to, shortened(why));
    let message = format!("has {from} instead of {to}: {why}");
    let (reason, message) = match growth.full {
        None => (reason, message),
        Some(full) if full >= FULL => (
            Reason::ClaimFull,
            format!("is {full} % full, and {message}"),
        ),
        Some(_) => return None,
    };
    Some(HomeFinding {
        claim: growth.claim.clone(),
        reason: reason.to_string(),
        message,
    })
}

fn shortened(words: &str) -> String {
    words.chars().take(WORDS).collect()
}

fn finding(claim: &HomeClaim, reason: Reason, message: String) -> HomeFinding {
    HomeFinding {
        claim: claim.name.to_string(),
        reason: reason.to_string(),
        message,
    }
}

fn why_not(claim: &HomeClaim, expansion: &BTreeMap<String, Expansion>) -> Option<String> {
    let Some(class) = claim.class.as_deref() else {
        return Some("it has no StorageClass, which would have to let it grow".to_owned());
    };
    match expansion.get(class) {
        Some(Expansion::Allowed) => None,
        Some(Expansion::Forbidden) => Some(format!(
            "StorageClass {class} has no allowVolumeExpansion: true"
        )),
        Some(Expansion::NoClass) | None => Some(format!("StorageClass {class} does not exist")),
    }
}

/// Claims of one user for one server: after an upgrade KubeSpawner may make a new, empty one beside the old
/// (jupyterhub/kubespawner#937), or leave the old one behind (#924).
fn duplicates<'c>(claims: impl Iterator<Item = &'c HomeClaim>) -> Vec<HomeFinding> {
    let mut of_server: BTreeMap<(&str, &str), Vec<&HomeClaim>> = BTreeMap::new();
    for claim in claims.filter(|claim| !claim.is_deleting) {
        let server = (&*claim.username, &*claim.server);
        of_server.entry(server).or_default().push(claim);
    }
    let mut findings = Vec::new();
    for ((username, server), mut claims) in of_server {
        claims.sort_by(|one, other| one.name.cmp(&other.name));
        let [first, others @ ..] = &*claims else {
            continue;
        };
        if others.is_empty() {
            continue;
        }
        let others: Vec<&str> = others.iter().map(|other| &*other.name).collect();
        let server = match server {
            "" => "the default server".to_owned(),
            named => format!("server {named}"),
        };
        let message = format!(
            "user {username} has another home for {server}: {}",
            others.join(", ")
        );
        findings.push(finding(first, Reason::ClaimDuplicate, message));
    }
    findings
}

#[cfg(test)]
mod tests;
