//! An API server in memory: the part of its behaviour that the controller relies on.
//!
//! Server-side apply with owners of fields, merge patches with preconditions, the status
//! subresource, finalizers, generations, resource versions. Whatever it does not know is noted
//! and fails the test ([`ApiServer::misunderstood`]), so that it never answers by guesswork.

mod apply;
mod request;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Request, Response};
use hubstorage_cloud::faults::{Fault, FaultPlan};
use kube::client::Body;
use kube::{Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use request::Asked;
use state::{Key, State};

/// What an event said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub reason: String,
    pub type_: String,
    pub about: String,
    pub note: String,
    /// How often it was told so far, this time included.
    pub times: i64,
}

impl Event {
    /// As `event` stands.
    fn told(event: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let regarding = &event["regarding"];
        Self {
            reason: text(&event["reason"]),
            type_: text(&event["type"]),
            about: format!("{} {}", text(&regarding["kind"]), text(&regarding["name"])),
            note: text(&event["note"]),
            times: event["series"]["count"].as_i64().unwrap_or(1),
        }
    }
}

/// The calls of everything in a world are counted together, by one plan that tests replace.
pub type Faults = Arc<Mutex<FaultPlan>>;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The server; clones share everything.
#[derive(Clone)]
pub struct ApiServer {
    state: Arc<Mutex<State>>,
    faults: Faults,
}

impl ApiServer {
    pub fn new(faults: Faults, clock: hubstorage::clock::Clock) -> Self {
        Self {
            state: Arc::new(Mutex::new(State::new(clock))),
            faults,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client of this server.
    pub fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { server.serve(request).await }
        });
        Client::new(service, "default")
    }

    async fn serve(&self, request: Request<Body>) -> Result<Response<Body>, Error> {
        // Gives a second controller its turn between any two calls.
        tokio::task::yield_now().await;
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await?;
        let asked = Asked::parse(&parts, &body);
        let plan = self.faults.lock().unwrap().clone();
        let effect = async { Ok::<_, Fault>(self.state().answer(&asked)) };
        let (code, answer) = match plan.call(asked.to_string(), effect, |fault| fault).await {
            Ok(answer) => answer,
            Err(Fault::Error) => state::refuse(500, "InternalError", "injected"),
            Err(fault) => return Err(format!("injected {fault:?}").into()),
        };
        let answer = Body::from(serde_json::to_vec(&answer)?);
        Ok(Response::builder()
            .status(code)
            .header("content-type", "application/json")
            .body(answer)?)
    }

    /// `kubectl create`, or `kubectl apply` where the object is there: its spec, labels,
    /// annotations and finalizers become those of `object`.
    pub fn apply<K: Resource<DynamicType = ()> + Serialize>(&self, object: &K) {
        let key = Key::of(object);
        let value = serde_json::to_value(object).unwrap();
        self.state().apply_by_hand(&key, &value);
    }

    /// Changes an object as its owner would, by hand; status goes through it as well.
    pub fn edit<K: Resource<DynamicType = ()> + Serialize + DeserializeOwned>(
        &self,
        object: &K,
        edit: impl FnOnce(&mut Value),
    ) {
        self.state().edit_by_hand(&Key::of(object), edit);
    }

    /// `kubectl delete --wait=false`.
    pub fn delete<K: Resource<DynamicType = ()>>(&self, object: &K) {
        self.state().delete(&Key::of(object));
    }

    /// All objects of a kind, in the order of their names.
    pub fn list<K: Resource<DynamicType = ()> + DeserializeOwned>(&self) -> Vec<K> {
        let plural = K::plural(&());
        let found = self.state().of(&plural);
        let parse = |object| serde_json::from_value(object).unwrap();
        found.into_iter().map(parse).collect()
    }

    /// An object as it is now; `None` if it is gone.
    pub fn get<K: Resource<DynamicType = ()> + DeserializeOwned>(&self, object: &K) -> Option<K> {
        let state = self.state();
        let found = state.get(&Key::of(object))?;
        Some(serde_json::from_value(found.clone()).unwrap())
    }

    /// From here on this user may do that: a verb, and a resource with its subresource.
    pub fn allow(&self, user: &str, verb: &str, resource: &str) {
        let right = (user.to_owned(), verb.to_owned(), resource.to_owned());
        self.state().allowed.insert(right);
    }

    /// From here on the controller may make pods in this namespace.
    pub fn allow_pods(&self, namespace: &str) {
        self.state().makes_pods_in.insert(namespace.to_owned());
    }

    /// From here on a quota keeps this claim from asking for more.
    pub fn limit_claim(&self, name: &str) {
        self.state().quota.insert(name.to_owned());
    }

    /// Every object, as bytes.
    pub fn dump(&self) -> String {
        self.state().dump()
    }

    /// Requests that ask for a change, whether they changed anything or not; events included.
    pub fn write_requests(&self) -> Vec<String> {
        self.state().writes.clone()
    }

    /// All events so far, repetitions included.
    pub fn events(&self) -> Vec<Event> {
        self.state().events.clone()
    }

    /// Events of this reason.
    pub fn events_of(&self, reason: &str) -> Vec<Event> {
        let of_reason = |event: &Event| event.reason == reason;
        self.events().into_iter().filter(of_reason).collect()
    }

    /// Requests that this server does not know how to answer: the test is wrong, or the
    /// controller.
    pub fn misunderstood(&self) -> Vec<String> {
        self.state().misunderstood.clone()
    }
}

/// A short name of an object, for messages.
pub fn name_of<K: Resource<DynamicType = ()>>(object: &K) -> String {
    let kind = K::kind(&());
    let name = object.name_any();
    match object.namespace() {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// An answer of the API server other than the object: `Status`.
fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": message,
    })
}
