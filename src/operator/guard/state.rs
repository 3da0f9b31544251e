//! Whether the guard in the cluster is ours, and since when.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use kube::core::DynamicObject;
use serde_json::Value;

use super::{Document, GuardKind};

/// How long after a change the policies are taken to be in force on every API server.
///
/// The API server takes up changes once a second: on Kubernetes 1.36 a policy refused its first
/// request at most 1.02 s after it was created or put back (20 tries). The
/// rest is for a loaded API server, for several of them, and for times in whole seconds.
pub const SETTLING: SignedDuration = SignedDuration::from_secs(5);

/// What is known of the guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuardState {
    /// Something is absent, changed or not known: nothing may be vended.
    Missing {
        /// The object and the field, for people.
        why: String,
    },
    /// All policies are ours and in force.
    InForce {
        /// Pods created before were not guarded all along.
        since: Timestamp,
    },
}

/// An object of the guard as the API server has it.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The object.
    pub object: DynamicObject,
    /// When this process first saw it in this generation.
    pub first_seen: Timestamp,
}

/// Compares what is in the cluster with what should be there.
pub fn judge(wanted: &[Document], observed: &HashMap<(GuardKind, String), Observed>) -> GuardState {
    let mut since = Timestamp::MIN;
    for document in wanted {
        let key = (document.kind, document.name.to_owned());
        let judged = observed
            .get(&key)
            .ok_or_else(|| "it does not exist".to_owned())
            .and_then(|observed| {
                difference(document, &observed.object).and_then(|()| unchanged_since(observed))
            });
        match judged {
            Ok(time) => since = since.max(time),
            Err(why) => {
                return GuardState::Missing {
                    why: format!(
                        "{} {}: {why}; delete it where it exists, and install again, which makes it anew",
                        document.kind.name(),
                        document.name
                    ),
                };
            }
        }
    }
    GuardState::InForce {
        since: since.checked_add(SETTLING).unwrap_or(Timestamp::MAX),
    }
}

fn difference(wanted: &Document, observed: &DynamicObject) -> Result<(), String> {
    if observed.metadata.deletion_timestamp.is_some() {
        return Err("it is being deleted".to_owned());
    }
    let spec = observed.data.get("spec").unwrap_or(&Value::Null);
    match first_difference("spec", &wanted.spec, spec) {
        None => Ok(()),
        Some(field) => Err(format!("{field} is not as it should be")),
    }
}

/// The path of the first field in which two values differ.
fn first_difference(path: &str, wanted: &Value, observed: &Value) -> Option<String> {
    match (wanted, observed) {
        (Value::Object(wanted), Value::Object(observed)) => {
            let inside = |(key, value): (&String, &Value)| {
                first_difference(
                    &format!("{path}.{key}"),
                    value,
                    observed.get(key).unwrap_or(&Value::Null),
                )
            };
            let extra = || {
                observed
                    .keys()
                    .find(|key| !wanted.contains_key(*key))
                    .map(|key| format!("{path}.{key}"))
            };
            wanted.iter().find_map(inside).or_else(extra)
        }
        (Value::Array(wanted), Value::Array(observed)) if wanted.len() == observed.len() => wanted
            .iter()
            .zip(observed)
            .enumerate()
            .find_map(|(index, (wanted, observed))| {
                first_difference(&format!("{path}[{index}]"), wanted, observed)
            }),
        (wanted, observed) => (wanted != observed).then(|| path.to_owned()),
    }
}

/// The latest moment at which the object may have been another one.
///
/// Its generation moves with every change of the spec. Which of the managers' entries made the
/// last one is not recorded, so the newest counts; an edit of a label after the first change of
/// the spec then counts too, which errs on the safe side.
fn unchanged_since(observed: &Observed) -> Result<Timestamp, String> {
    let metadata = &observed.object.metadata;
    let created = metadata
        .creation_timestamp
        .as_ref()
        .ok_or("it has no creationTimestamp")?
        .0;
    if metadata.generation == Some(1) {
        return Ok(created);
    }
    let newest = metadata
        .managed_fields
        .iter()
        .flatten()
        .filter(|entry| entry.subresource.as_deref() != Some("status"))
        .filter_map(|entry| entry.time.as_ref().map(|time| time.0))
        .max();
    // Whoever may edit the object may also clear its managed fields.
    Ok(created.max(newest.unwrap_or(observed.first_seen)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::documents;
    use serde_json::json;

    const SEEN: &str = "2026-05-01T00:00:00Z";

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    fn in_force_since(time: &str) -> GuardState {
        GuardState::InForce {
            since: at(time) + SETTLING,
        }
    }

    /// The cluster as it is after `hubstorage manifests | kubectl apply`.
    fn cluster() -> HashMap<(GuardKind, String), Observed> {
        documents()
            .into_iter()
            .map(|document| {
                let mut object = document.object();
                object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
                object["metadata"]["generation"] = json!(1);
                let object = serde_json::from_value(object).unwrap();
                (
                    (document.kind, document.name.to_owned()),
                    Observed {
                        object,
                        first_seen: at(SEEN),
                    },
                )
            })
            .collect()
    }

    fn edit(
        name: &str,
        kind: GuardKind,
        change: impl FnOnce(&mut Value),
    ) -> HashMap<(GuardKind, String), Observed> {
        let mut cluster = cluster();
        let observed = cluster.get_mut(&(kind, name.to_owned())).unwrap();
        let mut object = serde_json::to_value(&observed.object).unwrap();
        change(&mut object);
        observed.object = serde_json::from_value(object).unwrap();
        cluster
    }

    fn why(state: GuardState) -> String {
        match state {
            GuardState::Missing { why } => why,
            GuardState::InForce { .. } => panic!("the guard was taken for ours"),
        }
    }

    #[test]
    fn the_guard_is_in_force_since_its_youngest_object_and_the_time_to_settle() {
        let cluster = edit("hubstorage-token-volume", GuardKind::Binding, |object| {
            object["metadata"]["creationTimestamp"] = json!("2026-02-02T00:00:00Z");
        });
        assert_eq!(
            judge(&documents(), &cluster),
            in_force_since("2026-02-02T00:00:00Z")
        );
    }

    #[test]
    fn every_single_object_is_needed() {
        for document in documents() {
            let mut cluster = cluster();
            cluster.remove(&(document.kind, document.name.to_owned()));
            let why = why(judge(&documents(), &cluster));
            assert!(
                why.starts_with(&format!(
                    "{} {}: it does not exist",
                    document.kind.name(),
                    document.name
                )),
                "{why}"
            );
        }
    }

    #[test]
    fn a_changed_field_is_named() {
        let weaker = edit("hubstorage-pod-changes", GuardKind::Policy, |object| {
            object["spec"]["validations"][1]["expression"] = json!("true");
        });
        let why = why(judge(&documents(), &weaker));
        assert!(
            why.contains("hubstorage-pod-changes: spec.validations[1].expression"),
            "{why}"
        );
    }

    #[test]
    fn a_field_that_was_added_is_a_change() {
        for (kind, field, value) in [
            (
                GuardKind::Policy,
                "matchConditions",
                json!([{"name": "never", "expression": "false"}]),
            ),
            (
                GuardKind::Binding,
                "matchResources",
                json!({"namespaceSelector": {"matchLabels": {"a": "b"}}}),
            ),
            (GuardKind::Binding, "paramRef", json!({"name": "x"})),
        ] {
            let weaker = edit("hubstorage-pod-creation", kind, |object| {
                object["spec"][field] = value
            });
            let why = why(judge(&documents(), &weaker));
            assert!(
                why.contains(&format!("hubstorage-pod-creation: spec.{field}")),
                "{why}"
            );
        }
    }

    #[test]
    fn a_binding_that_only_warns_is_a_change() {
        let weaker = edit("hubstorage-pod-binding", GuardKind::Binding, |object| {
            object["spec"]["validationActions"] = json!(["Warn"]);
        });
        assert!(why(judge(&documents(), &weaker)).contains("spec.validationActions[0]"));
    }

    #[test]
    fn an_object_that_is_being_deleted_is_missing() {
        let going = edit("hubstorage-pod-binding", GuardKind::Policy, |object| {
            object["metadata"]["deletionTimestamp"] = json!("2026-02-02T00:00:00Z");
        });
        assert!(why(judge(&documents(), &going)).contains("being deleted"));
    }

    #[test]
    fn a_guard_that_was_changed_and_put_back_counts_from_then() {
        let put_back = edit("hubstorage-pod-creation", GuardKind::Policy, |object| {
            object["metadata"]["generation"] = json!(3);
            object["metadata"]["managedFields"] = json!([
                {"manager": "kubectl", "operation": "Apply", "time": "2026-03-03T00:00:00Z"},
                {"manager": "someone", "operation": "Update", "time": "2026-03-02T00:00:00Z"},
                {"manager": "kube-controller-manager", "subresource": "status", "time": "2026-04-04T00:00:00Z"},
            ]);
        });
        assert_eq!(
            judge(&documents(), &put_back),
            in_force_since("2026-03-03T00:00:00Z")
        );
    }

    #[test]
    fn a_changed_object_without_managed_fields_counts_from_when_it_was_first_seen() {
        let cleared = edit("hubstorage-pod-creation", GuardKind::Policy, |object| {
            object["metadata"]["generation"] = json!(3);
        });
        assert_eq!(judge(&documents(), &cleared), in_force_since(SEEN));
    }
}
