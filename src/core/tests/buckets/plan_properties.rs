//! What every plan promises, whatever was declared, observed and remembered.

use hubstorage_core::api::{
    Adoption, InsecureTransport, Management, Origin, PublicAccess, Versioning,
};
use hubstorage_core::bucket_policy::BucketPolicy;
use hubstorage_core::lifecycle::{RULE_ID_PREFIX, Rule, merge};
use hubstorage_core::names::BucketName;
use hubstorage_core::plan::{
    Action, BucketPlan, Declared, Found, Intent, Observed, Owner, Remembered, Sighting, Standing,
    plan_bucket, stand,
};
use hubstorage_core::settings::{DeclaredSettings, Deviation, Setting, wanted};
use hubstorage_core::supports::Supports;
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::select;

use crate::strategies::{self, rules, supports};

fn owner() -> Owner {
    Owner {
        installation: "0b7a9c1e".into(),
        namespace: "earth".into(),
        name: "hub".into(),
    }
}

fn settings() -> impl Strategy<Value = DeclaredSettings> {
    let versioning = select(vec![
        None,
        Some(Versioning::Enabled),
        Some(Versioning::Suspended),
    ]);
    let public = select(vec![
        None,
        Some(PublicAccess::Blocked),
        Some(PublicAccess::Unmanaged),
    ]);
    let transport = select(vec![
        None,
        Some(InsecureTransport::Denied),
        Some(InsecureTransport::Unmanaged),
    ]);
    (versioning, public, transport, any::<bool>()).prop_map(
        |(versioning, public_access, insecure_transport, has_tls)| DeclaredSettings {
            versioning,
            public_access,
            insecure_transport,
            has_tls,
            ..DeclaredSettings::default()
        },
    )
}

fn declared() -> impl Strategy<Value = Declared> {
    let adoption = select(vec![Adoption::Never, Adoption::IfOwned, Adoption::Always]);
    let management = prop_oneof![4 => Just(Management::Full), 1 => Just(Management::AccessOnly)];
    let lifecycle = proptest::option::of(strategies::declared());
    (lifecycle, adoption, management, settings()).prop_map(
        |(lifecycle, adoption, management, settings)| Declared {
            name: "scratch".into(),
            bucket: bucket(),
            management,
            adoption,
            lifecycle: lifecycle.unwrap_or_default(),
            settings,
        },
    )
}

fn bucket() -> BucketName {
    BucketName::parse("earth-scratch").unwrap()
}

/// Times that are often the same.
fn times() -> impl Strategy<Value = Timestamp> {
    (0..4_i64).prop_map(|second| Timestamp::from_second(second).unwrap())
}

fn nonces() -> impl Strategy<Value = String> {
    select(vec!["c0ffee".to_owned(), "other".to_owned()])
}

fn sighting() -> impl Strategy<Value = Sighting> {
    prop_oneof![
        Just(Sighting::Missing),
        proptest::option::of(nonces()).prop_map(|nonce| Sighting::Ours { nonce }),
        (times(), any::<bool>()).prop_map(|(created, empty)| Sighting::Untagged { created, empty }),
        proptest::option::of("[a-z/]{1,20}").prop_map(|owner| Sighting::OthersOwn { owner }),
    ]
}

/// A bucket in a store: what is seen of it, its rules, its policy, its settings that are right.
#[derive(Debug, Clone, PartialEq)]
struct Bucket {
    sighting: Sighting,
    rules: Vec<Rule<()>>,
    policy: BucketPolicy,
    right: Vec<Setting>,
}

impl Bucket {
    /// What a look at it tells.
    fn observed(
        &self,
        declared: &Declared,
        remembered: &Remembered,
        supports: Supports,
    ) -> Observed {
        let sighting = self.sighting.clone();
        let standing = stand(declared, &sighting, remembered, &owner());
        let mut found = Found::default();
        if let (Ok(Standing { origin, .. }), true) = (standing, sighting != Sighting::Missing) {
            let wanted = wanted(&declared.settings, origin, supports).apply;
            found = Found {
                access_list: Vec::new(),
                rules: self.rules.clone(),
                policy: self.policy.clone(),
                deviations: wanted
                    .into_iter()
                    .filter(|setting| !self.right.contains(setting))
                    .map(|setting| Deviation {
                        setting,
                        found: "another".into(),
                    })
                    .collect(),
            };
        }
        Observed { sighting, found }
    }

    fn plan(&self, declared: &Declared, remembered: &Remembered, supports: Supports) -> BucketPlan {
        let observed = self.observed(declared, remembered, supports);
        plan_bucket(declared, &observed, remembered, &owner(), supports)
    }
}

fn policies() -> impl Strategy<Value = BucketPolicy> {
    let texts = [
        r#"{}"#,
        r#"{"Version":"2012-10-17","Statement":{"Sid":"Public","Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::earth-scratch/*"}}"#,
        r#"{"Statement":[{"Effect":"Allow","Principal":{"AWS":["1"]},"Action":["s3:*"],"Resource":"*"},{"Sid":"HubStorageDenyAnonymous","Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*"}]}"#,
    ];
    select(texts.to_vec()).prop_map(|text| BucketPolicy::parse(text).unwrap())
}

fn buckets() -> impl Strategy<Value = Bucket> {
    (sighting(), rules(Just(())), policies()).prop_map(|(sighting, rules, policy)| {
        let is_there = sighting != Sighting::Missing;
        Bucket {
            sighting,
            rules: if is_there { rules } else { vec![] },
            policy: if is_there {
                policy
            } else {
                BucketPolicy::default()
            },
            right: vec![],
        }
    })
}

fn remembered() -> impl Strategy<Value = Remembered> {
    let intent = (nonces(), times()).prop_map(|(nonce, time)| Intent { nonce, time });
    let origin = select(vec![
        None,
        Some(Origin::Created),
        Some(Origin::Adopted),
        Some(Origin::AccessOnly),
    ]);
    let created = proptest::option::of(times());
    (
        proptest::option::of(intent),
        any::<bool>(),
        any::<bool>(),
        origin,
        created,
    )
        .prop_map(|(intent, existed, settled, origin, created)| Remembered {
            intent,
            existed,
            settled,
            origin,
            created,
        })
}

/// What a store makes of the actions of a plan; it refuses those that do not fit its state.
fn apply(mut bucket: Bucket, actions: &[Action]) -> Bucket {
    for action in actions {
        match (action, &bucket.sighting) {
            (Action::Create { .. }, Sighting::Missing) => {
                bucket.sighting = Sighting::Ours {
                    nonce: Some("c0ffee".into()),
                };
            }
            (Action::Tag { origin, .. }, Sighting::Untagged { .. }) => {
                let nonce = (*origin == Origin::Created).then(|| "c0ffee".to_owned());
                bucket.sighting = Sighting::Ours { nonce };
            }
            (Action::SetLifecycle { effects, .. }, Sighting::Ours { .. }) => {
                bucket.rules = merge(&bucket.rules, effects);
            }
            (
                Action::Configure {
                    setting: Setting::Statements(ours),
                    ..
                },
                Sighting::Ours { .. },
            ) => {
                let merged = bucket.policy.with(&self::bucket(), ours);
                bucket.policy = merged
                    .map(|text| BucketPolicy::parse(&text).unwrap())
                    .unwrap_or_default();
            }
            (Action::Configure { setting, .. }, Sighting::Ours { .. }) => {
                bucket.right.push(setting.clone());
            }
            (action, sighting) => panic!("{action} does not fit {sighting:?}"),
        }
    }
    bucket
}

/// What is remembered once some of the actions were done.
fn later(remembered: &Remembered, done: &[Action]) -> Remembered {
    let is_there = done
        .iter()
        .any(|action| matches!(action, Action::Create { .. } | Action::Tag { .. }));
    Remembered {
        existed: remembered.existed || is_there,
        ..remembered.clone()
    }
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
        declared in declared(), before in buckets(), remembered in remembered(), supports in supports()
    ) {
        let plan = before.plan(&declared, &remembered, supports);
        let after = apply(before, &plan.actions);
        let again = after.plan(&declared, &later(&remembered, &plan.actions), supports);
        prop_assert_eq!(again, BucketPlan { actions: vec![], ..plan });
    }

    #[test]
    fn doing_a_part_of_the_actions_and_planning_again_ends_in_the_same_state(
        declared in declared(), before in buckets(), remembered in remembered(), supports in supports(), part in 0..5_usize
    ) {
        let plan = before.plan(&declared, &remembered, supports);
        let whole = apply(before.clone(), &plan.actions);
        let done = &plan.actions[..part.min(plan.actions.len())];
        let crashed = apply(before, done);
        let rest = crashed.plan(&declared, &later(&remembered, done), supports);
        prop_assert_eq!(apply(crashed, &rest.actions), whole);
    }

    #[test]
    fn a_refused_bucket_never_has_actions(
        declared in declared(), bucket in buckets(), remembered in remembered(), supports in supports()
    ) {
        let plan = bucket.plan(&declared, &remembered, supports);
        prop_assert!(plan.refusal.is_none() || (plan.actions.is_empty() && plan.in_force.is_empty()));
    }

    #[test]
    fn a_bucket_that_others_keep_is_never_changed(
        declared in declared(), bucket in buckets(), remembered in remembered(), supports in supports()
    ) {
        let declared = Declared { management: Management::AccessOnly, ..declared };
        prop_assert_eq!(bucket.plan(&declared, &remembered, supports).actions, vec![]);
    }

    #[test]
    fn a_bucket_that_is_not_ours_is_either_refused_or_marked_as_ours_first(
        declared in declared(), bucket in buckets(), remembered in remembered(), supports in supports()
    ) {
        let declared = Declared { management: Management::Full, ..declared };
        let plan = bucket.plan(&declared, &remembered, supports);
        match (&bucket.sighting, plan.refusal, plan.actions.first()) {
            (Sighting::OthersOwn { .. }, refusal, _) => prop_assert!(refusal.is_some()),
            (Sighting::Ours { .. }, refusal, _) => {
                prop_assert!(refusal.is_none() || declared.adoption == Adoption::Never);
            }
            (Sighting::Untagged { .. }, Some(_), _) => prop_assert!(declared.adoption != Adoption::Always),
            (Sighting::Untagged { .. }, None, Some(Action::Tag { .. }))
            | (Sighting::Missing, None, Some(Action::Create { .. })) => {}
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn no_plan_touches_rules_or_statements_of_others(
        declared in declared(), before in buckets(), remembered in remembered(), supports in supports()
    ) {
        let plan = before.plan(&declared, &remembered, supports);
        let after = apply(before.clone(), &plan.actions);
        prop_assert_eq!(foreign_of(&after.rules), foreign_of(&before.rules));
        prop_assert_eq!(after.policy.grants(), before.policy.grants());
    }

    #[test]
    fn a_bucket_whose_lifecycle_is_not_declared_ends_without_rules_of_ours(
        declared in declared(), before in buckets(), remembered in remembered(), supports in supports()
    ) {
        let unmanaged = Declared { lifecycle: vec![], management: Management::Full, ..declared };
        let plan = before.plan(&unmanaged, &remembered, supports);
        let after = apply(before, &plan.actions).rules;
        prop_assert!(plan.refusal.is_some() || after.iter().all(|rule| !rule.id.starts_with("hubstorage/")));
    }

    #[test]
    fn of_an_adopted_bucket_nothing_is_set_that_the_spec_does_not_name(
        declared in declared(), before in buckets(), remembered in remembered(), supports in supports()
    ) {
        let silent = DeclaredSettings { has_tls: declared.settings.has_tls, ..DeclaredSettings::default() };
        let declared = Declared { settings: silent, ..declared };
        let adopted = Bucket { sighting: Sighting::Ours { nonce: None }, ..before };
        for action in adopted.plan(&declared, &remembered, supports).actions {
            let takes_ours_out = matches!(&action, Action::Configure { setting: Setting::Statements(ours), .. } if ours.is_empty());
            prop_assert!(takes_ours_out || matches!(action, Action::SetLifecycle { .. }), "{}", action);
        }
    }
}
