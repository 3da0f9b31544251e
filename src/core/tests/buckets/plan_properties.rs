//! What every plan promises, whatever was declared, observed and remembered.

use hubstorage_core::lifecycle::{RULE_ID_PREFIX, Rule, merge};
use hubstorage_core::names::BucketName;
use hubstorage_core::plan::{
    Action, BucketPlan, Declared, Intent, Observed, Owner, Remembered, plan_bucket,
};
use jiff::Timestamp;
use proptest::prelude::*;

use crate::strategies::{self, rules, supports};

fn owner() -> Owner {
    Owner {
        installation: "0b7a9c1e".into(),
        namespace: "earth".into(),
        name: "hub".into(),
    }
}

fn declared() -> impl Strategy<Value = Declared> {
    proptest::option::of(strategies::declared()).prop_map(|lifecycle| Declared {
        name: "scratch".into(),
        bucket: BucketName::parse("earth-scratch").unwrap(),
        lifecycle: lifecycle.unwrap_or_default(),
    })
}

/// Times that are often the same.
fn times() -> impl Strategy<Value = Timestamp> {
    (0..4_i64).prop_map(|second| Timestamp::from_second(second).unwrap())
}

fn observed() -> impl Strategy<Value = Observed> {
    prop_oneof![
        Just(Observed::Missing),
        rules(Just(())).prop_map(|rules| Observed::Ours { rules }),
        (times(), any::<bool>(), rules(Just(()))).prop_map(|(created, empty, rules)| {
            Observed::Untagged {
                created,
                empty,
                rules,
            }
        }),
        proptest::option::of("[a-z/]{1,20}").prop_map(|owner| Observed::OthersOwn { owner }),
    ]
}

fn remembered() -> impl Strategy<Value = Remembered> {
    let intent = times().prop_map(|time| Intent {
        nonce: "c0ffee".into(),
        time,
    });
    (proptest::option::of(intent), any::<bool>(), any::<bool>()).prop_map(
        |(intent, existed, settled)| Remembered {
            intent,
            existed,
            settled,
        },
    )
}

fn rules_of(observed: &Observed) -> Vec<Rule<()>> {
    match observed {
        Observed::Ours { rules } | Observed::Untagged { rules, .. } => rules.clone(),
        Observed::Missing | Observed::OthersOwn { .. } => vec![],
    }
}

/// What a store makes of the actions of a plan; it refuses those that do not fit its state.
fn apply(observed: Observed, actions: &[Action]) -> Observed {
    actions
        .iter()
        .fold(observed, |bucket, action| match (action, bucket) {
            (Action::Create { .. }, Observed::Missing) => Observed::Ours { rules: vec![] },
            (Action::Tag { .. }, Observed::Untagged { rules, .. }) => Observed::Ours { rules },
            (Action::SetLifecycle { effects, .. }, Observed::Ours { rules }) => Observed::Ours {
                rules: merge(&rules, effects),
            },
            (action, bucket) => panic!("{action} does not fit {bucket:?}"),
        })
}

fn foreign_of(rules: &[Rule<()>]) -> Vec<Rule<()>> {
    rules
        .iter()
        .filter(|rule| !rule.id.starts_with(RULE_ID_PREFIX))
        .cloned()
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn planning_again_after_the_actions_were_done_finds_nothing_to_do(
        declared in declared(), before in observed(), remembered in remembered(), supports in supports()
    ) {
        let plan = plan_bucket(&declared, &before, &remembered, &owner(), supports);
        let after = apply(before, &plan.actions);
        let again = plan_bucket(&declared, &after, &remembered, &owner(), supports);
        prop_assert_eq!(again, BucketPlan { actions: vec![], ..plan });
    }

    #[test]
    fn doing_a_part_of_the_actions_and_planning_again_ends_in_the_same_state(
        declared in declared(), before in observed(), remembered in remembered(), supports in supports(), part in 0..3_usize
    ) {
        let plan = plan_bucket(&declared, &before, &remembered, &owner(), supports);
        let whole = apply(before.clone(), &plan.actions);
        let crashed = apply(before, &plan.actions[..part.min(plan.actions.len())]);
        let rest = plan_bucket(&declared, &crashed, &remembered, &owner(), supports);
        prop_assert_eq!(apply(crashed, &rest.actions), whole);
    }

    #[test]
    fn a_refused_bucket_never_has_actions(
        declared in declared(), observed in observed(), remembered in remembered(), supports in supports()
    ) {
        let plan = plan_bucket(&declared, &observed, &remembered, &owner(), supports);
        prop_assert!(plan.refusal.is_none() || (plan.actions.is_empty() && plan.in_force.is_empty()));
    }

    #[test]
    fn a_bucket_that_is_not_ours_is_either_refused_or_marked_as_ours_first(
        declared in declared(), observed in observed(), remembered in remembered(), supports in supports()
    ) {
        let plan = plan_bucket(&declared, &observed, &remembered, &owner(), supports);
        match (&observed, plan.refusal, plan.actions.first()) {
            (Observed::OthersOwn { .. }, refusal, _) => prop_assert!(refusal.is_some()),
            (Observed::Ours { .. }, refusal, _) => prop_assert!(refusal.is_none()),
            (Observed::Untagged { .. }, Some(_), _)
            | (Observed::Untagged { .. }, None, Some(Action::Tag { .. }))
            | (Observed::Missing, None, Some(Action::Create { .. })) => {}
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn no_plan_touches_rules_of_others(
        declared in declared(), before in observed(), remembered in remembered(), supports in supports()
    ) {
        let plan = plan_bucket(&declared, &before, &remembered, &owner(), supports);
        let foreign_before = foreign_of(&rules_of(&before));
        prop_assert_eq!(foreign_of(&rules_of(&apply(before, &plan.actions))), foreign_before);
    }

    #[test]
    fn a_bucket_whose_lifecycle_is_not_declared_ends_without_rules_of_ours(
        declared in declared(), before in observed(), remembered in remembered(), supports in supports()
    ) {
        let unmanaged = Declared { lifecycle: vec![], ..declared };
        let plan = plan_bucket(&unmanaged, &before, &remembered, &owner(), supports);
        let after = rules_of(&apply(before, &plan.actions));
        prop_assert!(plan.refusal.is_some() || after.iter().all(|rule| !rule.id.starts_with("hubstorage/")));
    }
}
