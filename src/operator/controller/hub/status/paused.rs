//! The conditions of a hub that nobody looks at: what was last known. Pure.

use hubstorage_core::api::{
    ConditionStatus, ConditionType, Reason, Verdict, condition, update_conditions,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::is_summary;
use crate::controller::step::not_ready;

/// The conditions `before`, brought up to `generation`: each keeps its status, and `Ready` says
/// that it is paused and what it said when somebody last looked. What was tried again is not any
/// more, so that `Stalled` takes the place of `Reconciling`.
pub fn conditions(before: &[Condition], generation: i64, now: Timestamp) -> Vec<Condition> {
    let ready = condition(before, ConditionType::Ready);
    let paused = Reason::Paused.to_string();
    let message = match ready {
        None => "mode Paused: nothing is compared with the store, and nothing ever was".to_owned(),
        Some(ready) if ready.reason == paused => ready.message.clone(),
        Some(ready) => format!(
            "mode Paused: nothing is compared with the store and nothing is put right. The last look was at \
             generation {} of the spec and said {}: {}",
            ready.observed_generation.unwrap_or_default(),
            ready.reason,
            ready.message
        ),
    };
    let is_ready = ready.is_some_and(|ready| ready.status == "True");
    let verdicts = match is_ready {
        true => vec![Verdict::new(
            ConditionType::Ready,
            ConditionStatus::True,
            Reason::Paused,
            message,
        )],
        false => not_ready(ConditionType::Stalled, Reason::Paused, &message),
    };
    let mut conditions = update_conditions(before, verdicts, generation, now);
    let parts = before.iter().filter(|part| !is_summary(&part.type_));
    conditions.extend(parts.cloned().map(|part| Condition {
        observed_generation: Some(generation),
        ..part
    }));
    conditions
}
