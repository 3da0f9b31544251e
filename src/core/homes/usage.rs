//! How full homes are: what nodes tell of them, and how it is told on.

use std::collections::HashMap;
use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{HomeClaim, StorageSize};
use crate::api::HomeUsage;

/// From here on somebody should look at a home, in percent.
pub const FULL: i32 = 90;

/// What status tells a home to be, in percent: coarse, so that it is not written as people work, and finer where it
/// begins to matter.
const STEPS: [i32; 12] = [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100];

/// How far below a step a home has to be until a lower one is told: one that is about as full as a step does not make
/// status change with every file.
const SLACK: i32 = 2;

/// Rounds after which a home of which no node has told anything is taken for one that nobody has mounted.
const UNSEEN: u8 = 3;

/// Looks of a node after which its figures are known to be of a volume with its present size: see [`Measurements`].
const LOOKS: u8 = 3;

/// Pods of one node, and claims of one pod, of which more are not read. A kubelet takes 110 pods, unless somebody says
/// otherwise.
const PODS: usize = 1024;
const CLAIMS: usize = 64;

/// Longer than a UID, or a time, is.
const TEXT: usize = 64;

/// What a kubelet makes of -1, with which some drivers tell nothing, and everything beyond: no figure.
const MOST: u64 = i64::MAX as u64;

/// What a kubelet answers at `/stats/summary`, as far as it is of claims (kubelet API `stats/v1alpha1`, `Summary`): the
/// rest, some kilobytes of each pod, is skipped unread.
#[derive(Deserialize, Debug, Clone, Default, PartialEq)]
pub struct NodeSummary {
    #[serde(default, deserialize_with = "pods")]
    pods: Vec<PodSummary>,
}

#[derive(Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
struct PodSummary {
    pod_ref: PodReference,
    #[serde(default, deserialize_with = "claims")]
    volume: Vec<VolumeUsage>,
}

#[derive(Deserialize, Debug, Clone, PartialEq)]
struct PodReference {
    uid: Box<str>,
}

/// What a node tells of the file system of a claim.
///
/// The kubelet sends 0 for what a driver does not tell (`parsePodVolumeStats`), and only the capacity has to be told
/// (CSI, `VolumeUsage`): figures count where they agree with each other.
#[derive(Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeUsage {
    pvc_ref: Option<ClaimReference>,
    /// When the node looked, by its clock.
    time: Box<str>,
    used_bytes: u64,
    available_bytes: u64,
    capacity_bytes: u64,
    inodes_used: u64,
    inodes_free: u64,
    inodes: u64,
}

#[derive(Deserialize, Debug, Clone, PartialEq)]
struct ClaimReference {
    name: Box<str>,
    namespace: Box<str>,
}

fn pods<'de, D: Deserializer<'de>>(list: D) -> Result<Vec<PodSummary>, D::Error> {
    list.deserialize_seq(Wanted {
        most: PODS,
        wanted: |pod: &PodSummary| !pod.volume.is_empty() && pod.pod_ref.uid.len() <= TEXT,
    })
}

fn claims<'de, D: Deserializer<'de>>(list: D) -> Result<Vec<VolumeUsage>, D::Error> {
    list.deserialize_seq(Wanted {
        most: CLAIMS,
        wanted: |volume: &VolumeUsage| volume.pvc_ref.is_some() && volume.time.len() <= TEXT,
    })
}

/// Keeps the first so many items of a list that are wanted.
struct Wanted<T> {
    most: usize,
    wanted: fn(&T) -> bool,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Wanted<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut kept = Vec::new();
        while let Some(item) = list.next_element()? {
            if kept.len() < self.most && (self.wanted)(&item) {
                kept.push(item);
            }
        }
        Ok(kept)
    }
}

impl NodeSummary {
    /// Each claim that is mounted: UID of the pod, namespace and name of the claim, and how full it is.
    pub fn claims(&self) -> impl Iterator<Item = (&str, &str, &str, &VolumeUsage)> {
        self.pods.iter().flat_map(|pod| {
            pod.volume.iter().filter_map(|volume| {
                let claim = volume.pvc_ref.as_ref()?;
                Some((&*pod.pod_ref.uid, &*claim.namespace, &*claim.name, volume))
            })
        })
    }
}

impl VolumeUsage {
    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.used_bytes
    }

    /// Bytes of the file system.
    pub fn capacity(&self) -> u64 {
        self.capacity_bytes
    }

    /// In percent, rounded up: of the bytes that users may use, as `df` has it, or of the inodes.
    fn percent(&self) -> Option<i32> {
        let (used, available) = (self.used_bytes, self.available_bytes);
        let most = self.capacity_bytes;
        // Nothing left is told by a driver that tells nothing of it, too. A full file system of type ext4 has 95 % of its
        // capacity in use, less inodes and journal: the rest is root's.
        let is_told = available > 0 || u128::from(used) * 10 >= u128::from(most) * 9;
        let agree = is_told && used <= most && available <= most && most <= MOST;
        let of_bytes = share(used, used.saturating_add(available)).filter(|_| agree)?;
        let all = self.inodes_used.saturating_add(self.inodes_free);
        let of_inodes = share(self.inodes_used, self.inodes).filter(|_| {
            let agree = is_about(all, self.inodes) && is_about(self.inodes, all);
            self.inodes_used <= self.inodes && self.inodes <= MOST && agree
        });
        Some(of_bytes.max(of_inodes.unwrap_or_default()))
    }

    /// Whether these can be figures of a volume of this size. A driver that enforces no size tells those of the disk or
    /// the server that all homes are on.
    fn is_of(&self, size: &StorageSize) -> bool {
        let (capacity, size) = (u128::from(self.capacity_bytes), u128::from(size.bytes()));
        capacity * 10 <= size * 11 && capacity * 2 >= size
    }
}

/// Whether `part` is 95 % of `whole`, or more.
fn is_about(part: u64, whole: u64) -> bool {
    u128::from(part) * 20 >= u128::from(whole) * 19
}

fn share(part: u64, whole: u64) -> Option<i32> {
    let percent = (u128::from(part) * 100).checked_div(u128::from(whole))?;
    let is_exact = u128::from(part) * 100 == percent * u128::from(whole);
    let percent = i32::try_from(percent).ok()?;
    Some((percent + i32::from(!is_exact)).min(100))
}

/// What nodes have told of claims, round by round.
///
/// What a node tells may be of a volume before it grew: a kubelet looks every minute or two, answers with what it saw
/// last, and may be in the middle of a look. So figures count from the third look that is told since a round began in
/// which the volume has its size: the first may be of before, the second may have begun before the first was told, and the
/// third began after that. No two clocks are compared. Each pod is looked at on its own, so one pod of those that have
/// a claim mounted is heard, as long as it tells.
#[derive(Debug, Default)]
pub struct Measurements(HashMap<String, HashMap<String, Measurement>>);

/// What is known of one claim.
#[derive(Debug)]
struct Measurement {
    uid: Box<str>,
    size: StorageSize,
    /// Node and pod that are heard.
    source: (Box<str>, Box<str>),
    usage: VolumeUsage,
    looks: u8,
    /// The file system when the volume was smaller: one that has not grown with it is not the volume's own.
    outgrown: Option<u64>,
    /// Rounds in which the source has told nothing of it; 0 from when it has.
    unseen: u8,
}

impl Measurement {
    fn of((node, pod): (&str, &str), claim: &HomeClaim, size: &StorageSize) -> Self {
        Self {
            uid: claim.uid.clone(),
            size: size.clone(),
            source: (node.into(), pod.into()),
            usage: VolumeUsage::default(),
            looks: 0,
            outgrown: None,
            unseen: 1,
        }
    }

    fn is_of(&self, claim: &HomeClaim) -> bool {
        self.uid == claim.uid && Some(&self.size) == claim.capacity.as_ref()
    }

    /// Whether the figures are the volume's own.
    fn is_own(&self) -> bool {
        let has_grown = self
            .outgrown
            .is_none_or(|before| self.usage.capacity_bytes > before);
        has_grown && self.usage.is_of(&self.size)
    }
}

impl Measurements {
    /// Begins a round, in which claims are as `current` has them by namespace and name.
    pub fn begin<'c>(&mut self, current: impl Fn(&str, &str) -> Option<&'c HomeClaim>) {
        for (namespace, claims) in &mut self.0 {
            claims.retain(|name, known| {
                known.unseen += 1;
                let claim = current(namespace, name).filter(|claim| claim.uid == known.uid);
                let size = claim.and_then(|claim| claim.capacity.as_ref());
                let Some(size) = size.filter(|_| known.unseen <= UNSEEN) else {
                    return false;
                };
                if known.size != *size {
                    if *size < known.size {
                        known.outgrown = None;
                    } else if known.looks >= LOOKS {
                        known.outgrown = Some(known.usage.capacity_bytes);
                    }
                    known.size = size.clone();
                    known.looks = 0;
                }
                true
            });
        }
        self.0.retain(|_, claims| !claims.is_empty());
    }

    /// A pod on a node has this claim mounted, and the node told this of it; whether that says something new.
    pub fn tell(
        &mut self,
        source: (&str, &str),
        namespace: &str,
        claim: &HomeClaim,
        usage: &VolumeUsage,
    ) -> bool {
        let Some(size) = &claim.capacity else {
            return false;
        };
        let before = self.percent(namespace, claim);
        let claims = self.0.entry(namespace.to_owned()).or_default();
        let known = match claims.get_mut(&*claim.name) {
            None => claims
                .entry(claim.name.to_string())
                .or_insert_with(|| Measurement::of(source, claim, size)),
            // It has changed since the round began: the next one begins with what it is now.
            Some(known) if !known.is_of(claim) => return false,
            // Two volumes of one pod are one claim: they were looked at one after the other.
            Some(known) if known.unseen == 0 => return false,
            Some(known) if (&*known.source.0, &*known.source.1) == source => known,
            // In its first round without a word its source may only be the one that answers later.
            Some(known) if known.unseen < 2 => return false,
            Some(known) => {
                *known = Measurement {
                    outgrown: known.outgrown,
                    ..Measurement::of(source, claim, size)
                };
                known
            }
        };
        if known.looks == 0 || known.usage.time != usage.time {
            known.looks = known.looks.saturating_add(1);
        }
        known.unseen = 0;
        known.usage = VolumeUsage {
            pvc_ref: None,
            ..usage.clone()
        };
        self.percent(namespace, claim) != before
    }

    /// How full a home is, in percent, where that is known of its volume as large as it is now.
    pub fn percent(&self, namespace: &str, claim: &HomeClaim) -> Option<i32> {
        let known = self.0.get(namespace)?.get(&*claim.name)?;
        let counts = known.looks >= LOOKS && known.is_of(claim) && known.is_own();
        counts.then(|| known.usage.percent())?
    }

    /// Namespace, name and usage of each claim of which a node has told lately.
    pub fn claims(&self) -> impl Iterator<Item = (&str, &str, &VolumeUsage)> {
        self.0.iter().flat_map(|(namespace, claims)| {
            let own = claims
                .iter()
                .filter(|(_, known)| known.is_own() && known.usage.percent().is_some());
            own.map(|(claim, known)| (namespace.as_str(), claim.as_str(), &known.usage))
        })
    }
}

/// A claim with what is known of how full it is.
#[derive(Debug, Clone, Copy)]
pub struct SeenHome<'c> {
    /// The claim.
    pub claim: &'c HomeClaim,
    /// How full it is, in percent, where a server has it mounted.
    pub measured: Option<i32>,
    /// What status told of it last.
    pub told: Option<&'c HomeUsage>,
}

impl SeenHome<'_> {
    /// What was told of this claim last, and of no other one that had its name.
    fn told(&self) -> Option<&HomeUsage> {
        self.told.filter(|told| told.uid == *self.claim.uid)
    }

    /// The same, where it is of the volume as large as it is now.
    fn known(&self) -> Option<i32> {
        let told = self.told()?;
        let is_of_now = self.claim.capacity.as_ref() == Some(&told.size);
        is_of_now.then_some(told.used_percent)
    }

    /// In percent: exactly where a server has it mounted, else the step that was told last.
    pub(super) fn percent(&self) -> Option<i32> {
        self.measured.or_else(|| self.known())
    }

    /// The step that is to be told now.
    pub(super) fn step(&self) -> Option<i32> {
        let known = self.known();
        match self.measured {
            Some(percent) => Some(step(percent, known)),
            None => known,
        }
    }

    /// What status is to tell. Where nobody has looked since the volume has another size, what was told stands.
    pub(super) fn usage(&self) -> Option<HomeUsage> {
        match (self.step(), &self.claim.capacity) {
            (Some(used_percent), Some(size)) => Some(HomeUsage {
                claim: self.claim.name.to_string(),
                uid: self.claim.uid.to_string(),
                used_percent,
                size: size.clone(),
            }),
            _ => self.told().cloned(),
        }
    }
}

fn step(percent: i32, known: Option<i32>) -> i32 {
    let of = |percent: i32| {
        let reached = STEPS.iter().rev().find(|step| **step <= percent);
        reached.copied().unwrap_or_default()
    };
    match known {
        Some(known) if known > percent => of(percent + SLACK).min(known),
        _ => of(percent),
    }
}

#[cfg(test)]
mod tests;
