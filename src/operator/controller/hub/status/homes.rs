//! `HomesWithinLimit`, whether users' homes are as large as declared, and `HomesHaveRoom`, whether they are not full.
//! Pure.

use std::str::FromStr as _;

use hubstorage_core::api::{
    ConditionStatus, ConditionType, Home, HomesStatus, HubStorage, Mode, OnOversize, Reason,
    Verdict,
};
use hubstorage_core::homes::{FINDINGS_IN_ORDER, FULL};

use crate::certificates::WebhookState;
use crate::controller::Step;
use crate::controller::step::not_reached;
use crate::guard::GuardState;
use crate::manifests::{CLAIM_WEBHOOK, WEBHOOK_CONFIGURATION};

use ConditionStatus::{False, True, Unknown};
use ConditionType::{HomesHaveRoom, HomesWithinLimit};

/// Claims of one trouble that are told; `status.homes` has more of them.
const TOLD: usize = 3;

/// The verdicts on a hub whose reconcile ended in `step`, from what `status.homes` tells; none, where no homes are
/// declared.
pub(super) fn verdicts(
    hub: &HubStorage,
    step: &Step,
    webhook: WebhookState,
    policy: &GuardState,
) -> Vec<Verdict> {
    if hub.spec.home.is_none() || hub.spec.mode == Mode::Paused {
        return Vec::new();
    }
    let known = again(hub, webhook, policy);
    if !known.is_empty() {
        return known;
    }
    let of = |type_| match step {
        Step::Done => {
            let message = "not looked at yet";
            Verdict::new(type_, Unknown, Reason::Progressing, message)
        }
        _ => not_reached(type_, step),
    };
    vec![of(HomesWithinLimit), of(HomesHaveRoom)]
}

/// The same where somebody has looked at the spec as it is: what was found for an earlier one says nothing of this.
pub(super) fn again(hub: &HubStorage, webhook: WebhookState, policy: &GuardState) -> Vec<Verdict> {
    let homes = hub.status.as_ref().and_then(|status| status.homes.as_ref());
    let Some((home, homes)) = hub.spec.home.as_ref().zip(homes) else {
        return Vec::new();
    };
    let is_of_now = Some(homes.observed_generation) == hub.metadata.generation;
    if !is_of_now || hub.spec.mode == Mode::Paused {
        return Vec::new();
    }
    // In mode Observe they are let in as they are anyway.
    let is_held = hub.spec.mode == Mode::Enforce;
    let open = is_held.then(|| open(home, webhook, policy)).flatten();
    vec![within_limit(home, homes, open), have_room(homes)]
}

/// Why new claims are let in as large as somebody asks for.
fn open(home: &Home, webhook: WebhookState, policy: &GuardState) -> Option<(Reason, String)> {
    if !is_for_claims(webhook) {
        let why = format!(
            "new homes are as large as somebody asks for: MutatingWebhookConfiguration {WEBHOOK_CONFIGURATION} has no webhook {CLAIM_WEBHOOK}; \
             install again"
        );
        return Some((Reason::WebhookMissing, why));
    }
    match policy {
        GuardState::Missing { why } if home.on_oversize == OnOversize::Deny => {
            let why = format!("new homes that ask for too much may be let in: {why}");
            Some((Reason::PolicyMissing, why))
        }
        _ => None,
    }
}

/// Whether new claims are given a size, or will be in a moment.
fn is_for_claims(webhook: WebhookState) -> bool {
    match webhook {
        WebhookState::Missing => false,
        WebhookState::AuthorityMismatch => true,
        WebhookState::Registered { for_claims, .. } => for_claims,
    }
}

/// `open` is why new claims are let in as large as somebody asks for.
fn within_limit(home: &Home, homes: &HomesStatus, open: Option<(Reason, String)>) -> Verdict {
    let tell = |status, reason, words: Vec<String>| {
        Verdict::new(HomesWithinLimit, status, reason, words.join("; "))
    };
    let told = FINDINGS_IN_ORDER
        .iter()
        .filter(|reason| **reason != Reason::ClaimFull)
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
    let (open, why_open) = open.unzip();
    let besides = progress
        .into_iter()
        .flatten()
        .chain(left_out)
        .chain(why_open);
    // Full homes, and two for one server, are as large as declared.
    let others = [Reason::ClaimFull, Reason::ClaimDuplicate].map(|reason| reason.to_string());
    let mut of_size = homes.found.iter();
    if let Some(worst) = of_size.find(|found| !others.contains(&found.reason)) {
        // One that another version knows is a claim to look at, too.
        let reason = Reason::from_str(&worst.reason).unwrap_or(Reason::ClaimGrowthFailed);
        return tell(False, reason, told.chain(besides).collect());
    }
    let (status, reason) = match (open, homes.growing) {
        (Some(reason), _) => (False, reason),
        (None, 0) => (True, Reason::Applied),
        (None, _) => (False, Reason::ClaimGrowing),
    };
    let most = home.max_size.as_ref().filter(|max| **max > home.size);
    let most = most
        .map(|max| format!(", {max} at most"))
        .unwrap_or_default();
    let all = format!("homes of {}{most}: {}", home.size, homes.claims);
    let words = [all].into_iter().chain(besides).chain(told);
    tell(status, reason, words.collect())
}

fn have_room(homes: &HomesStatus) -> Verdict {
    let full = some_of(Reason::ClaimFull, homes);
    let (status, reason) = match (&full, &homes.usage_unknown) {
        (Some(_), _) => (False, Reason::ClaimFull),
        (None, Some(_)) => (Unknown, Reason::UsageUnknown),
        (None, None) => (True, Reason::Applied),
    };
    let words: Vec<String> = full
        .into_iter()
        .chain(homes.usage_unknown.clone())
        .collect();
    let message = match words.is_empty() {
        true => format!("no home that was looked at stays {FULL} % full"),
        false => words.join("; "),
    };
    Verdict::new(HomesHaveRoom, status, reason, message)
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
    use crate::certificates::Address;
    use serde_json::{Value, json};

    const REGISTERED: WebhookState = WebhookState::Registered {
        address: Address::Service,
        for_claims: true,
    };

    const IN_FORCE: GuardState = GuardState::InForce {
        since: jiff::Timestamp::UNIX_EPOCH,
    };

    /// What is said of the size of homes.
    fn said(homes: Value) -> (ConditionStatus, Reason, String) {
        said_of(HomesWithinLimit, homes)
    }

    fn said_of(type_: ConditionType, homes: Value) -> (ConditionStatus, Reason, String) {
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
        } = verdicts(&hub, &Step::Done, REGISTERED, &IN_FORCE)
            .into_iter()
            .find(|told| told.type_ == type_)
            .unwrap();
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

    #[test]
    fn a_full_home_is_as_large_as_declared_and_has_no_room() {
        let full = known(json!({"claims": 2}), vec![finding("claim-a", "ClaimFull")]);
        let (status, reason, message) = said(full.clone());
        assert_eq!((status, reason), (True, Reason::Applied));
        assert!(!message.contains("claim-a"), "{message}");
        let (status, reason, message) = said_of(HomesHaveRoom, full);
        assert_eq!((status, reason), (False, Reason::ClaimFull));
        assert_eq!(message, "claim-a has a problem");

        let blind = json!({"claims": 2, "usageUnknown": "no node tells"});
        let (status, reason, message) = said_of(HomesHaveRoom, known(blind, vec![]));
        assert_eq!((status, reason), (Unknown, Reason::UsageUnknown));
        assert_eq!(message, "no node tells");
        let (status, ..) = said_of(HomesHaveRoom, known(json!({"claims": 2}), vec![]));
        assert_eq!(status, True);
    }
}
