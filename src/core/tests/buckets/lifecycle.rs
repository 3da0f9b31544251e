//! Lifecycle rules: which ones a bucket needs, how they differ, how they live beside others'.

use hubstorage_core::api::Capability;
use hubstorage_core::lifecycle::{
    Achievable, Changed, Difference, Effect, RULE_ID_PREFIX, Rule, RuleBody, achievable,
    difference, expiring, merge,
};
use proptest::prelude::*;

use hubstorage_core::supports::Supports;

use crate::strategies::{days, declared, rules, supports};

const WITHOUT_ABORT: Supports = Supports::ALL.without(Capability::AbortIncompleteUploads);

/// A rule of somebody else, in the words of a store.
fn foreign(id: &str, words: &'static str) -> Rule<&'static str> {
    Rule {
        id: id.to_owned(),
        body: RuleBody::Other(words),
    }
}

/// Our rule for an effect, as it should be in the store.
fn ours(effect: Effect) -> Rule<&'static str> {
    Rule {
        id: effect.rule_id(),
        body: RuleBody::Known(effect),
    }
}

/// The rules of somebody else among `rules`.
fn foreign_of<F: Clone>(rules: &[Rule<F>]) -> Vec<Rule<F>> {
    rules
        .iter()
        .filter(|rule| !rule.id.starts_with(RULE_ID_PREFIX))
        .cloned()
        .collect()
}

#[test]
fn a_bucket_that_expires_after_a_week_has_this_full_rule_set() {
    assert_eq!(
        expiring(days(7)),
        [
            Effect::Expire(days(7)),
            Effect::AbortIncompleteUploads(days(7)),
            Effect::ExpireNoncurrent(days(1)),
            Effect::RemoveExpiredDeleteMarkers,
        ]
    );
}

#[test]
fn uploads_are_aborted_no_later_than_the_data_itself_expires() {
    assert_eq!(
        expiring(days(1)),
        [
            Effect::Expire(days(1)),
            Effect::AbortIncompleteUploads(days(1)),
            Effect::ExpireNoncurrent(days(1)),
            Effect::RemoveExpiredDeleteMarkers,
        ]
    );
}

#[test]
fn uploads_are_aborted_after_a_week_where_data_lives_longer() {
    assert_eq!(
        expiring(days(30)),
        [
            Effect::Expire(days(30)),
            Effect::AbortIncompleteUploads(days(7)),
            Effect::ExpireNoncurrent(days(1)),
            Effect::RemoveExpiredDeleteMarkers,
        ]
    );
}

#[test]
fn a_store_that_can_do_everything_omits_nothing() {
    let declared = expiring(days(7));
    assert_eq!(
        achievable(&declared, Supports::ALL),
        Achievable {
            apply: declared,
            omitted: vec![]
        }
    );
}

#[test]
fn a_store_that_cannot_abort_uploads_omits_exactly_that_rule() {
    assert_eq!(
        achievable(&expiring(days(30)), WITHOUT_ABORT),
        Achievable {
            apply: vec![
                Effect::Expire(days(30)),
                Effect::ExpireNoncurrent(days(1)),
                Effect::RemoveExpiredDeleteMarkers
            ],
            omitted: vec![Effect::AbortIncompleteUploads(days(7))],
        }
    );
}

#[test]
fn each_effect_has_an_id_of_its_own_that_never_changes() {
    // An id that changed would leave the old rule behind as one that nobody declared.
    let ids: Vec<String> = expiring(days(7)).iter().map(Effect::rule_id).collect();
    assert_eq!(
        ids,
        [
            "hubstorage/expire",
            "hubstorage/abort-incomplete-uploads",
            "hubstorage/expire-noncurrent",
            "hubstorage/remove-expired-delete-markers",
        ]
    );
}

#[test]
fn effects_read_as_words() {
    let words: Vec<String> = expiring(days(7)).iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "expire objects after 7 days",
            "abort incomplete uploads after 7 days",
            "expire noncurrent versions after 1 day",
            "remove expired delete markers",
        ]
    );
}

#[test]
fn a_bucket_with_the_declared_rules_in_any_order_does_not_differ() {
    let declared = expiring(days(7));
    let observed: Vec<_> = declared.iter().rev().map(|effect| ours(*effect)).collect();
    assert!(difference(&observed, &declared).is_empty());
}

#[test]
fn a_removed_rule_is_seen_as_missing() {
    let declared = expiring(days(7));
    let observed: Vec<_> = declared
        .iter()
        .skip(1)
        .map(|effect| ours(*effect))
        .collect();
    assert_eq!(
        difference(&observed, &declared),
        Difference {
            missing: vec![Effect::Expire(days(7))],
            changed: vec![]
        }
    );
}

#[test]
fn a_rule_with_other_days_is_seen_as_changed() {
    let declared = [Effect::Expire(days(7))];
    assert_eq!(
        difference(&[ours(Effect::Expire(days(365)))], &declared),
        Difference {
            missing: vec![],
            changed: vec![Changed {
                id: "hubstorage/expire".into(),
                is: Some(Effect::Expire(days(365))),
                should: Some(declared[0]),
            }]
        }
    );
}

#[test]
fn a_rule_of_ours_that_was_disabled_or_narrowed_is_seen_as_changed() {
    let declared = [Effect::Expire(days(7))];
    assert_eq!(
        difference(
            &[foreign("hubstorage/expire", "Status: Disabled")],
            &declared
        ),
        Difference {
            missing: vec![],
            changed: vec![Changed {
                id: "hubstorage/expire".into(),
                is: None,
                should: Some(declared[0]),
            }]
        }
    );
}

#[test]
fn a_rule_under_our_prefix_that_nobody_declared_is_seen_as_to_be_removed() {
    let declared = [Effect::Expire(days(7))];
    let observed = [ours(declared[0]), ours(Effect::RemoveExpiredDeleteMarkers)];
    assert_eq!(
        difference(&observed, &declared),
        Difference {
            missing: vec![],
            changed: vec![Changed {
                id: "hubstorage/remove-expired-delete-markers".into(),
                is: Some(Effect::RemoveExpiredDeleteMarkers),
                should: None,
            }]
        }
    );
}

#[test]
fn a_rule_of_others_with_the_declared_meaning_does_not_stand_in_for_ours() {
    let declared = [Effect::Expire(days(7))];
    let theirs = Rule::<()> {
        id: "their-expiry".into(),
        body: RuleBody::Known(declared[0]),
    };
    assert_eq!(difference(&[theirs], &declared).missing, declared);
}

#[test]
fn a_merge_keeps_others_first_and_replaces_all_of_ours() {
    let observed = [
        ours(Effect::Expire(days(365))),
        foreign("logs", "expire logs/"),
        foreign("hubstorage/old", "of an earlier release"),
        foreign("hubstorage", "no slash: not ours"),
    ];
    assert_eq!(
        merge(&observed, &[Effect::Expire(days(7))]),
        [
            foreign("logs", "expire logs/"),
            foreign("hubstorage", "no slash: not ours"),
            ours(Effect::Expire(days(7)))
        ]
    );
}

proptest! {
    #[test]
    fn a_merge_keeps_every_rule_of_others_unchanged_and_in_order(observed in rules(any::<u32>()), declared in declared()) {
        let merged = merge(&observed, &declared);
        prop_assert_eq!(foreign_of(&merged), foreign_of(&observed));
    }

    #[test]
    fn a_merge_leaves_of_ours_exactly_what_is_declared(observed in rules(any::<u32>()), declared in declared()) {
        let merged = merge(&observed, &declared);
        let effects: Vec<_> = merged.into_iter().filter(|rule| rule.id.starts_with(RULE_ID_PREFIX)).map(|rule| rule.body).collect();
        let expected: Vec<_> = declared.into_iter().map(RuleBody::Known).collect();
        prop_assert_eq!(effects, expected);
    }

    #[test]
    fn merging_twice_is_merging_once(observed in rules(any::<u32>()), declared in declared()) {
        let once = merge(&observed, &declared);
        prop_assert_eq!(merge(&once, &declared), once);
    }

    #[test]
    fn nothing_differs_after_a_merge_of_what_the_store_can_do(
        observed in rules(any::<u32>()), declared in declared(), supports in supports()
    ) {
        let Achievable { apply, .. } = achievable(&declared, supports);
        prop_assert!(difference(&merge(&observed, &apply), &apply).is_empty());
    }

    #[test]
    fn a_bucket_differs_exactly_when_its_rules_of_ours_are_not_those_declared(
        observed in rules(any::<u32>()), declared in declared()
    ) {
        let is_ours = |rule: &&Rule<u32>| rule.id.starts_with(RULE_ID_PREFIX);
        let wanted: Vec<Rule<u32>> = merge(&[], &declared);
        let all_there = wanted.iter().all(|rule| observed.contains(rule));
        let none_else = observed.iter().filter(is_ours).all(|rule| wanted.contains(rule));
        prop_assert_eq!(difference(&observed, &declared).is_empty(), all_there && none_else);
    }

    #[test]
    fn rules_of_others_never_count(observed in rules(any::<u32>()), declared in declared()) {
        let without: Vec<_> = observed.iter().filter(|rule| rule.id.starts_with(RULE_ID_PREFIX)).cloned().collect();
        prop_assert_eq!(difference(&observed, &declared), difference(&without, &declared));
    }

    #[test]
    fn what_is_declared_is_either_applied_or_omitted(declared in declared(), supports in supports()) {
        let Achievable { apply, omitted } = achievable(&declared, supports);
        prop_assert_eq!(apply.len() + omitted.len(), declared.len());
        prop_assert!(declared.iter().all(|effect| apply.contains(effect) != omitted.contains(effect)));
    }
}
