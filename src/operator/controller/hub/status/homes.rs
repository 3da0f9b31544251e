//! `HomesWithinLimit`: whether users' homes are as large as declared. Pure.

use std::str::FromStr as _;

use hubstorage_core::api::{
    ConditionStatus, ConditionType, HomeCount, HomesStatus, HubStorage, Mode, Reason, Verdict,
};
use hubstorage_core::homes::FINDINGS_IN_ORDER;

use crate::controller::Step;
use crate::controller::step::not_reached;

use ConditionStatus::{False, True, Unknown};
use ConditionType::HomesWithinLimit;

/// Claims of one trouble that are told; `status.homes` has more of them.
const TOLD: usize = 3;

/// The verdict on a hub whose reconcile ended in `step`, from what `status.homes` tells; nothing, where no homes are
/// declared.
pub(super) fn verdict(hub: &HubStorage, step: &Step) -> Option<Verdict> {
    if hub.spec.home.is_none() || hub.spec.mode == Mode::Paused {
        return None;
    }
    if let Some(known) = again(hub) {
        return Some(known);
    }
    Some(match step {
        Step::Done => {
            let message = "not looked at yet";
            Verdict::new(HomesWithinLimit, Unknown, Reason::Progressing, message)
        }
        _ => not_reached(HomesWithinLimit, step),
    })
}

/// The same where somebody has looked at the spec as it is: what was found for an earlier one says nothing of this.
pub(super) fn again(hub: &HubStorage) -> Option<Verdict> {
    let home = hub.spec.home.as_ref()?;
    let homes = hub.status.as_ref()?.homes.as_ref()?;
    let is_of_now = Some(homes.observed_generation) == hub.metadata.generation;
    if !is_of_now || hub.spec.mode == Mode::Paused {
        return None;
    }
    let tell = |status, reason, message: String| {
        Some(Verdict::new(HomesWithinLimit, status, reason, message))
    };
    let told = FINDINGS_IN_ORDER
        .iter()
        .filter_map(|reason| some_of(*reason, homes));
    let waits = |number: i32, what: &str| (number > 0).then(|| format!("{number} {what}"));
    let progress = [
        waits(homes.growing, "are growing"),
        waits(homes.awaiting_server, "grow when a server mounts them"),
    ];
    let left_out = waits(
        homes.overrides_left_out,
        "users have sizes of their own that do not count: status.homes.overrides is full",
    );
    let unknown = homes.usage_unknown.as_ref();
    let unknown = unknown.map(|why| format!("no node tells how full homes are: {why}"));
    // Where none is to grow by itself, nothing depends on it.
    let is_blind = unknown.is_some() && home.growth.is_some();
    let besides = progress
        .into_iter()
        .flatten()
        .chain(left_out)
        .chain(unknown);
    // Two homes for one server are as large as declared.
    let is_of_size = |found: &&HomeCount| found.reason != Reason::ClaimDuplicate.to_string();
    if let Some(worst) = homes.found.iter().find(is_of_size) {
        // One that another version knows is a claim to look at, too.
        let reason = Reason::from_str(&worst.reason).unwrap_or(Reason::ClaimGrowthFailed);
        let words: Vec<String> = told.chain(besides).collect();
        return tell(False, reason, words.join("; "));
    }
    let (status, reason) = match homes.growing {
        0 if is_blind => (Unknown, Reason::UsageUnknown),
        0 => (True, Reason::Applied),
        _ => (False, Reason::ClaimGrowing),
    };
    let most = home.max_size.as_ref().filter(|max| **max > home.size);
    let most = most
        .map(|max| format!(", {max} at most"))
        .unwrap_or_default();
    let all = format!("homes of {}{most}: {}", home.size, homes.claims);
    let words: Vec<String> = [all].into_iter().chain(besides).chain(told).collect();
    tell(status, reason, words.join("; "))
}

/// The first claims of which this was found, and how many more there are.
fn some_of(reason: Reason, homes: &HomesStatus) -> Option<String> {
    let reason = reason.to_string();
    let count = homes.found.iter().find(|found| found.reason == reason)?;
    let of_it = homes.findings.iter().filter(|found| found.reason == reason);
    let mut told: Vec<String> = of_it
        .take(TOLD)
        .map(|found| format!("{} {}", found.claim, found.message))
        .collect();
    let more = usize::try_from(count.claims).unwrap_or_default();
    let more = more.saturating_sub(told.len());
    if more > 0 {
        told.push(format!(
            "and {more} more with {reason}, in status.homes.findings"
        ));
    }
    Some(told.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn said(homes: Value) -> (ConditionStatus, Reason, String) {
        let hub: HubStorage = serde_json::from_value(json!({
            "metadata": {"name": "earth", "generation": 4},
            "spec": {
                "providerRef": {"name": "minio"}, "buckets": [{"name": "scratch"}],
                "home": {"type": "Claim", "size": "10Gi", "maxSize": "50Gi"},
            },
            "status": {"homes": homes},
        }))
        .unwrap();
        let Verdict {
            status,
            reason,
            message,
            ..
        } = verdict(&hub, &Step::Done).unwrap();
        (status, reason, message)
    }

    fn known(mut homes: Value, findings: Vec<Value>) -> Value {
        homes["observedGeneration"] = json!(4);
        let reasons = findings
            .iter()
            .map(|found| found["reason"].as_str().unwrap());
        let mut counts: Vec<(&str, i32)> = Vec::new();
        for reason in reasons {
            match counts.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, count)) => *count += 1,
                None => counts.push((reason, 1)),
            }
        }
        let counts = counts.into_iter();
        let counts = counts.map(|(reason, claims)| json!({"reason": reason, "claims": claims}));
        homes["found"] = counts.collect();
        homes["findings"] = findings.into();
        homes
    }

    fn finding(claim: &str, reason: &str) -> Value {
        json!({"claim": claim, "reason": reason, "message": "has a problem"})
    }

    #[test]
    fn before_anybody_has_looked_at_this_spec_nobody_knows() {
        for homes in [Value::Null, json!({"claims": 7, "observedGeneration": 3})] {
            let (status, reason, _) = said(homes);
            assert_eq!((status, reason), (Unknown, Reason::Progressing));
        }
    }

    #[test]
    fn homes_that_wait_for_their_server_are_as_declared_and_those_that_grow_are_not_yet() {
        let (status, reason, message) =
            said(known(json!({"claims": 7, "awaitingServer": 2}), vec![]));
        assert_eq!((status, reason), (True, Reason::Applied));
        assert_eq!(
            message,
            "homes of 10Gi, 50Gi at most: 7; 2 grow when a server mounts them"
        );
        let (status, reason, message) = said(known(json!({"claims": 7, "growing": 3}), vec![]));
        assert_eq!((status, reason), (False, Reason::ClaimGrowing));
        assert!(message.contains("3 are growing"), "{message}");
    }

    #[test]
    fn what_somebody_has_to_do_something_about_is_told_and_duplicates_are_no_matter_of_size() {
        let duplicate = finding("claim-a", "ClaimDuplicate");
        let (status, reason, message) = said(known(json!({"claims": 2}), vec![duplicate]));
        assert_eq!((status, reason), (True, Reason::Applied));
        assert!(message.contains("claim-a has a problem"), "{message}");

        let mut findings = vec![finding("claim-6", "ClaimNotExpandable")];
        findings.extend((1..=5).map(|number| finding(&format!("claim-{number}"), "ClaimTooLarge")));
        let (status, reason, message) = said(known(json!({"claims": 9}), findings));
        assert_eq!((status, reason), (False, Reason::ClaimNotExpandable));
        for words in ["claim-6 has a problem", "claim-3", "and 2 more"] {
            assert!(message.contains(words), "{message}");
        }
    }
}
