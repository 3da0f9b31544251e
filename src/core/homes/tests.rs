use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::{Value, json};

use super::*;
use crate::api::HubStorage;

const UID: &str = "1-2-3";

fn home(fields: Value) -> Home {
    let mut home = json!({"type": "Claim", "size": "10Gi", "maxSize": "50Gi"});
    json_patch::merge(&mut home, &fields);
    serde_json::from_value(home).unwrap()
}

fn size(text: &str) -> StorageSize {
    text.parse().unwrap()
}

fn own(username: &str, own: &str) -> HomeOverride {
    HomeOverride {
        username: username.to_owned(),
        size: Some(size(own)),
        max_size: None,
    }
}

/// A bound claim of bob's, as KubeSpawner 7 makes them.
fn claim(name: &str, fields: Value) -> HomeClaim {
    let mut claim = json!({
        "metadata": {
            "name": name, "namespace": "earth", "uid": UID,
            "annotations": {"hub.jupyter.org/username": "bob"},
            "labels": {"component": "singleuser-storage"},
        },
        "spec": {
            "storageClassName": "growing", "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "10Gi"}},
        },
        "status": {"phase": "Bound", "capacity": {"storage": "10Gi"}},
    });
    json_patch::merge(&mut claim, &fields);
    let claim: PersistentVolumeClaim = serde_json::from_value(claim).unwrap();
    HomeClaim::of(&claim).unwrap()
}

fn sized(name: &str, requested: &str, capacity: &str) -> HomeClaim {
    let requests = json!({"requests": {"storage": requested}});
    let status = json!({"capacity": {"storage": capacity}});
    claim(
        name,
        json!({"spec": {"resources": requests}, "status": status}),
    )
}

fn planned(home: &Home, overrides: &[HomeOverride], claims: &[HomeClaim]) -> HomesPlan {
    let expansion = [
        ("growing".to_owned(), Expansion::Allowed),
        ("fixed".to_owned(), Expansion::Forbidden),
        ("gone".to_owned(), Expansion::NoClass),
    ];
    let claims: Vec<SeenHome<'_>> = claims.iter().map(unmeasured).collect();
    plan(home, 7, overrides.to_vec(), &claims, &expansion.into())
}

fn unmeasured(claim: &HomeClaim) -> SeenHome<'_> {
    SeenHome {
        claim,
        measured: None,
        told: None,
    }
}

fn status(plan: &HomesPlan) -> HomesStatus {
    plan.status(0, &[])
}

fn found(plan: &HomesPlan) -> Vec<(String, String)> {
    let findings = status(plan).findings.into_iter();
    findings
        .map(|finding| (finding.claim, finding.reason))
        .collect()
}

fn is_found(plan: &HomesPlan, expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(claim, reason)| ((*claim).to_owned(), (*reason).to_owned()))
        .collect();
    assert_eq!(found(plan), expected);
}

#[test]
fn a_new_claim_is_given_what_every_home_has_and_no_more_than_it_may() {
    let home = home(json!({}));
    let given = |asked: &str| {
        let limits = Limits::of(&home, &[], "bob");
        limits.instead(&size(asked)).map(ToString::to_string)
    };
    assert_eq!(given("1Gi").as_deref(), Some("10Gi"));
    assert_eq!(given("10Gi"), None);
    assert_eq!(given("10240Mi"), None, "the same in other words");
    assert_eq!(given("50Gi"), None);
    assert_eq!(given("51Gi").as_deref(), Some("50Gi"));
}

#[test]
fn without_a_maximum_every_home_has_the_same() {
    let home = home(json!({"maxSize": null}));
    let limits = Limits::of(&home, &[], "bob");
    assert_eq!(limits.instead(&size("11Gi")), Some(&size("10Gi")));
}

#[test]
fn where_too_much_is_refused_nothing_is_given_instead() {
    let home = home(json!({"onOversize": "Deny"}));
    let limits = Limits::of(&home, &[], "bob");
    assert_eq!(limits.instead(&size("51Gi")), None);
    assert_eq!(limits.instead(&size("1Gi")), Some(&size("10Gi")));
}

#[test]
fn a_users_own_size_goes_before_the_hubs_also_beyond_the_maximum() {
    let home = home(json!({}));
    let overrides = [own("bob", "80Gi"), own("eve", "5Gi")];
    let given = |username, asked: &str| {
        let limits = Limits::of(&home, &overrides, username);
        limits.instead(&size(asked)).map(ToString::to_string)
    };
    assert_eq!(given("bob", "10Gi").as_deref(), Some("80Gi"));
    assert_eq!(given("bob", "90Gi").as_deref(), Some("80Gi"));
    assert_eq!(given("eve", "5Gi"), None);
    assert_eq!(given("eve", "60Gi").as_deref(), Some("50Gi"));
    assert_eq!(given("bobby", "10Gi"), None);
}

#[test]
fn a_user_may_have_more_without_being_given_it() {
    let home = home(json!({}));
    let allowed = HomeOverride {
        size: None,
        max_size: Some(size("80Gi")),
        ..own("bob", "1Gi")
    };
    let plan = planned(
        &home,
        std::slice::from_ref(&allowed),
        &[sized("home", "70Gi", "70Gi")],
    );
    assert_eq!(plan.growths, []);
    is_found(&plan, &[]);
    let overrides = [allowed];
    let limits = Limits::of(&home, &overrides, "bob");
    assert_eq!(limits.instead(&size("5Gi")), Some(&size("10Gi")));
    assert_eq!(limits.instead(&size("90Gi")), Some(&size("80Gi")));
}

#[test]
fn users_beyond_what_status_can_hold_are_counted_and_have_what_the_others_have() {
    let overrides: Vec<HomeOverride> = (0..=OVERRIDES)
        .map(|number| own(&format!("user-{number:04}"), "20Gi"))
        .collect();
    let mut last = sized("home", "10Gi", "10Gi");
    last.username = overrides[OVERRIDES].username.as_str().into();
    let plan = planned(&home(json!({})), &overrides, &[last]);
    assert_eq!(plan.growths, []);
    let HomesStatus {
        overrides,
        overrides_left_out,
        ..
    } = status(&plan);
    assert_eq!((overrides.len(), overrides_left_out), (OVERRIDES, 1));
}

#[test]
fn of_several_hubusers_of_one_user_the_largest_size_counts() {
    let user = |name: &str, username: &str, home: Value| -> HubUser {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"hubRef": {"name": "earth"}, "username": username, "home": home},
        }))
        .unwrap()
    };
    let users = [
        user("a", "bob", json!({"size": "20Gi"})),
        user("b", "bob", json!({"size": "30Gi"})),
        user("c", "bob", json!({"maxSize": "100Gi"})),
        user("d", "eve", Value::Null),
    ];
    let both = HomeOverride {
        max_size: Some(size("100Gi")),
        ..own("bob", "30Gi")
    };
    assert_eq!(overrides(&users), [both]);
}

#[test]
fn what_is_too_small_grows_and_nothing_shrinks() {
    let claims = [
        sized("small", "5Gi", "5Gi"),
        sized("right", "10Gi", "10Gi"),
        sized("large", "60Gi", "60Gi"),
    ];
    let claims = claims.map(|mut claim| {
        claim.username = claim.name.clone();
        claim
    });
    let plan = planned(&home(json!({})), &[own("right", "20Gi")], &claims);
    let growths: Vec<_> = plan
        .growths
        .iter()
        .map(|growth| (growth.claim.as_str(), growth.to.to_string()))
        .collect();
    assert_eq!(
        growths,
        [("small", "10Gi".to_owned()), ("right", "20Gi".to_owned())]
    );
    is_found(&plan, &[("large", "ClaimTooLarge")]);
    assert_eq!(status(&plan).claims, 3);
    assert_eq!(plan.status(2, &[]).growing, 2, "once they were asked");
}

#[test]
fn what_cannot_grow_is_told_with_why() {
    let class = |class: Value| {
        let requests = json!({"requests": {"storage": "5Gi"}});
        claim(
            "home",
            json!({"spec": {"storageClassName": class, "resources": requests}}),
        )
    };
    for (of, words) in [
        (json!("fixed"), "allowVolumeExpansion: true"),
        (json!("gone"), "StorageClass gone does not exist"),
        (Value::Null, "no StorageClass"),
        (json!(""), "no StorageClass"),
    ] {
        let plan = planned(&home(json!({})), &[], &[class(of)]);
        assert_eq!(plan.growths, []);
        is_found(&plan, &[("home", "ClaimNotExpandable")]);
        let message = &status(&plan).findings[0].message;
        assert!(message.contains(words), "{message}");
        assert!(message.contains("5Gi instead of 10Gi"), "{message}");
    }
}

#[test]
fn a_claim_without_a_volume_or_that_is_being_deleted_is_left_alone() {
    let unbound = claim(
        "unbound",
        json!({"spec": {"resources": {"requests": {"storage": "1Gi"}}}, "status": {"phase": "Pending", "capacity": null}}),
    );
    let deleting = claim(
        "deleting",
        json!({
            "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"resources": {"requests": {"storage": "1Gi"}}},
        }),
    );
    let plan = planned(&home(json!({})), &[], &[unbound, deleting]);
    assert_eq!(plan.growths, []);
    is_found(&plan, &[]);
}

#[test]
fn growth_is_told_as_far_as_it_is() {
    let condition = |type_: &str, message: &str| json!({"status": {"conditions": [{"type": type_, "status": "True", "message": message}]}});
    let grows = |fields: Value| {
        let mut claim = json!({"spec": {"resources": {"requests": {"storage": "20Gi"}}}});
        json_patch::merge(&mut claim, &fields);
        let claim = self::claim("home", claim);
        planned(&home(json!({})), &[], &[claim])
    };
    for started in [json!({}), condition("Resizing", "")] {
        let plan = grows(started);
        assert_eq!(
            (status(&plan).growing, status(&plan).awaiting_server),
            (1, 0)
        );
    }
    let waits = grows(condition("FileSystemResizePending", "waits for a pod"));
    assert_eq!(
        (status(&waits).growing, status(&waits).awaiting_server),
        (0, 1)
    );
    for failed in [
        condition("ControllerResizeError", "the pool is full"),
        condition("NodeResizeError", "the pool is full"),
        json!({"status": {"allocatedResourceStatuses": {"storage": "ControllerResizeInfeasible"}}}),
    ] {
        let plan = grows(failed);
        is_found(&plan, &[("home", "ClaimGrowthFailed")]);
        assert_eq!(status(&plan).growing, 0);
    }
}

#[test]
fn progress_is_told_in_steps() {
    let steps = [0, 1, 10, 11, 99, 101, 450].map(in_steps);
    assert_eq!(steps, [0, 1, 10, 20, 100, 200, 500]);
}

#[test]
fn two_claims_of_one_user_for_one_server_are_told_and_named_servers_are_none() {
    let of = |name: &str, username: &str, server: Option<&str>| {
        let annotations =
            json!({"hub.jupyter.org/username": username, "hub.jupyter.org/servername": server});
        claim(name, json!({"metadata": {"annotations": annotations}}))
    };
    let claims = [
        // By KubeSpawner 6 and by KubeSpawner 7.
        of("claim-has-2dhyphen", "has-hyphen", None),
        of("claim-has-hyphen", "has-hyphen", None),
        of("claim-has-hyphen--gpu", "has-hyphen", Some("gpu")),
        of("claim-bob", "bob", None),
    ];
    let plan = planned(&home(json!({})), &[], &claims);
    is_found(&plan, &[("claim-has-2dhyphen", "ClaimDuplicate")]);
    let message = &status(&plan).findings[0].message;
    assert!(message.contains("user has-hyphen"), "{message}");
    assert!(message.contains("claim-has-hyphen"), "{message}");
    assert_eq!(plan.growths, []);
}

#[test]
fn a_claim_that_names_nobody_is_no_home() {
    let claim: PersistentVolumeClaim = serde_json::from_value(json!({
        "metadata": {"name": "data", "labels": {"component": "singleuser-storage"}},
        "spec": {"resources": {"requests": {"storage": "1Ti"}}},
    }))
    .unwrap();
    assert_eq!(HomeClaim::of(&claim), None);
    let claim = sent(json!({"metadata": {"labels": null}}));
    assert_eq!(HomeClaim::of(&claim), None);
}

/// A claim of bob's that is just being created.
fn sent(fields: Value) -> PersistentVolumeClaim {
    let mut claim = json!({
        "metadata": {
            "name": "claim-bob",
            "annotations": {"hub.jupyter.org/username": "bob"},
            "labels": {"component": "singleuser-storage"},
        },
        "spec": {"resources": {"requests": {"storage": "500Gi"}}},
    });
    json_patch::merge(&mut claim, &fields);
    serde_json::from_value(claim).unwrap()
}

fn hub(fields: Value) -> HubStorage {
    let mut hub = json!({
        "metadata": {"name": "earth"},
        "spec": {
            "providerRef": {"name": "minio"}, "buckets": [{"name": "scratch"}],
            "home": {"type": "Claim", "size": "10Gi", "maxSize": "50Gi"},
        },
    });
    json_patch::merge(&mut hub, &fields);
    serde_json::from_value(hub).unwrap()
}

#[test]
fn a_new_claim_that_asks_for_too_much_is_given_what_it_may_have() {
    let admission = HomeAdmission::of(&hub(json!({}))).unwrap();
    let mut claim = sent(json!({"spec": {"accessModes": ["ReadWriteMany"]}}));
    let resized = admission.admit(&claim).unwrap();
    let mut patched = json!(claim);
    let patch: json_patch::Patch = serde_json::from_value(resized.patch()).unwrap();
    json_patch::patch(&mut patched, &patch).unwrap();
    let resources = json!({"requests": {"storage": "50Gi"}});
    assert_eq!(patched["spec"]["resources"], resources);
    assert_eq!(patched["spec"]["accessModes"], json!(["ReadWriteMany"]));
    claim = serde_json::from_value(patched).unwrap();
    assert_eq!(admission.admit(&claim), None, "once");
}

#[test]
fn a_claim_for_a_volume_that_somebody_made_keeps_the_size_that_finds_it() {
    let admission = HomeAdmission::of(&hub(json!({}))).unwrap();
    let copy = json!({"kind": "VolumeSnapshot", "name": "bob"});
    for fields in [
        json!({"volumeName": "pv-of-bob"}),
        json!({"storageClassName": ""}),
        json!({"dataSource": copy}),
        json!({"dataSourceRef": copy}),
    ] {
        assert_eq!(admission.admit(&sent(json!({"spec": fields}))), None);
    }
}

#[test]
fn the_size_of_a_user_in_status_counts_at_admission() {
    let overrides = json!([{"username": "bob", "size": "600Gi"}]);
    let known = json!({"status": {"homes": {"claims": 0, "overrides": overrides}}});
    let admission = HomeAdmission::of(&hub(known)).unwrap();
    let resized = admission.admit(&sent(json!({}))).unwrap();
    assert_eq!(resized.to, size("600Gi"));
}

#[test]
fn a_hub_that_is_observed_or_goes_away_or_declares_no_homes_changes_no_claim() {
    for fields in [
        json!({"spec": {"mode": "Observe"}}),
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        json!({"spec": {"home": null}}),
    ] {
        assert_eq!(HomeAdmission::of(&hub(fields)), None);
    }
    let paused = hub(json!({"spec": {"mode": "Paused"}}));
    assert!(HomeAdmission::of(&paused).is_some(), "as before");
}

/// Homes of as many users.
fn a_hundred_too_large() -> impl Iterator<Item = HomeClaim> {
    (0..100).map(|number| {
        let mut claim = sized(&format!("claim-{number:03}"), "60Gi", "60Gi");
        claim.username = claim.name.clone();
        claim
    })
}

#[test]
fn findings_are_bounded_as_the_schema_is() {
    let claims: Vec<HomeClaim> = a_hundred_too_large().collect();
    let plan = planned(&home(json!({})), &[], &claims);
    let growth = Growth {
        claim: "claim-zoe".to_owned(),
        uid: "1".to_owned(),
        version: "2".to_owned(),
        from: size("5Gi"),
        to: size("10Gi"),
        full: None,
    };
    let refused = of_growth(&growth, Reason::ClaimGrowthFailed, &"quota ".repeat(1000)).unwrap();
    assert!(
        refused.message.len() < 600,
        "the words of others are bounded"
    );
    let status = plan.status(0, &[refused]);
    assert_eq!(status.findings.len(), FINDINGS);
    assert_eq!(status.findings[0].claim, "claim-zoe");
    assert_eq!((status.claims, status.observed_generation), (100, 7));
    let count = |reason: &str, claims| HomeCount {
        reason: reason.to_owned(),
        claims,
    };
    let counts = [count("ClaimGrowthFailed", 1), count("ClaimTooLarge", 100)];
    assert_eq!(status.found, counts, "all of them are counted");
}

#[test]
fn however_many_homes_have_one_trouble_some_of_each_are_named() {
    let claims: Vec<HomeClaim> = a_hundred_too_large()
        .chain([claim("double-1", json!({})), claim("double-2", json!({}))])
        .collect();
    let status = status(&planned(&home(json!({})), &[], &claims));
    assert_eq!(status.findings.len(), FINDINGS);
    let last = status.findings.last().unwrap();
    assert_eq!(
        (last.claim.as_str(), last.reason.as_str()),
        ("double-1", "ClaimDuplicate")
    );
    let large = &status.findings[..FINDINGS - 1];
    assert!(large.is_sorted_by_key(|finding| &finding.claim));
}

mod full;
