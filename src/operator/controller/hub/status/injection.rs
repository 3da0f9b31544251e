//! `InjectionReady`: whether new pods are given what they need, and running ones have it. Pure.

use hubstorage_core::api::{
    AGENTS_NAMESPACE, ConditionStatus, ConditionType, Reason, SYSTEM_NAMESPACE, Verdict,
};

use crate::certificates::{Address, WebhookState};
use crate::controller::{AgentsGap, Parts};
use crate::manifests::{AGENTS, SERVE_SERVICE};

/// Pods that are named; the others are counted.
const NAMED: usize = 3;

type Gap = (Reason, String);

/// The verdict: the reason is that of the first gap, what new pods lack before what old ones do;
/// the message tells of all. `missed` are names of pods, in order.
pub fn verdict(webhook: WebhookState, parts: Parts, missed: &[String]) -> Verdict {
    let gaps = [
        of_webhook(webhook, parts),
        parts.agents.map(of_agents),
        of_pods(missed),
    ];
    let gaps: Vec<Gap> = gaps.into_iter().flatten().collect();
    let Some((reason, _)) = gaps.first() else {
        return Verdict::new(
            ConditionType::InjectionReady,
            ConditionStatus::True,
            Reason::Applied,
            "new user pods are given their storage by the webhook, the agents run, and no running pod was missed",
        );
    };
    let messages: Vec<&str> = gaps.iter().map(|(_, message)| message.as_str()).collect();
    Verdict::new(
        ConditionType::InjectionReady,
        ConditionStatus::False,
        *reason,
        messages.join(" "),
    )
}

fn of_webhook(webhook: WebhookState, parts: Parts) -> Option<Gap> {
    let told = |reason: Reason| Some((reason, reason.meaning().to_owned()));
    match webhook {
        WebhookState::Missing => told(Reason::WebhookMissing),
        WebhookState::AuthorityMismatch => told(Reason::CertificateAuthorityMismatch),
        WebhookState::Registered {
            address: Address::Service,
            ..
        } if parts.serve_is_gone => Some((
            Reason::WebhookUnavailable,
            format!(
                "Service {SYSTEM_NAMESPACE}/{SERVE_SERVICE} has no endpoint that is ready: new pods are given nothing, \
                 and credentials are not renewed. `kubectl get pods -n {SYSTEM_NAMESPACE}` shows why; credentials come \
                 back by themselves."
            ),
        )),
        WebhookState::Registered { .. } => None,
    }
}

fn of_agents(gap: AgentsGap) -> Gap {
    let agents = format!("DaemonSet {AGENTS_NAMESPACE}/{AGENTS}");
    let message = match gap {
        AgentsGap::Missing { on, of } => format!(
            "The agent runs on {on} of {of} nodes ({agents}), and pods on the others get no credentials. \
             `kubectl get pods -n {AGENTS_NAMESPACE} -o wide` shows why; credentials come by themselves when it is \
             back."
        ),
        AgentsGap::NoNode => format!(
            "The agent runs on no node, because {agents} selects none, and pods get no credentials. Correct its \
             nodeSelector, affinity and tolerations; credentials come by themselves when it runs."
        ),
        AgentsGap::Unobserved => format!(
            "Whether the agent runs is not known: the status of {agents} is older than its spec. See that \
             kube-controller-manager runs."
        ),
        AgentsGap::Unwatched => format!(
            "Whether serve and the agent run is not known, because Service {SYSTEM_NAMESPACE}/{SERVE_SERVICE} and \
             {agents} cannot be watched. The log of the controller says why."
        ),
    };
    (Reason::AgentsUnavailable, message)
}

fn of_pods(missed: &[String]) -> Option<Gap> {
    if missed.is_empty() {
        return None;
    }
    Some((
        Reason::NotInjected,
        format!(
            "User pods without storage, because the webhook did not see them: {}. Stop these servers and start them \
             again.",
            some_of(missed)
        ),
    ))
}

/// How many there are, and the first of their names.
pub(super) fn some_of(pods: &[String]) -> String {
    let names = pods[..pods.len().min(NAMED)].join(", ");
    match pods.len().saturating_sub(NAMED) {
        0 => format!("{}: {names}", pods.len()),
        more => format!("{}: {names} and {more} more", pods.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTERED: WebhookState = WebhookState::Registered {
        address: Address::Service,
        for_claims: true,
    };
    const GONE: Parts = Parts {
        serve_is_gone: true,
        agents: None,
    };

    fn said(webhook: WebhookState, parts: Parts, missed: &[&str]) -> (Reason, String) {
        let missed: Vec<String> = missed.iter().map(ToString::to_string).collect();
        let verdict = verdict(webhook, parts, &missed);
        let is_true = verdict.status == ConditionStatus::True;
        assert_eq!(is_true, verdict.reason == Reason::Applied, "{verdict:?}");
        (verdict.reason, verdict.message)
    }

    fn agents(gap: AgentsGap) -> Parts {
        Parts {
            serve_is_gone: false,
            agents: Some(gap),
        }
    }

    #[test]
    fn where_all_runs_and_no_pod_was_missed_all_is_well() {
        assert_eq!(said(REGISTERED, Parts::default(), &[]).0, Reason::Applied);
    }

    #[test]
    fn a_service_without_endpoints_matters_where_the_webhook_is_called_there() {
        let (reason, message) = said(REGISTERED, GONE, &[]);
        assert_eq!(reason, Reason::WebhookUnavailable);
        assert!(message.contains("hubstorage-system/hubstorage-serve"));
        let elsewhere = WebhookState::Registered {
            address: Address::Elsewhere,
            for_claims: true,
        };
        assert_eq!(said(elsewhere, GONE, &[]).0, Reason::Applied);
    }

    #[test]
    fn a_webhook_that_is_not_registered_goes_before_one_that_does_not_run() {
        let (reason, message) = said(WebhookState::Missing, GONE, &[]);
        assert_eq!(reason, Reason::WebhookMissing);
        assert!(!message.contains("endpoint"), "{message}");
    }

    #[test]
    fn each_gap_of_the_agents_says_what_to_look_at() {
        for (gap, words) in [
            (AgentsGap::Missing { on: 1, of: 3 }, "on 1 of 3 nodes"),
            (AgentsGap::NoNode, "nodeSelector"),
            (AgentsGap::Unobserved, "kube-controller-manager"),
        ] {
            let (reason, message) = said(REGISTERED, agents(gap), &[]);
            assert_eq!(reason, Reason::AgentsUnavailable);
            assert!(message.contains(words), "{message}");
            assert!(message.contains("hubstorage-agents/hubstorage-agent"));
        }
    }

    #[test]
    fn up_to_three_missed_pods_are_named_and_all_are_counted() {
        for (missed, words) in [
            (&["a"][..], ": 1: a. "),
            (&["a", "b", "c"], ": 3: a, b, c. "),
            (&["a", "b", "c", "d", "e"], ": 5: a, b, c and 2 more. "),
        ] {
            let (reason, message) = said(REGISTERED, Parts::default(), missed);
            assert_eq!(reason, Reason::NotInjected);
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn what_new_pods_lack_gives_the_reason_and_everything_is_told() {
        let gap = AgentsGap::Missing { on: 0, of: 1 };
        let both = Parts {
            agents: Some(gap),
            ..GONE
        };
        let (reason, message) = said(REGISTERED, both, &["jupyter-bob"]);
        assert_eq!(reason, Reason::WebhookUnavailable);
        for words in ["no endpoint", "on 0 of 1 nodes", "jupyter-bob"] {
            assert!(message.contains(words), "{message}");
        }
    }
}
