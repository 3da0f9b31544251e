use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::homes::Resize;

fn usage(time: &str, used: u64, available: u64) -> VolumeUsage {
    VolumeUsage {
        time: time.into(),
        used_bytes: used,
        available_bytes: available,
        capacity_bytes: used + available,
        ..VolumeUsage::default()
    }
}

fn claim(uid: &str, size: &str) -> HomeClaim {
    let size: StorageSize = size.parse().unwrap();
    HomeClaim {
        name: "claim-bob".into(),
        uid: uid.into(),
        version: "1".into(),
        username: "bob".into(),
        server: "".into(),
        requested: size.clone(),
        capacity: Some(size),
        class: None,
        resize: Resize::Idle,
        is_deleting: false,
    }
}

/// One round: the claim as it is, and what each pod of node `a` tells of it, in order.
fn round(known: &mut Measurements, claim: &HomeClaim, told: &[(&str, VolumeUsage)]) -> Option<i32> {
    known.begin(|_, _| Some(claim));
    for (source, usage) in told {
        known.tell(("a", source), "earth", claim, usage);
    }
    known.percent("earth", claim)
}

/// A pod has the claim mounted that is 95 % full, and its node looks until that is known.
fn look_three_times(known: &mut Measurements, claim: &HomeClaim) {
    for time in ["1", "2", "3"] {
        round(known, claim, &[("1", usage(time, 95, 5))]);
    }
}

#[test]
fn of_a_nodes_answer_the_claims_are_read_and_nothing_else_is_kept() {
    let summary: NodeSummary = serde_json::from_value(json!({
        "node": {"nodeName": "worker", "cpu": {}},
        "pods": [
            {"podRef": {"name": "jupyter-bob", "namespace": "earth", "uid": "1"}, "volume": [
                {"name": "kube-api-access", "usedBytes": 12, "availableBytes": 7},
                {"name": "home", "pvcRef": {"name": "claim-bob", "namespace": "earth"},
                 "time": "2026-01-01T00:00:00Z", "usedBytes": 90, "availableBytes": 10, "capacityBytes": 105},
            ]},
            {"podRef": {"name": "without", "namespace": "earth", "uid": "2"}},
        ],
    }))
    .unwrap();
    assert_eq!(summary.pods.len(), 1);
    assert_eq!(summary.pods[0].volume.len(), 1);
    let claims: Vec<_> = summary.claims().collect();
    let [(pod, namespace, claim, usage)] = &*claims else {
        panic!("{claims:?}");
    };
    assert_eq!((*pod, *namespace, *claim), ("1", "earth", "claim-bob"));
    assert_eq!(usage.percent(), Some(90), "as df has it: not of 105");
    let nothing: NodeSummary = serde_json::from_value(json!({})).unwrap();
    assert_eq!(nothing.claims().count(), 0);
}

#[test]
fn of_a_node_that_tells_without_end_so_much_is_kept_and_no_more() {
    let volume = json!({"pvcRef": {"name": "c", "namespace": "earth"}});
    let pod = json!({"podRef": {"uid": "1"}, "volume": vec![volume; 2 * CLAIMS]});
    let summary = json!({"pods": vec![pod; 2 * PODS]});
    let summary: NodeSummary = serde_json::from_value(summary).unwrap();
    assert_eq!(summary.claims().count(), PODS * CLAIMS);
}

#[test]
fn of_a_node_that_tells_much_of_little_nothing_is_kept() {
    let long = "x".repeat(TEXT + 1);
    let volume = |time: &str| json!({"pvcRef": {"name": "c", "namespace": "earth"}, "time": time});
    let summary: NodeSummary = serde_json::from_value(json!({"pods": [
        {"podRef": {"uid": long}, "volume": [volume("1")]},
        {"podRef": {"uid": "1"}, "volume": [volume(&long)]},
    ]}))
    .unwrap();
    assert_eq!(summary, NodeSummary::default());
}

#[test]
fn a_home_is_as_full_as_that_of_which_there_is_less_left() {
    let inodes = |used, free, all| VolumeUsage {
        inodes_used: used,
        inodes_free: free,
        inodes: all,
        ..usage("", 10, 90)
    };
    for (usage, percent, why) in [
        (usage("", 10, 90), Some(10), "bytes"),
        (usage("", 100, 0), Some(100), "none left"),
        (inodes(931, 69, 1000), Some(94), "inodes"),
        (inodes(0, 0, 0), Some(10), "a file system that counts none"),
        (inodes(1000, 0, 0), Some(10), "nor says of how many"),
        (
            inodes(1_357_157, 0, 1_357_156),
            Some(10),
            "more than there are (older ceph-csi)",
        ),
        (
            inodes(1_357_156, u64::MAX, 1_357_156),
            Some(10),
            "-1 of them free",
        ),
        (inodes(1000, 500, 1000), Some(10), "full, and free"),
        (
            inodes(u64::MAX, u64::MAX, u64::MAX),
            Some(10),
            "-1 of all of them",
        ),
        (inodes(u64::MAX, 0, u64::MAX), Some(10), "-1 of some"),
        (
            VolumeUsage {
                capacity_bytes: 10_000,
                ..usage("", 9_489, 0)
            },
            Some(100),
            "ext4, whose rest is root's",
        ),
        (
            VolumeUsage {
                available_bytes: 0,
                ..usage("", 10, 90)
            },
            None,
            "nothing told of what is left",
        ),
        (
            VolumeUsage {
                available_bytes: u64::MAX,
                ..usage("", 10, 90)
            },
            None,
            "-1",
        ),
        (VolumeUsage::default(), None, "nothing told"),
    ] {
        assert_eq!(usage.percent(), percent, "{why}");
    }
}

#[test]
fn figures_count_from_the_third_look_since_the_volume_has_its_size() {
    let mut known = Measurements::default();
    let (small, large) = (claim("1", "100"), claim("1", "200"));
    let mut tell = |claim: &HomeClaim, time: &str, used, of: u64| {
        round(&mut known, claim, &[("1", usage(time, used, of - used))])
    };
    assert_eq!(
        tell(&small, "1", 95, 100),
        None,
        "from before the start, maybe"
    );
    assert_eq!(tell(&small, "1", 95, 100), None, "the same look");
    assert_eq!(tell(&small, "2", 95, 100), None, "begun before, maybe");
    assert_eq!(tell(&small, "3", 95, 100), Some(95));
    assert_eq!(tell(&small, "4", 96, 100), Some(96));
    assert_eq!(tell(&large, "4", 96, 100), None, "of the smaller volume");
    assert_eq!(tell(&large, "5", 96, 200), None);
    assert_eq!(tell(&large, "6", 96, 200), Some(48));
}

#[test]
fn nothing_is_known_of_a_volume_that_grows_during_a_round_or_between_two() {
    let mut known = Measurements::default();
    let (small, large) = (claim("1", "100"), claim("1", "200"));
    look_three_times(&mut known, &small);
    assert_eq!(known.percent("earth", &small), Some(95));
    assert_eq!(known.percent("earth", &large), None);
    known.begin(|_, _| Some(&small));
    assert!(!known.tell(("a", "1"), "earth", &large, &usage("4", 95, 5)));
    assert_eq!(known.percent("earth", &large), None);
}

#[test]
fn a_file_system_that_did_not_grow_with_its_volume_is_not_the_volumes_own() {
    let mut known = Measurements::default();
    let (small, large) = (claim("1", "100"), claim("1", "110"));
    look_three_times(&mut known, &small);
    for time in ["4", "5", "6", "7"] {
        assert_eq!(
            round(&mut known, &large, &[("1", usage(time, 95, 5))]),
            None
        );
    }
    // Nor with another server, and then it is.
    for time in ["1", "2", "3", "4", "5"] {
        let told = [("2", usage(time, 95, 5))];
        assert_eq!(round(&mut known, &large, &told), None);
    }
    assert_eq!(
        round(&mut known, &large, &[("2", usage("8", 95, 10))]),
        Some(91)
    );
}

#[test]
fn another_claim_of_the_same_name_has_figures_of_its_own() {
    let mut known = Measurements::default();
    let (full, new) = (claim("1", "100"), claim("2", "100"));
    look_three_times(&mut known, &full);
    assert_eq!(known.percent("earth", &new), None);
    assert_eq!(round(&mut known, &new, &[("2", usage("4", 1, 99))]), None);
}

#[test]
fn of_two_pods_one_is_heard_and_the_other_once_that_tells_nothing_more() {
    let mut known = Measurements::default();
    let claim = claim("1", "100");
    let mut tell = |told: &[(&str, u64)], time: &str| {
        let told: Vec<_> = told
            .iter()
            .map(|(pod, used)| (*pod, usage(&format!("{pod} at {time}"), *used, 100 - used)))
            .collect();
        round(&mut known, &claim, &told)
    };
    assert_eq!(tell(&[("1", 10), ("2", 99)], "1"), None);
    assert_eq!(
        tell(&[("2", 99), ("1", 10)], "1"),
        None,
        "nobody has looked"
    );
    assert_eq!(tell(&[("2", 99), ("1", 10)], "2"), None);
    assert_eq!(tell(&[("2", 99), ("1", 10)], "3"), Some(10));
    assert_eq!(tell(&[("2", 99)], "4"), Some(10));
    for time in ["5", "6"] {
        assert_eq!(tell(&[("2", 99)], time), None, "looks of another");
    }
    assert_eq!(tell(&[("2", 99)], "7"), Some(99));
}

#[test]
fn figures_of_a_whole_disk_are_none_of_a_home() {
    for (used, available) in [(950, 50), (39, 1)] {
        let mut known = Measurements::default();
        let claim = claim("1", "100");
        for time in ["1", "2", "3"] {
            let told = [("1", usage(time, used, available))];
            assert_eq!(round(&mut known, &claim, &told), None);
        }
        assert_eq!(known.claims().count(), 0);
    }
}

#[test]
fn a_home_that_no_node_tells_of_any_more_is_forgotten_and_some_answers_may_be_missing() {
    let mut known = Measurements::default();
    let claim = claim("1", "100");
    look_three_times(&mut known, &claim);
    for _ in 0..UNSEEN {
        assert_eq!(round(&mut known, &claim, &[]), Some(95));
    }
    assert_eq!(round(&mut known, &claim, &[]), None);
    assert!(known.0.is_empty());
}

#[test]
fn whoever_asks_is_told_when_there_is_something_new() {
    let mut known = Measurements::default();
    let claim = claim("1", "100");
    for (time, used, is_new) in [
        ("1", 50, false),
        ("2", 50, false),
        ("3", 50, true),
        ("4", 50, false),
        ("5", 51, true),
    ] {
        known.begin(|_, _| Some(&claim));
        let told = usage(time, used, 100 - used);
        assert_eq!(
            known.tell(("a", "1"), "earth", &claim, &told),
            is_new,
            "{time}"
        );
    }
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
    fn whatever_a_node_says_a_home_is_not_fuller_than_full(
        used: u64, available: u64, capacity: u64, inodes_used: u64, inodes_free: u64, inodes: u64,
    ) {
        let usage = VolumeUsage {
            used_bytes: used, available_bytes: available, capacity_bytes: capacity,
            inodes_used, inodes_free, inodes, ..VolumeUsage::default()
        };
        prop_assert!(usage.percent().is_none_or(|percent| (0..=100).contains(&percent)));
    }
}
