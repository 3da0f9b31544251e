//! `HomesWithinLimit`: whether users' homes are as large as declared. Pure.

use std::collections::BTreeMap;
use std::str::FromStr as _;

use hubstorage_core::api::{ConditionStatus, ConditionType, HubStorage, Mode, Reason, Verdict};
use hubstorage_core::homes::WORST_FIRST;

use ConditionStatus::{False, True, Unknown};
use ConditionType::HomesWithinLimit;

/// Claims of one trouble that are told; `status.homes` has more of them.
const TOLD: usize = 3;

/// The verdict, from what `status.homes` tells; nothing, where no homes are declared.
pub(super) fn verdict(hub: &HubStorage) -> Option<Verdict> {
    let home = hub.spec.home.as_ref()?;
    let tell = |status, reason, message: String| {
        Some(Verdict::new(HomesWithinLimit, status, reason, message))
    };
    let Some(homes) = hub.status.as_ref().and_then(|status| status.homes.as_ref()) else {
        return match hub.spec.mode {
            Mode::Paused => None,
            _ => tell(Unknown, Reason::Progressing, "not looked at yet".to_owned()),
        };
    };
    let mut found: BTreeMap<Reason, Vec<String>> = BTreeMap::new();
    for finding in &homes.findings {
        // One that another version knows is one more claim to look at.
        let reason = Reason::from_str(&finding.reason).unwrap_or(Reason::ClaimGrowthFailed);
        let claim = format!("{} {}", finding.claim, finding.message);
        found.entry(reason).or_default().push(claim);
    }
    let waits = |number: i32, what: &str| (number > 0).then(|| format!("{number} {what}"));
    let progress = [
        waits(homes.growing, "are growing"),
        waits(homes.awaiting_server, "grow when a server mounts them"),
    ];
    let left_out = waits(
        homes.overrides_left_out,
        "users have sizes of their own that do not count: status.homes.overrides is full",
    );
    let besides = progress.into_iter().flatten().chain(left_out);
    let told = WORST_FIRST.iter().filter_map(|reason| {
        let claims = found.get(reason)?;
        Some(some_of(claims))
    });
    // Two homes for one server are as large as declared.
    let is_of_size = |reason: &&Reason| **reason != Reason::ClaimDuplicate;
    let mut of_size = WORST_FIRST.iter().filter(is_of_size);
    if let Some(reason) = of_size.find(|reason| found.contains_key(reason)) {
        let words: Vec<String> = told.chain(besides).collect();
        return tell(False, *reason, words.join("; "));
    }
    let reason = match homes.growing {
        0 => Reason::Applied,
        _ => Reason::ClaimGrowing,
    };
    let most = home.max_size.as_ref().filter(|max| **max > home.size);
    let most = most
        .map(|max| format!(", {max} at most"))
        .unwrap_or_default();
    let all = format!("homes of {}{most}: {}", home.size, homes.claims);
    let words: Vec<String> = [all].into_iter().chain(besides).chain(told).collect();
    let status = if homes.growing == 0 { True } else { False };
    tell(status, reason, words.join("; "))
}

/// The first of them, and how many more there are.
fn some_of(claims: &[String]) -> String {
    let told = claims[..claims.len().min(TOLD)].join("; ");
    match claims.len().saturating_sub(TOLD) {
        0 => told,
        more => format!("{told}; and {more} more, in status.homes.findings"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn said(homes: Value) -> (ConditionStatus, Reason, String) {
        let hub: HubStorage = serde_json::from_value(json!({
            "metadata": {"name": "earth"},
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
        } = verdict(&hub).unwrap();
        (status, reason, message)
    }

    fn finding(claim: &str, reason: &str) -> Value {
        json!({"claim": claim, "reason": reason, "message": "has a problem"})
    }

    #[test]
    fn before_anybody_has_looked_nobody_knows() {
        let (status, reason, _) = said(Value::Null);
        assert_eq!((status, reason), (Unknown, Reason::Progressing));
    }

    #[test]
    fn homes_that_wait_for_their_server_are_as_declared_and_those_that_grow_are_not_yet() {
        let (status, reason, message) = said(json!({"claims": 7, "awaitingServer": 2}));
        assert_eq!((status, reason), (True, Reason::Applied));
        assert_eq!(
            message,
            "homes of 10Gi, 50Gi at most: 7; 2 grow when a server mounts them"
        );
        let (status, reason, message) = said(json!({"claims": 7, "growing": 3}));
        assert_eq!((status, reason), (False, Reason::ClaimGrowing));
        assert!(message.contains("3 are growing"), "{message}");
    }

    #[test]
    fn what_somebody_has_to_do_something_about_is_told_and_duplicates_are_no_matter_of_size() {
        let duplicate = finding("claim-a", "ClaimDuplicate");
        let (status, reason, message) = said(json!({"claims": 2, "findings": [duplicate]}));
        assert_eq!((status, reason), (True, Reason::Applied));
        assert!(message.contains("claim-a has a problem"), "{message}");

        let mut findings: Vec<Value> = (1..=5)
            .map(|number| finding(&format!("claim-{number}"), "ClaimTooLarge"))
            .collect();
        findings.push(finding("claim-6", "ClaimNotExpandable"));
        let (status, reason, message) = said(json!({"claims": 9, "findings": findings}));
        assert_eq!((status, reason), (False, Reason::ClaimNotExpandable));
        for words in ["claim-6 has a problem", "claim-3", "and 2 more"] {
            assert!(message.contains(words), "{message}");
        }
    }
}
