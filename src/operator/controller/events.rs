//! Events: one for each thing that was done, one when `Ready` or `InjectionReady` changes, and one
//! on each user pod that was missed; none while nothing does.

use hubstorage_core::api::{ConditionType, HubStorage, Reason, condition};
use hubstorage_core::plan::Action;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use kube::api::{ObjectMeta, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource as _, ResourceExt as _};

use super::ApiFailure;

/// Longest note that the API server takes, in bytes (`NoteLengthLimit`, events.k8s.io/v1).
const LONGEST_NOTE: usize = 1024;

/// Publishes events. One that cannot be published is logged and forgotten: nothing depends
/// on it.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
    client: Client,
}

impl Events {
    /// Events of the controller.
    pub fn new(client: Client) -> Self {
        let reporter = Reporter {
            controller: super::FIELD_MANAGER.to_owned(),
            instance: None,
        };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
        }
    }

    /// Tells of an action that was carried out. Drift is a warning: somebody changed the store.
    pub async fn done(&self, about: &ObjectReference, action: &Action) {
        let type_ = match action.reason() {
            Reason::DriftCorrected => EventType::Warning,
            _ => EventType::Normal,
        };
        let event = told(type_, action.reason(), action.verb(), action.to_string());
        let secondary = Some(bucket(&action.bucket().to_string()));
        self.publish(about, Event { secondary, ..event }).await;
    }

    /// Tells that a bucket stays in the store.
    pub async fn retained(&self, about: &ObjectReference, name: &str, note: &str) {
        self.ended(about, Reason::BucketRetained, name, note).await;
    }

    /// Tells that a bucket was deleted.
    pub async fn deleted(&self, about: &ObjectReference, name: &str, note: &str) {
        self.ended(about, Reason::BucketDeleted, name, note).await;
    }

    async fn ended(&self, about: &ObjectReference, reason: Reason, name: &str, note: &str) {
        let event = told(EventType::Normal, reason, "Delete", note.to_owned());
        let secondary = Some(bucket(name));
        self.publish(about, Event { secondary, ..event }).await;
    }

    /// Tells of `Ready`, if its status or reason is not what it was, and of `InjectionReady`, which
    /// does not always move it, unless that would say the same again.
    pub async fn transition(
        &self,
        about: &ObjectReference,
        before: &[Condition],
        after: &[Condition],
    ) {
        let mut told_reason = None;
        for type_ in [ConditionType::Ready, ConditionType::InjectionReady] {
            let Some(is) = condition(after, type_) else {
                continue;
            };
            let was = condition(before, type_);
            let is_news =
                was.is_none_or(|was| (&was.status, &was.reason) != (&is.status, &is.reason));
            // That all is well again is told by `Ready` alone.
            let is_said = told_reason.is_some_and(|told| told == &is.reason || is.status == "True");
            if !is_news || is_said {
                continue;
            }
            let kind = match is.status.as_str() {
                "False" => EventType::Warning,
                _ => EventType::Normal,
            };
            let event = told(kind, &is.reason, "Reconcile", is.message.clone());
            self.publish(about, event).await;
            told_reason = Some(&is.reason);
        }
    }

    /// Tells on a user's pod, seen at `now`, that the webhook did not see it; whether the event is
    /// there now. It is named by the pod's UID: one for each pod, whoever publishes it and how
    /// often.
    pub async fn not_injected(
        &self,
        pod: &PartialObjectMeta<Pod>,
        hub: &HubStorage,
        now: Timestamp,
    ) -> bool {
        let note = format!(
            "HubStorage {} gives this pod nothing: it was created while the webhook did not answer, or before it was \
             there. It has neither the environment nor credentials. Stop the server and start it again",
            hub.name_any()
        );
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let event = k8s_openapi::api::events::v1::Event {
            metadata: ObjectMeta {
                name: Some(format!(
                    "hubstorage-not-injected.{}",
                    pod.uid().unwrap_or_default()
                )),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            action: Some("Admit".to_owned()),
            event_time: Some(MicroTime(now)),
            note: Some(note),
            reason: Some(Reason::NotInjected.to_string()),
            regarding: Some(pod.object_ref(&())),
            related: Some(hub.object_ref(&())),
            reporting_controller: Some(super::FIELD_MANAGER.to_owned()),
            reporting_instance: Some(super::FIELD_MANAGER.to_owned()),
            type_: Some("Warning".to_owned()),
            ..Default::default()
        };
        let events = Api::namespaced(self.client.clone(), &namespace);
        match events.create(&PostParams::default(), &event).await {
            Ok(_) => true,
            Err(kube::Error::Api(status)) if status.is_already_exists() => true,
            Err(error) => {
                let (name, error) = (pod.name_any(), ApiFailure::from(error));
                tracing::warn!(namespace, pod = name, %error, "an event was not published");
                false
            }
        }
    }

    async fn publish(&self, about: &ObjectReference, event: Event) {
        if let Err(error) = self
            .recorder
            .publish(&event, about)
            .await
            .map_err(ApiFailure::from)
        {
            let reason = &event.reason;
            tracing::warn!(reason, object = about.name, %error, "an event was not published");
        }
    }
}

/// A bucket as the second object of an event: events of one reason about two buckets are not taken
/// for the same one told again, which would keep the first one's note.
fn bucket(name: &str) -> ObjectReference {
    ObjectReference {
        kind: Some("Bucket".to_owned()),
        name: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}

/// An event with a note that the API server takes.
fn told(type_: EventType, reason: impl ToString, action: &str, mut note: String) -> Event {
    note.truncate(note.floor_char_boundary(LONGEST_NOTE));
    Event {
        type_,
        reason: reason.to_string(),
        note: Some(note),
        action: action.to_owned(),
        secondary: None,
    }
}
