//! Homes that are nearly full.

use super::*;

fn told(claim: &str, used_percent: i32, of: &str) -> HomeUsage {
    HomeUsage {
        claim: claim.to_owned(),
        uid: UID.to_owned(),
        used_percent,
        size: size(of),
    }
}

/// Homes that grow by 2Gi when they are 90 % full.
fn growing_home(fields: Value) -> Home {
    let mut home = json!({"growth": {"step": "2Gi"}});
    json_patch::merge(&mut home, &fields);
    self::home(home)
}

/// The plan for one claim that is so full.
fn filled(
    home: &Home,
    claim: &HomeClaim,
    measured: Option<i32>,
    told: Option<&HomeUsage>,
) -> HomesPlan {
    let expansion = [
        ("growing".to_owned(), Expansion::Allowed),
        ("fixed".to_owned(), Expansion::Forbidden),
    ];
    let seen = SeenHome {
        claim,
        measured,
        told,
    };
    plan(home, 7, Vec::new(), &[seen], &expansion.into())
}

/// What claims are to ask for.
fn asked(plan: &HomesPlan) -> Vec<String> {
    plan.growths
        .iter()
        .map(|growth| growth.to.to_string())
        .collect()
}

/// What was found of the one claim of a plan.
fn only_finding(plan: &HomesPlan) -> (String, String) {
    let findings = status(plan).findings;
    let [finding] = &*findings else {
        panic!("{findings:?}");
    };
    (finding.reason.clone(), finding.message.clone())
}

#[test]
fn a_full_home_grows_by_a_step_and_one_that_is_not_so_full_stays() {
    let home = growing_home(json!({}));
    let claim = claim("claim-bob", json!({}));
    for (percent, grows) in [
        (None, false),
        (Some(89), false),
        (Some(90), true),
        (Some(100), true),
    ] {
        let plan = filled(&home, &claim, percent, None);
        let expected: &[&str] = if grows { &["12Gi"] } else { &[] };
        assert_eq!(asked(&plan), expected, "{percent:?}");
        assert_eq!(status(&plan).findings, [], "{percent:?}");
    }
    let growth = &filled(&home, &claim, Some(97), None).growths[0];
    assert_eq!(growth.full, Some(95));
    let refused = of_growth(growth, Reason::ClaimGrowthFailed, "exceeded quota").unwrap();
    assert_eq!(refused.reason, "ClaimFull");
    assert_eq!(
        refused.message,
        "is 95 % full, and has 10Gi instead of 12Gi: exceeded quota"
    );
    let at_80 = growing_home(json!({"growth": {"thresholdPercent": 80}}));
    assert_eq!(asked(&filled(&at_80, &claim, Some(80), None)), ["12Gi"]);
}

#[test]
fn a_full_home_grows_up_to_what_it_may_have_and_is_told_from_there_on() {
    let home = growing_home(json!({"maxSize": "11Gi"}));
    let claim = sized("claim-bob", "10Gi", "10Gi");
    assert_eq!(asked(&filled(&home, &claim, Some(92), None)), ["11Gi"]);
    let claim = sized("claim-bob", "11Gi", "11Gi");
    let plan = filled(&home, &claim, Some(92), None);
    assert_eq!(asked(&plan), [""; 0]);
    let (reason, message) = only_finding(&plan);
    assert_eq!(reason, "ClaimFull");
    assert_eq!(message, "is 90 % full, and has the 11Gi that it may have");
    // One that is larger for another reason.
    let claim = sized("claim-bob", "20Gi", "20Gi");
    assert_eq!(asked(&filled(&home, &claim, Some(92), None)), [""; 0]);
}

#[test]
fn a_volume_that_is_larger_than_its_claim_grows_from_what_it_has() {
    let home = growing_home(json!({}));
    // Drivers round up.
    let rounded = sized("claim-bob", "9500Mi", "15Gi");
    let home_of_nine = growing_home(json!({"size": "9Gi"}));
    assert_eq!(
        asked(&filled(&home_of_nine, &rounded, Some(95), None)),
        ["17Gi"]
    );
    // As it is seen once it asks for that, and has not grown yet.
    let growing = sized("claim-bob", "17Gi", "15Gi");
    assert_eq!(asked(&filled(&home, &growing, Some(95), None)), [""; 0]);
    let most = sized("claim-bob", "10Gi", "50Gi");
    let plan = filled(&home, &most, Some(95), None);
    assert_eq!(asked(&plan), [""; 0]);
    assert_eq!(
        only_finding(&plan).1,
        "is 95 % full, and has the 50Gi that it may have"
    );
}

#[test]
fn below_90_percent_a_growth_that_is_refused_is_nothing_to_be_told() {
    let home = growing_home(json!({"growth": {"thresholdPercent": 80}}));
    let claim = claim("claim-bob", json!({}));
    let growth = &filled(&home, &claim, Some(85), None).growths[0];
    assert_eq!(growth.full, Some(80));
    assert_eq!(of_growth(growth, Reason::Observing, "mode"), None);
}

#[test]
fn a_home_does_not_grow_again_before_it_is_known_how_full_it_is_then() {
    let home = growing_home(json!({}));
    let before = told("claim-bob", 95, "10Gi");
    // It was asked to, and has not yet.
    let growing = sized("claim-bob", "12Gi", "10Gi");
    let plan = filled(&home, &growing, Some(99), Some(&before));
    assert_eq!(asked(&plan), [""; 0]);
    assert_eq!(status(&plan).findings, []);
    // It has, and nobody has looked since.
    let grown = sized("claim-bob", "12Gi", "12Gi");
    let plan = filled(&home, &grown, None, Some(&before));
    assert_eq!(asked(&plan), [""; 0]);
    assert_eq!(
        plan.usage["bob"],
        std::slice::from_ref(&before),
        "of the size that it had"
    );
    // Somebody has.
    let plan = filled(&home, &grown, Some(79), Some(&before));
    assert_eq!(asked(&plan), [""; 0]);
    assert_eq!(plan.usage["bob"], [told("claim-bob", 70, "12Gi")]);
    let plan = filled(&home, &grown, Some(91), Some(&before));
    assert_eq!(asked(&plan), ["14Gi"]);
}

#[test]
fn a_full_home_that_nobody_has_mounted_now_grows_by_what_was_told_of_it() {
    let home = growing_home(json!({}));
    let claim = claim("claim-bob", json!({}));
    let full = told("claim-bob", 100, "10Gi");
    assert_eq!(asked(&filled(&home, &claim, None, Some(&full))), ["12Gi"]);
    // Since then somebody has tidied up.
    assert_eq!(
        asked(&filled(&home, &claim, Some(40), Some(&full))),
        [""; 0]
    );
}

#[test]
fn a_full_home_that_stays_as_it_is_is_told_with_the_reason() {
    let full = |home: &Home, fields: Value| {
        let claim = claim("claim-bob", fields);
        let (reason, message) = only_finding(&filled(home, &claim, Some(96), None));
        assert_eq!(reason, "ClaimFull");
        message
    };
    let without = home(json!({}));
    assert_eq!(
        full(&without, json!({})),
        "is 95 % full, and spec.home.growth is not set, by which it would grow"
    );
    let fixed = json!({"spec": {"storageClassName": "fixed"}});
    let message = full(&growing_home(json!({})), fixed);
    assert!(
        message.contains("has 10Gi instead of 12Gi: StorageClass fixed has no"),
        "{message}"
    );
}

#[test]
fn a_full_home_that_could_not_be_made_larger_is_neither_as_declared_nor_has_it_room() {
    let failed = json!({"status": {"conditions": [
        {"type": "ControllerResizeError", "status": "True", "message": "no space on the array"},
    ], "capacity": {"storage": "9Gi"}}});
    let claim = claim("claim-bob", failed);
    let plan = filled(&growing_home(json!({})), &claim, Some(96), None);
    is_found(
        &plan,
        &[
            ("claim-bob", "ClaimGrowthFailed"),
            ("claim-bob", "ClaimFull"),
        ],
    );
    let why = "does not grow to 10Gi: no space on the array";
    let [failed, full] = &*status(&plan).findings else {
        panic!("two were found");
    };
    assert_eq!(full.message, format!("is 95 % full, and {why}"));
    assert_eq!(failed.message, why);
}

#[test]
fn a_home_that_is_less_full_than_it_is_to_be_when_it_grows_is_as_declared() {
    let later = growing_home(json!({"growth": {"thresholdPercent": 95}}));
    let claim = claim("claim-bob", json!({}));
    for (measured, before) in [
        (Some(93), None),
        (Some(88), Some(told("claim-bob", 90, "10Gi"))),
    ] {
        let plan = filled(&later, &claim, measured, before.as_ref());
        assert_eq!(asked(&plan), [""; 0]);
        assert_eq!(status(&plan).findings, []);
    }
}

#[test]
fn what_was_told_of_another_claim_of_that_name_says_nothing() {
    let home = growing_home(json!({}));
    let other = HomeUsage {
        uid: "another".to_owned(),
        ..told("claim-bob", 100, "10Gi")
    };
    let claim = claim("claim-bob", json!({}));
    let plan = filled(&home, &claim, None, Some(&other));
    assert_eq!(asked(&plan), [""; 0]);
    assert_eq!(plan.usage["bob"], []);
}

#[test]
fn of_each_user_the_fullest_home_is_told_first() {
    let usage = [told("a", 40, "10Gi"), told("b", 80, "10Gi")];
    let claims = ["a", "b", "c"].map(|name| claim(name, json!({})));
    let seen: Vec<SeenHome<'_>> = claims
        .iter()
        .enumerate()
        .map(|(number, claim)| SeenHome {
            told: usage.get(number),
            ..unmeasured(claim)
        })
        .collect();
    let plan = plan(&home(json!({})), 7, Vec::new(), &seen, &BTreeMap::new());
    let [a, b] = usage;
    assert_eq!(plan.usage, [("bob".to_owned(), vec![b, a])].into());
}

#[test]
fn a_class_is_looked_at_where_a_home_is_to_grow() {
    let home = growing_home(json!({}));
    let claim = claim("claim-bob", json!({}));
    let full = SeenHome {
        measured: Some(95),
        ..unmeasured(&claim)
    };
    assert_eq!(classes(&home, &[], &[full]), ["growing"].into());
    assert_eq!(classes(&home, &[], &[unmeasured(&claim)]), [].into());
}
