//! Events: one for each thing that was done, one when `Ready` changes or a part that does not always move it, and one
//! on each user pod that was missed; none while nothing does.
//!
//! An event is named by what it says of what: told again, by whichever replica and after whatever
//! restart, it is the same event and counts on, and two notes never hide behind one of them. (The
//! library's recorder tells repetitions by reason and object, and keeps the first note.)

use hubstorage_core::api::{ConditionType, HomeFinding, HubStorage, Reason, condition};
use hubstorage_core::homes::Growth;
use hubstorage_core::names::fingerprint;
use hubstorage_core::plan::Deed;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde_json::json;

use super::ApiFailure;
use crate::clock::Clock;

/// Longest note that the API server takes, in bytes (`NoteLengthLimit`, events.k8s.io/v1).
const LONGEST_NOTE: usize = 1024;

/// Where events about objects without a namespace go (`kubectl describe` looks there).
const NAMESPACE_OF_CLUSTER_SCOPED: &str = "default";

/// Publishes events. One that cannot be published is logged and forgotten: nothing depends
/// on it.
#[derive(Clone)]
pub struct Events {
    client: Client,
    clock: Clock,
}

/// What an event says.
struct Told {
    kind: &'static str,
    reason: String,
    action: &'static str,
    note: String,
    related: Option<ObjectReference>,
}

const BUCKET: &str = "Bucket";

const NORMAL: &str = "Normal";
const WARNING: &str = "Warning";

impl Events {
    /// Events of the controller.
    pub fn new(client: Client, clock: Clock) -> Self {
        Self { client, clock }
    }

    /// Tells of an action that was carried out. Drift is a warning: somebody changed the store.
    pub async fn done(&self, about: &ObjectReference, action: &impl Deed) {
        let kind = match action.reason() {
            Reason::DriftCorrected => WARNING,
            _ => NORMAL,
        };
        let told = Told {
            kind,
            reason: action.reason().to_string(),
            action: action.verb(),
            note: action.to_string(),
            related: Some(object(action.object())),
        };
        self.tell(about, told).await;
    }

    /// Tells that a bucket stays in the store.
    pub async fn retained(&self, about: &ObjectReference, name: &str, note: &str) {
        let bucket = (BUCKET, name);
        self.ended(about, Reason::BucketRetained, bucket, note)
            .await;
    }

    /// Tells that a role stays in the store.
    pub async fn role_retained(&self, about: &ObjectReference, name: &str, note: &str) {
        let role = ("Role", name);
        self.ended(about, Reason::RoleRetained, role, note).await;
    }

    /// Tells that a bucket was deleted.
    pub async fn deleted(&self, about: &ObjectReference, name: &str, note: &str) {
        let bucket = (BUCKET, name);
        self.ended(about, Reason::BucketDeleted, bucket, note).await;
    }

    async fn ended(&self, about: &ObjectReference, reason: Reason, what: (&str, &str), note: &str) {
        let told = Told {
            kind: NORMAL,
            reason: reason.to_string(),
            action: "Delete",
            note: note.to_owned(),
            related: Some(object(what)),
        };
        self.tell(about, told).await;
    }

    /// Tells of `Ready`, if its status or reason is not what it was, and of the parts that do not always move it,
    /// unless that would say the same again.
    pub async fn transition(
        &self,
        about: &ObjectReference,
        before: &[Condition],
        after: &[Condition],
    ) {
        // Of full homes each has an event of its own.
        use ConditionType::{HomesWithinLimit, InjectionReady, Ready, VendingReady};
        let mut told_reason = None;
        for type_ in [Ready, VendingReady, InjectionReady, HomesWithinLimit] {
            let Some(is) = condition(after, type_) else {
                continue;
            };
            let was = condition(before, type_);
            let is_news =
                was.is_none_or(|was| (&was.status, &was.reason) != (&is.status, &is.reason));
            // That all is well again is told by `Ready` alone where that moves, and of a part that was not in
            // trouble there is nothing to tell.
            let was_in_trouble = was.is_some_and(|was| was.status == "False");
            let is_well = type_ != Ready && is.status != "False" && !was_in_trouble;
            let is_said = is_well
                || told_reason.is_some_and(|told| told == &is.reason || is.status != "False");
            if !is_news || is_said {
                continue;
            }
            // That what was asked for is under way is no cause for alarm.
            let under_way =
                [Reason::Deleting, Reason::ClaimGrowing].map(|reason| reason.to_string());
            let is_trouble = is.status == "False" && !under_way.contains(&is.reason);
            let told = Told {
                kind: if is_trouble { WARNING } else { NORMAL },
                reason: is.reason.clone(),
                action: "Reconcile",
                note: is.message.clone(),
                related: None,
            };
            self.tell(about, told).await;
            told_reason = Some(&is.reason);
        }
    }

    /// Tells of a home that somebody should look at soon, though no condition may move.
    pub async fn home(&self, hub: &HubStorage, finding: &HomeFinding) {
        let note = format!("claim {}: {}", finding.claim, finding.message);
        self.of_home(hub, WARNING, finding.reason.clone(), &finding.claim, note)
            .await;
    }

    /// Tells of a home that grows because it is full.
    pub async fn home_grows(&self, hub: &HubStorage, growth: &Growth, full: i32) {
        let Growth {
            claim, from, to, ..
        } = growth;
        let note = format!("claim {claim}: is {full} % full, and grows from {from} to {to}");
        let reason = Reason::ClaimGrowing.to_string();
        self.of_home(hub, NORMAL, reason, claim, note).await;
    }

    async fn of_home(
        &self,
        hub: &HubStorage,
        kind: &'static str,
        reason: String,
        claim: &str,
        note: String,
    ) {
        let told = Told {
            kind,
            reason,
            action: "Reconcile",
            note,
            related: Some(object(("PersistentVolumeClaim", claim))),
        };
        self.tell(&hub.object_ref(&()), told).await;
    }

    /// Tells on a user's pod that the webhook did not see it; whether the event is there now. It is
    /// told once, however often it is asked for.
    pub async fn not_injected(&self, pod: &PartialObjectMeta<Pod>, hub: &HubStorage) -> bool {
        let note = format!(
            "HubStorage {} gives this pod nothing: it was created while the webhook did not answer, or before it was \
             there. It has neither the environment nor credentials. Stop the server and start it again",
            hub.name_any()
        );
        let told = Told {
            kind: WARNING,
            reason: Reason::NotInjected.to_string(),
            action: "Admit",
            note,
            // Without its version: that changes, and the event is still the same one.
            related: Some(ObjectReference {
                resource_version: None,
                ..hub.object_ref(&())
            }),
        };
        let event = self.event(&pod.object_ref(&()), told);
        let created = self.create(&event).await;
        log(&event, created).is_some()
    }

    async fn tell(&self, about: &ObjectReference, told: Told) {
        let event = self.event(about, told);
        log(&event, self.publish(&event).await);
    }

    async fn publish(&self, event: &Event) -> Result<(), kube::Error> {
        if let Created::Before = self.create(event).await? {
            match self.count_on(event).await {
                // It has lived its hour meanwhile.
                Err(kube::Error::Api(status)) if status.is_not_found() => {
                    self.create(event).await.map(drop)?;
                }
                counted => counted?,
            }
        }
        Ok(())
    }

    fn event(&self, about: &ObjectReference, told: Told) -> Event {
        let Told {
            kind,
            reason,
            action,
            mut note,
            related,
        } = told;
        note.truncate(note.floor_char_boundary(LONGEST_NOTE));
        let uid = about.uid.as_deref().unwrap_or_default();
        let other = related.as_ref().and_then(|other| other.name.as_deref());
        let says = json!([uid, other, kind, reason, action, note]).to_string();
        let namespace = about.namespace.as_deref();
        Event {
            metadata: ObjectMeta {
                name: Some(format!("hubstorage.{}", fingerprint(says.as_bytes()))),
                namespace: Some(namespace.unwrap_or(NAMESPACE_OF_CLUSTER_SCOPED).to_owned()),
                ..ObjectMeta::default()
            },
            action: Some(action.to_owned()),
            event_time: Some(MicroTime((self.clock)())),
            note: Some(note),
            reason: Some(reason),
            regarding: Some(about.clone()),
            related,
            reporting_controller: Some(super::FIELD_MANAGER.to_owned()),
            reporting_instance: Some(super::FIELD_MANAGER.to_owned()),
            type_: Some(kind.to_owned()),
            ..Event::default()
        }
    }

    fn api(&self, event: &Event) -> Api<Event> {
        let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn create(&self, event: &Event) -> Result<Created, kube::Error> {
        let created = self.api(event).create(&PostParams::default(), event).await;
        match created {
            Ok(_) => Ok(Created::Now),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(Created::Before),
            Err(error) => Err(error),
        }
    }

    /// Told once more.
    async fn count_on(&self, event: &Event) -> Result<(), kube::Error> {
        let (api, name) = (self.api(event), event.name_any());
        let told = api.get(&name).await?.series;
        let times = told.map_or(1, |series| series.count);
        let series = json!({"series": {"count": times + 1, "lastObservedTime": event.event_time}});
        api.patch(&name, &PatchParams::default(), &Patch::Merge(series))
            .await
            .map(drop)
    }
}

/// When an event came to be.
enum Created {
    Now,
    Before,
}

fn log<T>(event: &Event, published: Result<T, kube::Error>) -> Option<T> {
    let (reason, about) = (&event.reason, &event.regarding);
    published
        .map_err(|error| {
            let object = about.as_ref().and_then(|about| about.name.as_deref());
            let error = ApiFailure::from(error);
            tracing::warn!(reason, object, %error, "an event was not published");
        })
        .ok()
}

/// Something in the store as the second object of an event, by kind and name.
fn object((kind, name): (&str, &str)) -> ObjectReference {
    ObjectReference {
        kind: Some(kind.to_owned()),
        name: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}
