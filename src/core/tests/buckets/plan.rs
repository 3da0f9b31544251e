//! The plan, case by case: what is done about a bucket, why, and in which words.

use std::collections::BTreeSet;

use hubstorage_core::api::Reason;
use hubstorage_core::api::{
    Adoption, Capability, InsecureTransport, Management, ObjectOwnership, Origin, PublicAccess,
};
use hubstorage_core::lifecycle::{Difference, Effect, Rule, RuleBody, expiring};
use hubstorage_core::names::BucketName;
use hubstorage_core::plan::{
    Action, BucketPlan, Cause, Declared, Deed, Found, Intent, Observed, Owner, Refusal, Remembered,
    Sighting, TagCause, plan_bucket,
};
use hubstorage_core::settings::{DeclaredSettings, Setting, Wanted};
use hubstorage_core::supports::Supports;
use jiff::Timestamp;

use crate::strategies::days;

const FIRST_TIME: Remembered = Remembered {
    intent: None,
    existed: false,
    settled: false,
    origin: None,
    created: None,
};
const SETTLED: Remembered = Remembered {
    existed: true,
    settled: true,
    ..FIRST_TIME
};
const WITHOUT_ABORT: Supports = Supports::ALL.without(Capability::AbortIncompleteUploads);
/// No bucket.
fn missing() -> Observed {
    Observed {
        sighting: Sighting::Missing,
        found: Found::default(),
    }
}

/// The second at which the intents of these tests were written.
const INTENT_AT: i64 = 1_800_000_000;

fn owner() -> Owner {
    Owner {
        installation: "0b7a9c1e".into(),
        namespace: "earth".into(),
        name: "hub".into(),
    }
}

fn bucket() -> BucketName {
    BucketName::parse("earth-scratch").unwrap()
}

/// The bucket `scratch`, whose data expires after a week.
fn declared() -> Declared {
    Declared {
        name: "scratch".into(),
        bucket: bucket(),
        management: Management::Full,
        adoption: Adoption::IfOwned,
        lifecycle: expiring(days(7)),
        settings: settings(),
    }
}

/// A spec that says that nothing but tags and rules is the operator's.
fn settings() -> DeclaredSettings {
    DeclaredSettings {
        public_access: Some(PublicAccess::Unmanaged),
        insecure_transport: Some(InsecureTransport::Unmanaged),
        object_ownership: Some(ObjectOwnership::Unmanaged),
        ..DeclaredSettings::default()
    }
}

/// The same without a word about lifecycle.
fn unmanaged() -> Declared {
    Declared {
        lifecycle: vec![],
        ..declared()
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn intending() -> Remembered {
    let intent = Intent {
        nonce: "c0ffee".into(),
        time: at(INTENT_AT),
    };
    Remembered {
        intent: Some(intent),
        ..FIRST_TIME
    }
}

/// An empty bucket without tags that was made when the intent had just been written.
fn just_made() -> Observed {
    untagged(INTENT_AT + 1, true)
}

/// A bucket without tags.
fn untagged(created: i64, empty: bool) -> Observed {
    Observed {
        sighting: Sighting::Untagged {
            created: at(created),
            empty,
        },
        found: Found::default(),
    }
}

/// A bucket that bears the tag of others, or that our keys do not reach.
fn others(owner: Option<&str>) -> Observed {
    Observed {
        sighting: Sighting::OthersOwn {
            owner: owner.map(str::to_owned),
        },
        found: Found::default(),
    }
}

/// A bucket that we made, with these rules.
fn made_with(rules: Vec<Rule<()>>) -> Observed {
    Observed {
        sighting: Sighting::Ours {
            nonce: Some("c0ffee".into()),
        },
        found: Found {
            rules,
            ..Found::default()
        },
    }
}

fn tag() -> Action {
    Action::Tag {
        bucket: bucket(),
        origin: Origin::Created,
        cause: TagCause::Created,
    }
}

fn rules(effects: &[Effect]) -> Vec<Rule<()>> {
    effects
        .iter()
        .map(|effect| Rule {
            id: effect.rule_id(),
            body: RuleBody::Known(*effect),
        })
        .collect()
}

fn ours(effects: &[Effect]) -> Observed {
    made_with(rules(effects))
}

fn plan(declared: &Declared, observed: &Observed, remembered: &Remembered) -> BucketPlan {
    plan_bucket(declared, observed, remembered, &owner(), Supports::ALL)
}

/// Writing the full set for a week where `missing` was not there.
fn set_week(missing: &[Effect], cause: Cause) -> Action {
    let found = Difference {
        missing: missing.to_vec(),
        changed: vec![],
    };
    Action::SetLifecycle {
        bucket: bucket(),
        effects: expiring(days(7)),
        found,
        cause,
    }
}

fn refusal_of(plan: BucketPlan) -> Refusal {
    assert_eq!(plan.actions, [], "a refused bucket is left as it is");
    assert_eq!(plan.in_force, [], "nothing is in force on a refused bucket");
    plan.refusal.expect("a refusal")
}

#[test]
fn a_missing_bucket_is_created_and_then_given_its_rules() {
    let plan = plan(&declared(), &missing(), &FIRST_TIME);
    assert_eq!(
        plan,
        BucketPlan {
            name: "scratch".into(),
            bucket: bucket(),
            actions: vec![
                Action::Create {
                    bucket: bucket(),
                    cause: Cause::Declared
                },
                set_week(&expiring(days(7)), Cause::Declared),
            ],
            refusal: None,
            origin: Some(Origin::Created),
            in_force: expiring(days(7)),
            omitted: vec![],
            settings: Wanted {
                apply: vec![Setting::Statements(BTreeSet::new())],
                omitted: vec![],
            },
            grants: vec![],
            digest: declared().digest(),
        }
    );
}

#[test]
fn a_bucket_that_is_ours_and_right_is_left_alone() {
    for remembered in [FIRST_TIME, SETTLED, intending()] {
        let plan = plan(&declared(), &ours(&expiring(days(7))), &remembered);
        assert_eq!((plan.actions, plan.refusal), (vec![], None));
    }
}

#[test]
fn a_rule_that_is_absent_before_the_spec_was_ever_applied_is_no_drift() {
    let effects = expiring(days(7));
    let plan = plan(&declared(), &ours(&effects[1..]), &FIRST_TIME);
    assert_eq!(plan.actions, [set_week(&effects[..1], Cause::Declared)]);
}

#[test]
fn a_rule_that_is_absent_after_the_spec_was_applied_is_drift() {
    let effects = expiring(days(7));
    let plan = plan(&declared(), &ours(&effects[1..]), &SETTLED);
    assert_eq!(plan.actions, [set_week(&effects[..1], Cause::Drift)]);
}

#[test]
fn a_bucket_that_vanished_after_the_spec_was_applied_is_drift() {
    let plan = plan(&unmanaged(), &missing(), &SETTLED);
    assert_eq!(
        plan.actions,
        [Action::Create {
            bucket: bucket(),
            cause: Cause::Drift
        }]
    );
}

#[test]
fn an_empty_untagged_bucket_that_is_younger_than_our_intent_is_tagged_and_given_its_rules() {
    let plan = plan(&declared(), &just_made(), &intending());
    assert_eq!(
        plan.actions,
        [tag(), set_week(&expiring(days(7)), Cause::Declared)]
    );
}

#[test]
fn a_bucket_made_in_the_second_of_the_intent_is_ours_although_stores_round_down() {
    let time = at(INTENT_AT) + jiff::SignedDuration::from_millis(900);
    let intent = Some(Intent {
        nonce: "c0ffee".into(),
        time,
    });
    let made = untagged(INTENT_AT, true);
    let plan = plan(
        &unmanaged(),
        &made,
        &Remembered {
            intent,
            ..FIRST_TIME
        },
    );
    assert_eq!(plan.actions, [tag()]);
}

#[test]
fn an_untagged_bucket_is_not_ours_without_an_intent() {
    let refusal = refusal_of(plan(&declared(), &just_made(), &FIRST_TIME));
    assert_eq!(refusal.reason, Reason::BucketOwnedByOthers);
}

#[test]
fn an_untagged_bucket_is_not_ours_when_it_holds_anything() {
    let used = untagged(INTENT_AT + 1, false);
    let refusal = refusal_of(plan(&declared(), &used, &intending()));
    assert_eq!(refusal.reason, Reason::BucketOwnedByOthers);
}

#[test]
fn an_untagged_bucket_is_not_ours_when_the_intent_was_followed_up_and_forgotten() {
    // The spec was applied once, then somebody took the tag away: that is no proof that the
    // bucket is still the one we made.
    let refusal = refusal_of(plan(&declared(), &just_made(), &SETTLED));
    assert_eq!(refusal.reason, Reason::BucketOwnedByOthers);
}

#[test]
fn an_intent_gives_no_right_to_a_bucket_that_bears_the_tag_of_others() {
    let theirs = others(Some("0b7a9c1e/mars/hub"));
    let refusal = refusal_of(plan(&declared(), &theirs, &intending()));
    assert_eq!(refusal.reason, Reason::BucketOwnedByOthers);
}

#[test]
fn the_refusal_of_others_bucket_names_the_owner_the_field_the_bucket_and_the_way_out() {
    let theirs = others(Some("0b7a9c1e/mars/hub"));
    assert_eq!(
        refusal_of(plan(&declared(), &theirs, &FIRST_TIME)).message,
        "spec.buckets[scratch]: bucket earth-scratch exists and it belongs to 0b7a9c1e/mars/hub (tag hubstorage.io/owner); \
         it is left as it is. Choose another bucketName, or, if the bucket is yours to give, set its tag \
         hubstorage.io/owner to 0b7a9c1e/earth/hub"
    );
}

#[test]
fn the_refusal_of_a_bucket_without_a_tag_names_the_tag_to_set() {
    assert_eq!(
        refusal_of(plan(&declared(), &just_made(), &FIRST_TIME)).message,
        "spec.buckets[scratch]: bucket earth-scratch exists and it bears no tag hubstorage.io/owner of this HubStorage; \
         it is left as it is. Choose another bucketName, or, if the bucket is yours to give, set adoption to Always, or \
         set its tag hubstorage.io/owner to 0b7a9c1e/earth/hub"
    );
    assert_eq!(
        refusal_of(plan(&declared(), &others(None), &FIRST_TIME)).message,
        "spec.buckets[scratch]: bucket earth-scratch exists and our keys do not reach it; it is left as it is. Choose \
         another bucketName, or, if the bucket is yours to give, set its tag hubstorage.io/owner to 0b7a9c1e/earth/hub"
    );
}

#[test]
fn rules_of_ours_go_when_the_spec_asks_for_none_any_more_and_those_of_others_stay() {
    // Somebody takes `lifecycle` out of the spec to keep the data.
    let mut there = rules(&expiring(days(7)));
    there.push(Rule {
        id: "logs".into(),
        body: RuleBody::Other(()),
    });
    let plan = plan(&unmanaged(), &made_with(there), &FIRST_TIME);
    let [Action::SetLifecycle { effects, found, .. }] = plan.actions.as_slice() else {
        panic!("{:?}", plan.actions);
    };
    assert_eq!(effects, &[]);
    let gone: Vec<&str> = found
        .changed
        .iter()
        .map(|changed| changed.id.as_str())
        .collect();
    assert_eq!(gone.len(), 4);
    assert!(
        gone.iter().all(|id| id.starts_with("hubstorage/")),
        "{gone:?}"
    );
    assert_eq!(
        plan.actions[0].to_string(),
        "set lifecycle rules of bucket earth-scratch: none; found \
         rule hubstorage/expire to expire objects after 7 days, which nobody declared, \
         rule hubstorage/abort-incomplete-uploads to abort incomplete uploads after 7 days, which nobody declared, \
         rule hubstorage/expire-noncurrent to expire noncurrent versions after 1 day, which nobody declared, \
         rule hubstorage/remove-expired-delete-markers to remove expired delete markers, which nobody declared"
    );
}

#[test]
fn a_bucket_without_rules_of_ours_and_without_lifecycle_in_the_spec_is_left_as_it_is() {
    let foreign = Rule {
        id: "logs".into(),
        body: RuleBody::Other(()),
    };
    let there = made_with(vec![foreign]);
    assert_eq!(plan(&unmanaged(), &there, &SETTLED).actions, []);
}

#[test]
fn a_bucket_that_vanished_while_a_new_spec_was_not_applied_yet_is_told_as_a_loss() {
    let known = Remembered {
        existed: true,
        ..FIRST_TIME
    };
    let plan = plan(&declared(), &missing(), &known);
    assert_eq!(
        plan.actions[0].to_string(),
        "create bucket earth-scratch again: it was gone, with all data in it"
    );
}

#[test]
fn clocks_that_differ_by_less_than_the_store_tolerates_do_not_strand_our_own_bucket() {
    let made = |second| untagged(INTENT_AT + second, true);
    for behind in [-14 * 60, -1, 0, 3600] {
        let plan = plan(&unmanaged(), &made(behind), &intending());
        assert_eq!(plan.actions, [tag()], "{behind}");
    }
    let refusal = refusal_of(plan(&unmanaged(), &made(-16 * 60), &intending()));
    assert_eq!(refusal.reason, Reason::BucketOwnedByOthers);
}

#[test]
fn rules_of_others_are_no_reason_to_write() {
    let mut there = rules(&expiring(days(7)));
    there.insert(
        0,
        Rule {
            id: "logs".into(),
            body: RuleBody::Other(()),
        },
    );
    let plan = plan(&declared(), &made_with(there), &SETTLED);
    assert_eq!(plan.actions, []);
}

#[test]
fn a_rule_that_the_store_cannot_have_is_omitted_and_said_so() {
    let abort = Effect::AbortIncompleteUploads(days(7));
    let rest: Vec<Effect> = expiring(days(7))
        .into_iter()
        .filter(|effect| *effect != abort)
        .collect();
    let plan = plan_bucket(
        &declared(),
        &missing(),
        &FIRST_TIME,
        &owner(),
        WITHOUT_ABORT,
    );
    let Some(Action::SetLifecycle { effects, .. }) = plan.actions.last() else {
        panic!("{plan:?}")
    };
    assert_eq!(
        (effects, &plan.in_force, &plan.omitted),
        (&rest, &rest, &vec![abort])
    );
}

#[test]
fn a_rule_that_the_store_cannot_have_is_no_difference() {
    let there = [
        Effect::Expire(days(7)),
        Effect::ExpireNoncurrent(days(1)),
        Effect::RemoveExpiredDeleteMarkers,
    ];
    let plan = plan_bucket(
        &declared(),
        &ours(&there),
        &SETTLED,
        &owner(),
        WITHOUT_ABORT,
    );
    assert_eq!(plan.actions, []);
}

#[test]
fn the_actions_of_a_new_bucket_read_like_this() {
    let plan = plan(&declared(), &missing(), &FIRST_TIME);
    let words: Vec<String> = plan.actions.iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "create bucket earth-scratch",
            "set lifecycle rules of bucket earth-scratch: expire objects after 7 days, abort incomplete uploads after \
             7 days, expire noncurrent versions after 1 day, remove expired delete markers",
        ]
    );
}

#[test]
fn the_tagging_of_a_bucket_reads_like_this() {
    let plan = plan(&unmanaged(), &just_made(), &intending());
    assert_eq!(
        plan.actions[0].to_string(),
        "mark bucket earth-scratch with the owner tag"
    );
}

#[test]
fn a_bucket_that_vanished_is_told_with_its_loss() {
    let plan = plan(&unmanaged(), &missing(), &SETTLED);
    assert_eq!(
        plan.actions[0].to_string(),
        "create bucket earth-scratch again: it was gone, with all data in it"
    );
}

#[test]
fn drift_is_told_with_what_was_found() {
    let mut there = rules(&[
        Effect::Expire(days(365)),
        Effect::RemoveExpiredDeleteMarkers,
    ]);
    there.push(Rule {
        id: "hubstorage/old".into(),
        body: RuleBody::Other(()),
    });
    let short = Declared {
        lifecycle: vec![Effect::Expire(days(7)), Effect::ExpireNoncurrent(days(1))],
        ..declared()
    };
    let plan = plan(&short, &made_with(there), &SETTLED);
    assert_eq!(
        plan.actions[0].to_string(),
        "set lifecycle rules of bucket earth-scratch: expire objects after 7 days, expire noncurrent versions after 1 day; \
         found no rule to expire noncurrent versions after 1 day, rule hubstorage/expire to expire objects after 365 days, \
         rule hubstorage/remove-expired-delete-markers to remove expired delete markers, which nobody declared, rule hubstorage/old, which nobody declared"
    );
}

#[test]
fn each_action_has_the_reason_of_its_event() {
    let reasons =
        |plan: BucketPlan| -> Vec<Reason> { plan.actions.iter().map(Deed::reason).collect() };
    assert_eq!(
        reasons(plan(&declared(), &missing(), &FIRST_TIME)),
        [Reason::BucketCreated, Reason::LifecycleRulesSet]
    );
    assert_eq!(
        reasons(plan(&declared(), &just_made(), &intending())),
        [Reason::BucketTagged, Reason::LifecycleRulesSet]
    );
    assert_eq!(
        reasons(plan(&declared(), &missing(), &SETTLED)),
        [Reason::DriftCorrected, Reason::DriftCorrected]
    );
}

#[test]
fn a_bucket_bears_its_owner_and_the_nonce_of_its_intent() {
    assert_eq!(
        owner().creation_tags("c0ffee"),
        [
            ("hubstorage.io/owner", "0b7a9c1e/earth/hub".to_owned()),
            ("hubstorage.io/creation", "c0ffee".to_owned())
        ]
    );
}
