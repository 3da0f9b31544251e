//! Events: one for each thing that was done, and one when `Ready` changes; none while nothing
//! does.

use hubstorage_core::api::{ConditionType, Reason, condition};
use hubstorage_core::plan::Action;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use super::ApiFailure;

/// Longest note that the API server takes, in bytes (`NoteLengthLimit`, events.k8s.io/v1).
const LONGEST_NOTE: usize = 1024;

/// Publishes events. One that cannot be published is logged and forgotten: nothing depends
/// on it.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

impl Events {
    /// Events of the controller.
    pub fn new(client: Client) -> Self {
        let reporter = Reporter {
            controller: super::FIELD_MANAGER.to_owned(),
            instance: None,
        };
        Self {
            recorder: Recorder::new(client, reporter),
        }
    }

    /// Tells of an action that was carried out. Drift is a warning: somebody changed the store.
    pub async fn done(&self, about: &ObjectReference, action: &Action) {
        let type_ = match action.reason() {
            Reason::DriftCorrected => EventType::Warning,
            _ => EventType::Normal,
        };
        let verb = match action {
            Action::Create { .. } => "CreateBucket",
            Action::Tag { .. } => "TagBucket",
            Action::SetLifecycle { .. } => "SetLifecycleRules",
        };
        let event = told(type_, action.reason(), verb, action.to_string());
        // The bucket as the second object: events of one reason about two buckets are not taken
        // for the same one told again, which would keep the first one's note.
        let bucket = ObjectReference {
            kind: Some("Bucket".to_owned()),
            name: Some(action.bucket().to_string()),
            ..ObjectReference::default()
        };
        let secondary = Some(bucket);
        self.publish(about, Event { secondary, ..event }).await;
    }

    /// Tells which buckets stay in the store.
    pub async fn retained(&self, about: &ObjectReference, note: &str) {
        let event = told(
            EventType::Normal,
            Reason::BucketRetained,
            "Delete",
            note.to_owned(),
        );
        self.publish(about, event).await;
    }

    /// Tells of `Ready`, if its status or reason is not what it was.
    pub async fn transition(
        &self,
        about: &ObjectReference,
        before: &[Condition],
        after: &[Condition],
    ) {
        let Some(ready) = condition(after, ConditionType::Ready) else {
            return;
        };
        let was = condition(before, ConditionType::Ready);
        if was.is_some_and(|was| (&was.status, &was.reason) == (&ready.status, &ready.reason)) {
            return;
        }
        let type_ = match ready.status.as_str() {
            "False" => EventType::Warning,
            _ => EventType::Normal,
        };
        let event = told(type_, &ready.reason, "Reconcile", ready.message.clone());
        self.publish(about, event).await;
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
