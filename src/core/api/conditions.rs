//! Conditions, as kstatus reads them.
//!
//! `Ready` is always present; `Reconciling` and `Stalled` are there only while true, and never
//! both. `lastTransitionTime` moves only when the status does, so that a steady object keeps
//! its bytes.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use strum::{Display, IntoStaticStr};

use super::Reason;

/// The types of our conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, IntoStaticStr, Display)]
pub enum ConditionType {
    /// Everything declared is true.
    Ready,
    /// Something is under way or tried again.
    Reconciling,
    /// Nothing moves until somebody changes something.
    Stalled,
    /// Every bucket exists and is ours.
    BucketsReady,
    /// Every bucket has the lifecycle rules that are declared and possible.
    LifecycleApplied,
    /// The role is there that users' sessions are of; only where the operator makes it.
    RoleReady,
    /// Sessions are issued for every bucket that grants something; only where the StorageProvider vends.
    VendingReady,
    /// Users cannot reach each other's data.
    IsolationReady,
    /// New user pods are given what they need.
    InjectionReady,
    /// New user pods are given the shared folders; only where spec.shared is set.
    MountsReady,
    /// Users' homes are as large as declared; only where spec.home is set.
    HomesWithinLimit,
    /// Users' homes are not full; only where spec.home is set.
    HomesHaveRoom,
}

/// Status of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, Display)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody knows.
    Unknown,
}

/// What was found out about one condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The condition.
    pub type_: ConditionType,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, for machines.
    pub reason: Reason,
    /// Why and what to do, for people.
    pub message: String,
}

impl Verdict {
    /// A verdict.
    pub fn new(
        type_: ConditionType,
        status: ConditionStatus,
        reason: Reason,
        message: impl Into<String>,
    ) -> Self {
        Self {
            type_,
            status,
            reason,
            message: message.into(),
        }
    }
}

/// The condition of one type, if it is there.
pub fn condition(conditions: &[Condition], type_: ConditionType) -> Option<&Condition> {
    let name: &str = type_.into();
    conditions.iter().find(|condition| condition.type_ == name)
}

/// The conditions that `verdicts` amount to: exactly those, each keeping its
/// `lastTransitionTime` where the status has not changed.
pub fn update_conditions(
    before: &[Condition],
    verdicts: Vec<Verdict>,
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    verdicts
        .into_iter()
        .map(|verdict| {
            let status = verdict.status.to_string();
            let unchanged =
                condition(before, verdict.type_).filter(|before| before.status == status);
            Condition {
                last_transition_time: unchanged.map_or_else(
                    || Time(whole_seconds(now)),
                    |before| before.last_transition_time.clone(),
                ),
                message: verdict.message,
                observed_generation: Some(generation),
                reason: verdict.reason.to_string(),
                status,
                type_: verdict.type_.to_string(),
            }
        })
        .collect()
}

/// The API server stores times in whole seconds: a finer one would differ from what it returns.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ConditionStatus::{False, True};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ready(status: ConditionStatus, message: &str) -> Vec<Verdict> {
        vec![Verdict::new(
            ConditionType::Ready,
            status,
            Reason::Ready,
            message,
        )]
    }

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let first = update_conditions(&[], ready(True, "a"), 1, at(100));
        let later = update_conditions(&first, ready(True, "b"), 2, at(200));
        assert_eq!(later[0].last_transition_time, first[0].last_transition_time);
        assert_eq!(
            (later[0].message.as_str(), later[0].observed_generation),
            ("b", Some(2))
        );
    }

    #[test]
    fn a_condition_gets_a_new_time_when_its_status_changes() {
        let first = update_conditions(&[], ready(True, "a"), 1, at(100));
        let later = update_conditions(&first, ready(False, "a"), 1, at(200));
        assert_eq!(later[0].last_transition_time, Time(at(200)));
    }

    #[test]
    fn a_condition_without_a_verdict_is_gone() {
        let stalled = vec![Verdict::new(
            ConditionType::Stalled,
            True,
            Reason::ProviderNotFound,
            "x",
        )];
        let first = update_conditions(&[], stalled, 1, at(100));
        assert_eq!(
            update_conditions(&first, ready(True, "a"), 1, at(200)).len(),
            1
        );
    }
}
