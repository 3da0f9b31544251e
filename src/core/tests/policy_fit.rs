//! Whether a hub's grants fit is decided for all of its users at once: nobody's policy is longer.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeSet;

use hubstorage_core::api::{Bucket, HubStorageSpec};
use hubstorage_core::names::{BucketName, Prefix};
use hubstorage_core::policies::{PolicyDocument, PolicyError};
use proptest::prelude::*;
use serde_json::{Value, json};

fn in_store(bucket: &Bucket) -> Option<BucketName> {
    BucketName::parse(&format!("{}-bucket-of-a-hub", bucket.name)).ok()
}

fn spec(buckets: &Value) -> HubStorageSpec {
    serde_json::from_value(json!({"providerRef": {"name": "p"}, "buckets": buckets})).unwrap()
}

/// The length of the policy of a user with this prefix in these groups; `None` if nothing is granted to them.
fn length(spec: &HubStorageSpec, own: &Prefix, groups: &BTreeSet<String>) -> Option<usize> {
    let buckets = spec.buckets.iter();
    let reaches = buckets.flat_map(|bucket| {
        let name = in_store(bucket).unwrap();
        bucket.reaches(&name, own, |group| groups.contains(group))
    });
    match PolicyDocument::allowing(&reaches.collect::<Vec<_>>()) {
        Ok(policy) => Some(policy.as_str().len()),
        Err(PolicyError::TooLong(length)) => Some(length),
        Err(PolicyError::Empty) => None,
        Err(error) => panic!("{error}"),
    }
}

fn bound(spec: &HubStorageSpec) -> Option<usize> {
    match spec.policy_of_longest_user(in_store) {
        Ok(policy) => policy.map(|policy| policy.as_str().len()),
        Err(PolicyError::MayBeTooLong(length)) => Some(length),
        Err(error) => panic!("{error}"),
    }
}

fn everyone() -> Value {
    json!({"kind": "Everyone"})
}

fn group(name: &str) -> Value {
    json!({"kind": "Group", "name": name})
}

fn grant(name: &str, subject: Value, scope: &Value, permission: &str) -> Value {
    let mut grant = json!({"name": name, "subjects": [subject], "permission": permission});
    let fields = grant.as_object_mut().unwrap();
    fields.extend(scope.as_object().unwrap().clone());
    grant
}

/// Their own prefix, and shared ones of this length.
fn own_and_shared(shared: usize, length: usize) -> Vec<Value> {
    let own = json!({"scope": "UserPrefix"});
    let mut grants = vec![grant("own", everyone(), &own, "ReadWrite")];
    for number in 0..shared {
        let prefix = json!({"scope": "Prefix", "prefix": format!("_{number:0>length$}")});
        grants.push(grant(
            &format!("s{number}"),
            everyone(),
            &prefix,
            "ReadOnly",
        ));
    }
    grants
}

/// Who is in the group has the same prefixes in both buckets, and one statement lists them; the others need
/// two.
#[test]
fn grants_that_are_too_long_only_for_who_is_in_fewer_groups_do_not_fit() {
    let (one, mut other) = (own_and_shared(4, 55), own_and_shared(4, 55));
    other[4]["subjects"] = json!([group("g")]);
    let spec =
        spec(&json!([{"name": "scratch", "grants": one}, {"name": "persistent", "grants": other}]));
    let own = Prefix::escaped(&[b'a'; 63]);
    let member = length(&spec, &own, &BTreeSet::from(["g".to_owned()])).unwrap();
    let others = length(&spec, &own, &BTreeSet::new()).unwrap();
    assert!(member <= 2048 && others > 2048, "{member}, {others}");
    assert!(matches!(
        spec.policy_of_longest_user(in_store),
        Err(PolicyError::MayBeTooLong(_))
    ));
}

/// Who may list all of a bucket needs no condition with prefixes.
#[test]
fn grants_that_are_too_long_only_for_who_may_not_list_everything_do_not_fit() {
    let whole = json!({"scope": "Bucket"});
    let mut grants = own_and_shared(6, 40);
    grants.push(grant("staff", group("staff"), &whole, "ReadOnly"));
    let spec = spec(
        &json!([{"name": "scratch", "grants": grants}, {"name": "persistent", "grants": grants}]),
    );
    let own = Prefix::escaped(&[b'a'; 63]);
    let staff = length(&spec, &own, &BTreeSet::from(["staff".to_owned()])).unwrap();
    let others = length(&spec, &own, &BTreeSet::new()).unwrap();
    assert!(staff < others, "{staff}, {others}");
    assert!(bound(&spec) >= Some(others));
}

/// The longest user has both, and no more: what they may write they need not be told to read, and who lists all of
/// a bucket lists what is in it.
#[test]
fn grants_to_everyone_that_fit_every_user_fit() {
    let whole = json!({"scope": "Bucket"});
    let mut grants = own_and_shared(5, 55);
    grants.push(grant("all", everyone(), &whole, "ReadOnly"));
    grants.push(grant("of-g", group("g"), &whole, "ReadOnly"));
    let written = grants[1..=5].iter().map(|grant| {
        let mut grant = grant.clone();
        grant["permission"] = json!("ReadWrite");
        grant
    });
    grants.extend(written.collect::<Vec<_>>());
    let spec =
        spec(&json!([{"name": "scratch", "grants": grants}, {"name": "data", "grants": grants}]));
    let longest = length(&spec, &Prefix::escaped(&[b'a'; 63]), &BTreeSet::new());
    assert_eq!(bound(&spec), longest);
    assert!(longest < Some(2048), "{longest:?}");
}

#[test]
fn the_buckets_that_make_the_policy_longest_are_told_first() {
    let (few, many) = (own_and_shared(1, 20), own_and_shared(6, 50));
    let spec = spec(&json!([
        {"name": "few", "grants": few}, {"name": "many", "grants": many}, {"name": "none", "grants": []},
    ]));
    let without_few = json!([{"name": "many", "grants": many}]);
    let shorter = bound(&spec).unwrap() - bound(&self::spec(&without_few)).unwrap();
    let told = spec.longest_in_policy(in_store);
    assert_eq!(told[0].0, "many");
    assert_eq!(told[1..], [("few", shorter), ("none", 0)]);
}

fn any_grant() -> impl Strategy<Value = Value> {
    let subject = prop_oneof![
        Just(everyone()),
        prop::sample::select(vec!["g", "h", "i"]).prop_map(group)
    ];
    any_grant_to(subject)
}

fn any_grant_to(subject: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    let shared = prop::sample::select(vec!["_ocean", "_groups/ice", "_a-longer-one/of-two-parts"]);
    let scope = prop_oneof![
        2 => Just(json!({"scope": "UserPrefix"})),
        3 => shared.prop_map(|prefix| json!({"scope": "Prefix", "prefix": prefix})),
        1 => Just(json!({"scope": "Bucket"})),
    ];
    let permission = prop::sample::select(vec!["ReadOnly", "ReadWrite"]);
    (subject, scope, permission)
        .prop_map(|(subject, scope, permission)| grant("g", subject, &scope, permission))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn what_is_granted_to_everyone_is_counted_as_the_longest_user_has_it(
        buckets in prop::collection::vec(prop::collection::vec(any_grant_to(Just(everyone())), 0..5), 0..4),
    ) {
        let named = ["scratch", "persistent", "data"].iter().zip(buckets);
        let buckets: Vec<Value> = named
            .map(|(name, grants)| json!({"name": name, "grants": grants}))
            .collect();
        let spec = spec(&json!(buckets));
        let longest = Prefix::escaped(&[b'a'; 63]);
        prop_assert_eq!(bound(&spec), length(&spec, &longest, &BTreeSet::new()));
    }

    #[test]
    fn nobodys_policy_is_longer_whoever_they_are_and_whatever_groups_they_are_in(
        buckets in prop::collection::vec(prop::collection::vec(any_grant(), 0..4), 0..4),
        user in "[a-zA-Z ]{1,70}",
    ) {
        let named = ["scratch", "persistent", "data"].iter().zip(buckets);
        let buckets: Vec<Value> = named
            .map(|(name, grants)| json!({"name": name, "grants": grants}))
            .collect();
        let spec = spec(&json!(buckets));
        let bound = bound(&spec);
        for own in [Prefix::escaped(user.as_bytes()), Prefix::escaped(&[b'a'; 63])] {
            for members in 0..8_u8 {
                let groups = ["g", "h", "i"].iter().enumerate();
                let groups = groups.filter(|(at, _)| members & (1 << at) != 0);
                let groups = groups.map(|(_, group)| (*group).to_owned()).collect();
                prop_assert!(length(&spec, &own, &groups) <= bound);
            }
        }
    }
}
