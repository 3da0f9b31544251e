//! How full homes are: what nodes tell of them, and how it is told on.

use std::collections::HashMap;

use serde::Deserialize;

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

/// Looks after which a home of which no node has told anything is taken for one that nobody has mounted.
const UNSEEN: u8 = 3;

/// What a kubelet answers at `/stats/summary`, as far as it is of homes (kubelet API `stats/v1alpha1`, `Summary`).
#[derive(Deserialize, Debug, Clone, Default, PartialEq)]
pub struct NodeSummary {
    #[serde(default)]
    pods: Vec<PodSummary>,
}

#[derive(Deserialize, Debug, Clone, PartialEq)]
struct PodSummary {
    #[serde(default)]
    volume: Vec<VolumeSummary>,
}

#[derive(Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
struct VolumeSummary {
    pvc_ref: Option<ClaimReference>,
    #[serde(flatten)]
    usage: VolumeUsage,
}

#[derive(Deserialize, Debug, Clone, PartialEq)]
struct ClaimReference {
    name: String,
    namespace: String,
}

/// What a node tells of the file system of one volume; a driver may leave any of it out.
#[derive(Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct VolumeUsage {
    /// When the node looked, by its clock.
    #[serde(default)]
    time: String,
    used_bytes: Option<u64>,
    available_bytes: Option<u64>,
    capacity_bytes: Option<u64>,
    inodes_used: Option<u64>,
    inodes: Option<u64>,
}

impl NodeSummary {
    /// Namespace and name of each claim that is mounted, and how full it is.
    pub fn claims(&self) -> impl Iterator<Item = (&str, &str, &VolumeUsage)> {
        let volumes = self.pods.iter().flat_map(|pod| &pod.volume);
        volumes.filter_map(|volume| {
            let claim = volume.pvc_ref.as_ref()?;
            Some((&*claim.namespace, &*claim.name, &volume.usage))
        })
    }
}

impl VolumeUsage {
    /// Bytes in use.
    pub fn used(&self) -> Option<u64> {
        self.used_bytes
    }

    /// Bytes of the file system.
    pub fn capacity(&self) -> Option<u64> {
        self.capacity_bytes
    }

    /// In percent, rounded up: of the bytes that users may use, as `df` has it, or of the inodes.
    fn percent(&self) -> Option<i32> {
        let (used, available) = (self.used_bytes?, self.available_bytes?);
        let of_bytes = share(used, used.saturating_add(available))?;
        let of_inodes = self.inodes_used.zip(self.inodes);
        let of_inodes = of_inodes.and_then(|(used, all)| share(used, all));
        Some(of_bytes.max(of_inodes.unwrap_or_default()))
    }

    /// Whether these are figures of a volume of this size. A driver that enforces no size tells those of the disk or
    /// the server that all homes are on.
    fn is_of(&self, size: &StorageSize) -> bool {
        let most = u128::from(size.bytes()) * 11 / 10;
        self.capacity_bytes
            .is_some_and(|capacity| u128::from(capacity) <= most)
    }
}

fn share(part: u64, whole: u64) -> Option<i32> {
    let percent = (u128::from(part) * 100).checked_div(u128::from(whole))?;
    let is_exact = u128::from(part) * 100 == percent * u128::from(whole);
    let percent = i32::try_from(percent).ok()?;
    Some((percent + i32::from(!is_exact)).min(100))
}

/// What nodes have told of claims.
///
/// What a node tells may be a minute old, and of a volume that has grown since. So figures count from the second look
/// that a node has taken since the volume has its size: the first may have been before. No two clocks are compared, and
/// of a claim that is mounted on several nodes one is heard, as long as it tells.
#[derive(Debug, Default)]
pub struct Measurements(HashMap<String, HashMap<String, Measurement>>);

/// What is known of one claim.
#[derive(Debug)]
struct Measurement {
    size: StorageSize,
    node: String,
    usage: VolumeUsage,
    looks: u8,
    /// Rounds in which its node has told nothing of it; 0 from when it has.
    unseen: u8,
}

impl Measurements {
    /// Begins a round: nothing was told in it yet.
    pub fn begin(&mut self) {
        for claims in self.0.values_mut() {
            claims.retain(|_, known| {
                known.unseen += 1;
                known.unseen <= UNSEEN
            });
        }
        self.0.retain(|_, claims| !claims.is_empty());
    }

    /// A node told this of a claim whose volume has `size`; whether that says something new of it.
    pub fn tell(
        &mut self,
        node: &str,
        namespace: &str,
        claim: &str,
        size: &StorageSize,
        usage: &VolumeUsage,
    ) -> bool {
        let before = self.percent(namespace, claim);
        let claims = self.0.entry(namespace.to_owned()).or_default();
        let known = claims
            .entry(claim.to_owned())
            .or_insert_with(|| Measurement {
                size: size.clone(),
                node: node.to_owned(),
                usage: VolumeUsage::default(),
                looks: 0,
                unseen: 0,
            });
        // In its first round without a word its node may only be the one that answers later.
        if known.node != node && known.unseen < 2 {
            return false;
        }
        if known.node != node || known.size != *size {
            known.node = node.to_owned();
            known.size = size.clone();
            known.looks = 0;
        }
        if known.looks == 0 || known.usage.time != usage.time {
            known.looks = known.looks.saturating_add(1);
        }
        known.unseen = 0;
        known.usage = usage.clone();
        self.percent(namespace, claim) != before
    }

    /// How full a claim is, in percent, where that is known for its volume as large as it is now.
    pub fn percent(&self, namespace: &str, claim: &str) -> Option<i32> {
        let known = self.0.get(namespace)?.get(claim)?;
        let counts = known.looks >= 2 && known.usage.is_of(&known.size);
        counts.then(|| known.usage.percent())?
    }

    /// Namespace, name and usage of each claim of which a node has told lately.
    pub fn claims(&self) -> impl Iterator<Item = (&str, &str, &VolumeUsage)> {
        self.0.iter().flat_map(|(namespace, claims)| {
            let of_namespace = claims
                .iter()
                .filter(|(_, known)| known.usage.is_of(&known.size));
            of_namespace.map(|(claim, known)| (namespace.as_str(), claim.as_str(), &known.usage))
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
    /// What was told last, where it is of the volume as large as it is now.
    fn known(&self) -> Option<i32> {
        let told = self.told?;
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
                used_percent,
                size: size.clone(),
            }),
            _ => self.told.cloned(),
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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn usage(time: &str, used: u64, available: u64) -> VolumeUsage {
        VolumeUsage {
            time: time.to_owned(),
            used_bytes: Some(used),
            available_bytes: Some(available),
            capacity_bytes: Some(used + available),
            inodes_used: None,
            inodes: None,
        }
    }

    fn size(text: &str) -> StorageSize {
        text.parse().unwrap()
    }

    #[test]
    fn of_a_nodes_answer_the_claims_are_read_and_nothing_else_is_asked_of_it() {
        let summary: NodeSummary = serde_json::from_value(json!({
            "node": {"nodeName": "worker", "cpu": {}},
            "pods": [
                {"podRef": {"name": "jupyter-bob", "namespace": "earth"}, "volume": [
                    {"name": "home", "pvcRef": {"name": "claim-bob", "namespace": "earth"},
                     "time": "2026-01-01T00:00:00Z", "usedBytes": 90, "availableBytes": 10, "capacityBytes": 105},
                    {"name": "kube-api-access", "usedBytes": 12, "availableBytes": 7},
                ]},
                {"podRef": {"name": "without", "namespace": "earth"}},
            ],
        }))
        .unwrap();
        let claims: Vec<_> = summary.claims().collect();
        let [(namespace, claim, usage)] = &*claims else {
            panic!("{claims:?}");
        };
        assert_eq!((*namespace, *claim), ("earth", "claim-bob"));
        assert_eq!(usage.percent(), Some(90), "as df has it: not of 105");
        let nothing: NodeSummary = serde_json::from_value(json!({})).unwrap();
        assert_eq!(nothing.claims().count(), 0);
    }

    #[test]
    fn a_home_is_as_full_as_that_of_which_there_is_less_left() {
        let mut usage = usage("", 10, 90);
        assert_eq!(usage.percent(), Some(10));
        usage.inodes = Some(1000);
        usage.inodes_used = Some(931);
        assert_eq!(usage.percent(), Some(94));
        // A file system that counts none.
        (usage.inodes, usage.inodes_used) = (Some(0), Some(0));
        assert_eq!(usage.percent(), Some(10));
        usage.available_bytes = None;
        assert_eq!(usage.percent(), None);
    }

    #[test]
    fn figures_count_from_the_second_look_since_the_volume_has_its_size() {
        let mut known = Measurements::default();
        let mut tell = |capacity: &str, time: &str, used| {
            let usage = usage(time, used, 100 - used);
            known.begin();
            known.tell("worker", "earth", "claim-bob", &size(capacity), &usage);
            known.percent("earth", "claim-bob")
        };
        assert_eq!(tell("100", "1", 95), None, "from before the start, maybe");
        assert_eq!(tell("100", "1", 95), None, "the same look");
        assert_eq!(tell("100", "2", 95), Some(95));
        assert_eq!(tell("100", "3", 96), Some(96));
        assert_eq!(tell("200", "3", 96), None, "of the smaller volume");
        assert_eq!(tell("200", "4", 50), Some(50));
    }

    #[test]
    fn whoever_asks_is_told_when_there_is_something_new() {
        let mut known = Measurements::default();
        let mut tell = |time: &str, used| {
            let usage = usage(time, used, 100 - used);
            known.tell("worker", "earth", "claim-bob", &size("100"), &usage)
        };
        assert!(!tell("1", 50));
        assert!(tell("2", 50));
        assert!(!tell("3", 50));
        assert!(tell("4", 51));
    }

    #[test]
    fn figures_of_a_whole_disk_are_none_of_a_home() {
        let mut known = Measurements::default();
        for time in ["1", "2"] {
            let disk = usage(time, 950, 50);
            known.tell("worker", "earth", "claim-bob", &size("100"), &disk);
        }
        assert_eq!(known.percent("earth", "claim-bob"), None);
        assert_eq!(known.claims().count(), 0);
    }

    #[test]
    fn of_two_nodes_one_is_heard_and_the_other_once_that_tells_nothing_more() {
        let mut known = Measurements::default();
        let mut round = |answers: &[(&str, u64)], time: &str| {
            known.begin();
            for (node, used) in answers {
                let usage = usage(time, *used, 100 - used);
                known.tell(node, "earth", "claim-bob", &size("100"), &usage);
            }
            known.percent("earth", "claim-bob")
        };
        assert_eq!(round(&[("a", 10), ("b", 99)], "1"), None);
        assert_eq!(round(&[("b", 99), ("a", 10)], "2"), Some(10));
        assert_eq!(round(&[("b", 99)], "3"), Some(10));
        assert_eq!(round(&[("b", 99)], "4"), None, "a first look");
        assert_eq!(round(&[("b", 99)], "5"), Some(99));
    }

    #[test]
    fn a_home_that_no_node_tells_of_any_more_is_forgotten_and_one_answer_may_be_missing() {
        let mut known = Measurements::default();
        for time in ["1", "2"] {
            known.tell(
                "worker",
                "earth",
                "claim-bob",
                &size("100"),
                &usage(time, 95, 5),
            );
        }
        for _ in 0..UNSEEN {
            known.begin();
            assert_eq!(known.percent("earth", "claim-bob"), Some(95));
        }
        known.begin();
        assert_eq!(known.percent("earth", "claim-bob"), None);
        assert!(known.0.is_empty());
    }

    #[test]
    fn steps_are_told_as_they_are_reached_and_left_when_a_home_is_well_below() {
        for (percent, known, told) in [
            (0, None, 0),
            (9, None, 0),
            (90, None, 90),
            (94, Some(90), 90),
            (95, Some(90), 95),
            (100, Some(95), 100),
            (89, Some(90), 90),
            (88, Some(90), 90),
            (87, Some(90), 80),
            (94, Some(95), 95),
            (12, Some(100), 10),
            (9, Some(100), 10),
        ] {
            assert_eq!(step(percent, known), told, "{percent} after {known:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_told_stays_as_it_is_while_a_home_is_as_full_as_it_was(
            percent in 0..=100, known in proptest::option::of(proptest::sample::select(&STEPS[..])),
        ) {
            let told = step(percent, known);
            prop_assert!(STEPS.contains(&told));
            prop_assert!(told <= percent + SLACK);
            prop_assert_eq!(step(percent, Some(told)), told);
        }

        #[test]
        fn a_share_is_between_nothing_and_all(part in any::<u64>(), whole in any::<u64>()) {
            let share = share(part.min(whole), whole);
            prop_assert_eq!(share.is_none(), whole == 0);
            prop_assert!(share.is_none_or(|share| (0..=100).contains(&share)));
        }
    }
}
