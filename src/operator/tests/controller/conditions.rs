//! What status has to be like after every reconcile, whatever happened in it.
//!
//! The rules are those that kstatus implies, and that Flux checks its controllers by
//! (`fluxcd/pkg`, `runtime/conditions/check`).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// Status of one object, as far as the rules look at it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub generation: i64,
    pub observed_generation: i64,
    pub conditions: Vec<Condition>,
}

/// The rules that `now` breaks, coming from `before`.
pub fn broken_rules(before: Option<&Seen>, now: &Seen) -> Vec<String> {
    let mut broken = Vec::new();
    let mut rule = |holds: bool, text: &str| {
        if !holds {
            broken.push(text.to_owned());
        }
    };
    let find = |type_: &str| {
        now.conditions
            .iter()
            .find(|condition| condition.type_ == type_)
    };
    let is = |type_: &str, status: &str| find(type_).is_some_and(|found| found.status == status);

    let never_looked_at = now.observed_generation == -1 && now.conditions.is_empty();
    rule(
        find("Ready").is_some() || never_looked_at,
        "Ready is always present",
    );
    rule(
        !(is("Ready", "True") && (is("Reconciling", "True") || is("Stalled", "True"))),
        "Ready is not True while Reconciling or Stalled is",
    );
    rule(
        !(is("Reconciling", "True") && is("Stalled", "True")),
        "Reconciling and Stalled are never both True",
    );
    rule(
        !is("Ready", "False") || is("Reconciling", "True") || is("Stalled", "True"),
        "where Ready is False, Reconciling or Stalled says what becomes of it",
    );
    rule(
        !is("Ready", "Unknown") || is("Reconciling", "True"),
        "where Ready is Unknown, Reconciling is True",
    );
    rule(
        !(is("Ready", "True") && is("IsolationReady", "False")),
        "Ready is not True while IsolationReady is False",
    );
    rule(
        ["Reconciling", "Stalled"]
            .iter()
            .all(|type_| find(type_).is_none() || is(type_, "True")),
        "Reconciling and Stalled are absent where they are not True",
    );
    rule(
        now.observed_generation <= now.generation,
        "observedGeneration is not ahead of the spec",
    );
    let generations = || {
        now.conditions
            .iter()
            .map(|condition| condition.observed_generation)
    };
    rule(
        generations().all(|observed| observed.is_some_and(|observed| observed <= now.generation)),
        "every condition has an observedGeneration, and none is ahead of the spec",
    );
    rule(
        !is("Ready", "True")
            || generations().all(|observed| observed == Some(now.observed_generation)),
        "where Ready is True, all conditions are of the observed generation",
    );
    let types = now.conditions.iter().map(|condition| &condition.type_);
    rule(
        types
            .clone()
            .collect::<std::collections::BTreeSet<_>>()
            .len()
            == types.count(),
        "a type stands once",
    );
    for condition in &now.conditions {
        let said = &condition.type_;
        rule(
            !condition.message.is_empty(),
            &format!("{said} has a message"),
        );
        let is_camel_case = condition
            .reason
            .starts_with(|c: char| c.is_ascii_uppercase())
            && condition.reason.chars().all(|c| c.is_ascii_alphanumeric());
        rule(is_camel_case, &format!("{said} has a reason in CamelCase"));
        let was = before.and_then(|before| before.conditions.iter().find(|was| was.type_ == *said));
        if let Some(was) = was {
            let (same_status, same_time) = (
                was.status == condition.status,
                was.last_transition_time == condition.last_transition_time,
            );
            rule(
                !same_status || same_time,
                &format!("lastTransitionTime of {said} moves only when its status does"),
            );
            rule(
                was.last_transition_time.0 <= condition.last_transition_time.0,
                &format!("lastTransitionTime of {said} never goes back"),
            );
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    fn seen(conditions: &[(&str, &str)]) -> Seen {
        let condition = |(type_, status): &(&str, &str)| Condition {
            last_transition_time: Time(Timestamp::from_second(1).unwrap()),
            message: "why".to_owned(),
            observed_generation: Some(2),
            reason: "Because".to_owned(),
            status: (*status).to_owned(),
            type_: (*type_).to_owned(),
        };
        Seen {
            generation: 2,
            observed_generation: 2,
            conditions: conditions.iter().map(condition).collect(),
        }
    }

    #[test]
    fn a_status_as_it_should_be_breaks_no_rule() {
        for fine in [
            seen(&[("Ready", "True"), ("BucketsReady", "True")]),
            seen(&[("Ready", "False"), ("Stalled", "True")]),
            Seen {
                generation: 1,
                observed_generation: -1,
                conditions: Vec::new(),
            },
        ] {
            assert_eq!(broken_rules(Some(&fine), &fine), Vec::<String>::new());
        }
    }

    #[test]
    fn each_rule_is_noticed_when_it_is_broken() {
        let mut ahead = seen(&[("Ready", "True")]);
        ahead.conditions[0].observed_generation = Some(3);
        let mut behind = seen(&[("Ready", "True"), ("BucketsReady", "True")]);
        behind.conditions[1].observed_generation = Some(1);
        let mut silent = seen(&[("Ready", "True")]);
        silent.conditions[0].message = String::new();
        for wrong in [
            seen(&[]),
            seen(&[("Ready", "True"), ("Stalled", "True")]),
            seen(&[
                ("Ready", "False"),
                ("Stalled", "True"),
                ("Reconciling", "True"),
            ]),
            seen(&[("Ready", "False")]),
            seen(&[("Ready", "Unknown")]),
            seen(&[("Ready", "True"), ("IsolationReady", "False")]),
            seen(&[("Ready", "True"), ("Stalled", "False")]),
            seen(&[("Ready", "True"), ("Ready", "True")]),
            Seen {
                generation: 1,
                ..seen(&[("Ready", "True")])
            },
            ahead,
            behind,
            silent,
        ] {
            assert_ne!(
                broken_rules(None, &wrong),
                Vec::<String>::new(),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn a_time_that_moves_while_the_status_stays_is_noticed() {
        let before = seen(&[("Ready", "True")]);
        let mut now = before.clone();
        now.conditions[0].last_transition_time = Time(Timestamp::from_second(2).unwrap());
        assert_eq!(broken_rules(Some(&before), &now).len(), 1);
    }
}
