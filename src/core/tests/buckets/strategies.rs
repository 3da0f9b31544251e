//! Random lifecycle rules, as a store might report them.

use std::num::NonZeroU16;

use hubstorage_core::api::Capability;
use hubstorage_core::lifecycle::{Days, Effect, RULE_ID_PREFIX, Rule, RuleBody, expiring};
use hubstorage_core::supports::Supports;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use strum::IntoEnumIterator as _;

/// So many days; panics on 0, which the tests never mean.
pub fn days(days: u16) -> Days {
    Days(NonZeroU16::new(days).expect("at least one day"))
}

/// Effects that a spec could declare: at most one of each kind, in any number.
pub fn declared() -> impl Strategy<Value = Vec<Effect>> {
    (1..=400_u16).prop_flat_map(|after| subsequence(expiring(days(after)), 0..=4))
}

/// Rules under ids of ours, of others, and of others that look much like ours; right, changed
/// or of an unknown kind.
pub fn rules<F: std::fmt::Debug + Clone>(
    foreign: impl Strategy<Value = F> + Clone,
) -> impl Strategy<Value = Vec<Rule<F>>> {
    let ours: &[&str] = &[
        "expire",
        "abort-incomplete-uploads",
        "expire-noncurrent",
        "remove-expired-delete-markers",
        "old",
        "",
    ];
    let theirs: &[&str] = &[
        "logs",
        "",
        "expire",
        "hubstorage",
        "hubstorage-expire",
        "HUBSTORAGE/expire",
        "my-hubstorage/expire",
    ];
    let id = prop_oneof![
        select(ours).prop_map(|slug| format!("{RULE_ID_PREFIX}{slug}")),
        select(theirs).prop_map(str::to_owned),
    ];
    let effect = (1..=30_u16).prop_flat_map(|after| select(expiring(days(after))));
    let body = prop_oneof![
        effect.prop_map(RuleBody::Known),
        foreign.prop_map(RuleBody::Other)
    ];
    vec((id, body).prop_map(|(id, body)| Rule { id, body }), 0..8)
}

/// Stores that can do everything, and stores that cannot.
pub fn supports() -> impl Strategy<Value = Supports> {
    let all: Vec<Capability> = Capability::iter().collect();
    let count = all.len();
    subsequence(all, 0..=count).prop_map(|lacking| Supports::ALL.without_all(lacking))
}
