//! The objects, and what requests do to them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use http::Method;
use hubstorage::clock::Clock;
use kube::{Resource, ResourceExt as _};
use serde_json::{Value, json};

use super::Event;
use super::apply::{self, Conflict, Owners};
use super::request::{Asked, PatchType};

/// The kinds with a status subresource and its default (`hubstorage_core::api::crds`).
const OURS: [&str; 3] = ["storageproviders", "hubstorages", "hubusers"];

/// Where an object is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub plural: String,
    pub namespace: Option<String>,
    pub name: String,
}

impl Key {
    pub fn of<K: Resource<DynamicType = ()>>(object: &K) -> Self {
        Self {
            plural: K::plural(&()).into_owned(),
            namespace: object.namespace(),
            name: object.name_any(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.plural)?;
        self.namespace
            .iter()
            .try_for_each(|namespace| write!(f, " {namespace}"))?;
        write!(f, " {}", self.name)
    }
}

struct Stored {
    object: Value,
    owners: Owners,
}

type Answer = (u16, Value);

/// A refusal with this HTTP code.
pub fn refuse(code: u16, reason: &str, message: &str) -> Answer {
    (code, super::status(code, reason, message))
}

pub struct State {
    objects: BTreeMap<Key, Stored>,
    clock: Clock,
    version: u64,
    uids: u64,
    pub events: Vec<Event>,
    recorded: BTreeMap<Key, Value>,
    /// What service accounts may do: user name, verb, and resource with its subresource.
    pub allowed: BTreeSet<(String, String, String)>,
    /// Namespaces in which the controller may make pods.
    pub makes_pods_in: BTreeSet<String>,
    /// Claims that a quota keeps from asking for more.
    pub quota: BTreeSet<String>,
    pub writes: Vec<String>,
    pub misunderstood: Vec<String>,
}

impl State {
    pub fn new(clock: Clock) -> Self {
        Self {
            objects: BTreeMap::new(),
            clock,
            version: 0,
            uids: 0,
            events: Vec::new(),
            recorded: BTreeMap::new(),
            allowed: BTreeSet::new(),
            makes_pods_in: BTreeSet::new(),
            quota: BTreeSet::new(),
            writes: Vec::new(),
            misunderstood: Vec::new(),
        }
    }

    pub fn get(&self, key: &Key) -> Option<&Value> {
        self.objects.get(key).map(|stored| &stored.object)
    }

    pub fn of(&self, plural: &str) -> Vec<Value> {
        let of_kind = self.objects.iter().filter(|(key, _)| key.plural == plural);
        of_kind.map(|(_, stored)| stored.object.clone()).collect()
    }

    pub fn dump(&self) -> String {
        let lines = self
            .objects
            .iter()
            .map(|(key, stored)| format!("{key}: {}\n", stored.object));
        lines.collect()
    }

    /// Answers a request: an HTTP code and a body.
    pub fn answer(&mut self, asked: &Asked) -> Answer {
        if let Some(unknown) = &asked.unknown {
            return self.misunderstood(asked, unknown);
        }
        let is_review = asked.key.plural == "subjectaccessreviews";
        if asked.method != Method::GET && !is_review {
            self.writes.push(asked.to_string());
        }
        let is_event = asked.key.plural == "events" && asked.api_version == "events.k8s.io/v1";
        let (code, object) = match (&asked.method, asked.patch) {
            (&Method::POST, _) if is_event => self.record(asked),
            (&Method::GET, _) if is_event => self.recorded(&asked.key),
            (&Method::PATCH, Some(PatchType::Merge)) if is_event => self.count_on(asked),
            (&Method::POST, _) if is_review => self.review(&asked.body),
            (&Method::GET, _) if asked.key.plural == "pods" && asked.key.name.is_empty() => {
                self.list_pods(asked)
            }
            (_, _) if asked.key.plural == "pods" && !self.may_make_pods(&asked.key) => {
                let verb = match asked.method {
                    Method::GET => "get",
                    _ => "create",
                };
                refuse(
                    403,
                    "Forbidden",
                    &format!(
                        "pods is forbidden: User \"controller\" cannot {verb} resource \"pods\""
                    ),
                )
            }
            (&Method::POST, _) if asked.key.plural == "pods" => self.create(asked),
            (&Method::DELETE, _) if asked.key.plural == "pods" => self.delete_pod(asked),
            (&Method::GET, _) if !asked.key.name.is_empty() => match self.get(&asked.key) {
                Some(object) => (200, object.clone()),
                None => refuse(404, "NotFound", &format!("{} not found", asked.key)),
            },
            (&Method::PATCH, Some(PatchType::Merge))
                if asked.key.plural == "persistentvolumeclaims" =>
            {
                match self.quota.contains(&asked.key.name) {
                    true => refuse(403, "Forbidden", "exceeded quota: homes"),
                    false => self.merge(asked),
                }
            }
            (&Method::PATCH, Some(patch)) if OURS.contains(&asked.key.plural.as_str()) => {
                match patch {
                    PatchType::Apply => self.apply(asked),
                    PatchType::Merge => self.merge(asked),
                }
            }
            _ => return self.misunderstood(asked, "nothing of the kind is known"),
        };
        if code < 300 && asked.metadata_only {
            return (
                code,
                json!({
                    "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"],
                }),
            );
        }
        (code, object)
    }

    fn misunderstood(&mut self, asked: &Asked, why: &str) -> Answer {
        self.misunderstood.push(format!("{asked}: {why}"));
        refuse(405, "MethodNotAllowed", why)
    }

    fn may_make_pods(&self, key: &Key) -> bool {
        let namespace = key.namespace.as_deref().unwrap_or_default();
        self.makes_pods_in.contains(namespace)
    }

    fn review(&self, review: &Value) -> Answer {
        let attributes = &review["spec"]["resourceAttributes"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let resource = match attributes["subresource"].as_str() {
            Some(subresource) => format!("{}/{subresource}", text(&attributes["resource"])),
            None => text(&attributes["resource"]),
        };
        let asked = (
            text(&review["spec"]["user"]),
            text(&attributes["verb"]),
            resource,
        );
        let mut answer = review.clone();
        answer["status"] = json!({"allowed": self.allowed.contains(&asked)});
        (201, answer)
    }

    /// All on one page, in the order of names.
    fn list_pods(&self, asked: &Asked) -> Answer {
        let label = asked.label_selector.as_deref().unwrap_or_default();
        let there = self.objects.iter().filter(|(key, stored)| {
            key.plural == "pods"
                && key.namespace == asked.key.namespace
                && !stored.object["metadata"]["labels"][label].is_null()
        });
        let items: Vec<&Value> = there.map(|(_, stored)| &stored.object).collect();
        (
            200,
            json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": items}),
        )
    }

    fn create(&mut self, asked: &Asked) -> Answer {
        let name = asked.body["metadata"]["name"].as_str().unwrap_or_default();
        let key = Key {
            name: name.to_owned(),
            ..asked.key.clone()
        };
        if self.objects.contains_key(&key) {
            return refuse(409, "AlreadyExists", &format!("{key} already exists"));
        }
        let mut object = self.blank(&key, &asked.body);
        for field in ["labels", "annotations", "ownerReferences"] {
            object["metadata"][field] = asked.body["metadata"][field].clone();
        }
        object["spec"] = asked.body["spec"].clone();
        self.store(&key, object, Owners::new());
        (201, self.objects[&key].object.clone())
    }

    fn delete_pod(&mut self, asked: &Asked) -> Answer {
        let Some(object) = self.get(&asked.key).cloned() else {
            return refuse(404, "NotFound", &format!("{} not found", asked.key));
        };
        let wanted = &asked.body["preconditions"]["uid"];
        if !wanted.is_null() && *wanted != object["metadata"]["uid"] {
            return refuse(
                409,
                "Conflict",
                "the UID in the precondition does not match",
            );
        }
        self.vanish(&asked.key);
        (200, object)
    }

    /// A new event.
    fn record(&mut self, asked: &Asked) -> Answer {
        let event = &asked.body;
        let note_length = event["note"].as_str().map_or(0, str::len);
        if note_length > 1024 {
            return refuse(422, "Invalid", "note: can have at most 1024 bytes");
        }
        let key = Key {
            name: event["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            ..asked.key.clone()
        };
        if self.recorded.contains_key(&key) {
            return refuse(409, "AlreadyExists", &format!("{key} already exists"));
        }
        self.recorded.insert(key, event.clone());
        self.events.push(Event::told(event));
        (201, event.clone())
    }

    fn recorded(&self, key: &Key) -> Answer {
        match self.recorded.get(key) {
            Some(event) => (200, event.clone()),
            None => refuse(404, "NotFound", &format!("{key} not found")),
        }
    }

    /// An event that is told again: of all its fields, only the series may change (events.k8s.io/v1).
    fn count_on(&mut self, asked: &Asked) -> Answer {
        let only_series = (asked.body.as_object())
            .is_some_and(|fields| fields.keys().all(|field| field == "series"));
        let Some(event) = self.recorded.get_mut(&asked.key) else {
            return self.recorded(&asked.key);
        };
        if !only_series {
            return refuse(
                422,
                "Invalid",
                "an event's fields are immutable, but for its series",
            );
        }
        event["series"] = asked.body["series"].clone();
        self.events.push(Event::told(event));
        (200, event.clone())
    }

    fn apply(&mut self, asked: &Asked) -> Answer {
        let Some(manager) = asked.field_manager.clone() else {
            return refuse(
                400,
                "BadRequest",
                "fieldManager is required for apply patch",
            );
        };
        if let Err(refusal) = self.preconditions(asked) {
            return refusal;
        }
        let mut document = without_nulls(asked.body.clone());
        if document["kind"].is_null() || document["apiVersion"].is_null() {
            return refuse(
                400,
                "BadRequest",
                "apiVersion and kind are required for apply patch",
            );
        }
        let there = self.objects.get(&asked.key);
        let created = there.is_none();
        let known = there.map(|stored| (stored.object.clone(), stored.owners.clone()));
        let (mut live, mut owners) = match known {
            Some(known) => known,
            None if asked.status => {
                return refuse(404, "NotFound", &format!("{} not found", asked.key));
            }
            None => (self.blank(&asked.key, &asked.body), Owners::new()),
        };
        narrow(&mut document, asked.status);
        let manager = (manager, asked.status);
        if let Err(Conflict(lost)) =
            apply::apply(&mut live, &mut owners, manager, &document, asked.force)
        {
            let message = format!("Apply failed with conflicts: {}", lost.join(", "));
            return refuse(409, "Conflict", &message);
        }
        if let Err(refusal) = validate(&asked.key, &live) {
            return refusal;
        }
        let code = if created { 201 } else { 200 };
        self.store(&asked.key, live, owners);
        (code, self.objects[&asked.key].object.clone())
    }

    fn merge(&mut self, asked: &Asked) -> Answer {
        if let Err(refusal) = self.preconditions(asked) {
            return refusal;
        }
        let Some(stored) = self.objects.get(&asked.key) else {
            return refuse(404, "NotFound", &format!("{} not found", asked.key));
        };
        let (mut live, owners) = (stored.object.clone(), stored.owners.clone());
        let mut patch = asked.body.clone();
        narrow(&mut patch, asked.status);
        json_patch::merge(&mut live, &patch);
        let is_going = !live["metadata"]["deletionTimestamp"].is_null();
        let held = |object: &Value| {
            object["metadata"]["finalizers"]
                .as_array()
                .cloned()
                .unwrap_or_default()
        };
        let (before, after) = (held(&stored.object), held(&live));
        if is_going && after.iter().any(|finalizer| !before.contains(finalizer)) {
            let message = "no new finalizers can be added if the object is being deleted";
            return refuse(422, "Invalid", message);
        }
        if is_released(&live) {
            self.vanish(&asked.key);
            return (200, live);
        }
        self.store(&asked.key, live, owners);
        (200, self.objects[&asked.key].object.clone())
    }

    /// UID and resource version, where the request names them, as Kubernetes 1.36 was seen to
    /// check them: a wrong UID is an immutable field on the object itself, and goes unnoticed in
    /// a patch of the status of a custom resource.
    fn preconditions(&self, asked: &Asked) -> Result<(), Answer> {
        let wanted = |field: &str| asked.body["metadata"][field].as_str();
        let Some(is) = self.get(&asked.key) else {
            return match (wanted("uid"), asked.patch) {
                (Some(uid), Some(PatchType::Apply)) if !asked.status => {
                    let message = format!(
                        "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                    );
                    Err(refuse(409, "Conflict", &message))
                }
                _ => Ok(()),
            };
        };
        let differs = |field: &str| {
            let found = is["metadata"][field].as_str();
            wanted(field).is_some_and(|wanted| Some(wanted) != found)
        };
        if differs("resourceVersion") {
            let message = "the object has been modified; please apply your changes to the latest version and try again";
            return Err(refuse(409, "Conflict", message));
        }
        if differs("uid") && !asked.status {
            return Err(refuse(422, "Invalid", "metadata.uid: field is immutable"));
        }
        Ok(())
    }

    /// A new object of the kind of `like`, without a spec.
    fn blank(&mut self, key: &Key, like: &Value) -> Value {
        self.uids += 1;
        let mut metadata = json!({
            "name": key.name,
            "uid": format!("00000000-0000-4000-8000-{:012}", self.uids),
            "creationTimestamp": self.now(),
        });
        if let Some(namespace) = &key.namespace {
            metadata["namespace"] = json!(namespace);
        }
        let mut object = json!({
            "apiVersion": like["apiVersion"], "kind": like["kind"], "metadata": metadata,
        });
        if OURS.contains(&key.plural.as_str()) {
            object["status"] = json!({"observedGeneration": -1});
        }
        object
    }

    fn now(&self) -> String {
        (self.clock)().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// Stores an object: a new version if anything changed, a new generation if the spec did.
    fn store(&mut self, key: &Key, mut object: Value, owners: Owners) {
        let before = self.objects.get(key).map(|stored| &stored.object);
        if before == Some(&object) {
            self.objects.get_mut(key).unwrap().owners = owners;
            return;
        }
        let generation = before.and_then(|before| before["metadata"]["generation"].as_i64());
        let is_same_spec = before.is_some_and(|before| before["spec"] == object["spec"]);
        let step = i64::from(!is_same_spec);
        object["metadata"]["generation"] = json!(generation.unwrap_or(0) + step);
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(key.clone(), Stored { object, owners });
    }

    /// Removes an object, and all that it owns.
    fn vanish(&mut self, key: &Key) {
        let Some(gone) = self.objects.remove(key) else {
            return;
        };
        let uid = &gone.object["metadata"]["uid"];
        self.objects.retain(|_, stored| {
            let owners = stored.object["metadata"]["ownerReferences"].as_array();
            owners.is_none_or(|owners| owners.iter().all(|owner| &owner["uid"] != uid))
        });
        self.version += 1;
    }

    pub fn delete(&mut self, key: &Key) {
        let stored = self.objects.get_mut(key).expect("it is there");
        let metadata = &mut stored.object["metadata"];
        let is_held = metadata["finalizers"]
            .as_array()
            .is_some_and(|held| !held.is_empty());
        if !is_held {
            return self.vanish(key);
        }
        // `rest.BeforeDelete` of the API server bumps the generation too.
        metadata["generation"] = json!(metadata["generation"].as_i64().unwrap_or(0) + 1);
        self.version += 1;
        let now = self.now();
        let metadata = &mut self.objects.get_mut(key).unwrap().object["metadata"];
        metadata["deletionTimestamp"] = json!(now);
        metadata["resourceVersion"] = json!(self.version.to_string());
    }

    pub fn apply_by_hand(&mut self, key: &Key, object: &Value) {
        let before = self.get(key).cloned();
        let mut after = before.clone().unwrap_or_else(|| self.blank(key, object));
        for field in ["labels", "annotations", "finalizers"] {
            if !object["metadata"][field].is_null() {
                after["metadata"][field] = object["metadata"][field].clone();
            }
        }
        for field in ["spec", "provisioner"] {
            if !object[field].is_null() {
                after[field] = object[field].clone();
            }
        }
        self.store_by_hand(key, &before.unwrap_or_default(), after);
    }

    pub fn edit_by_hand(&mut self, key: &Key, edit: impl FnOnce(&mut Value)) {
        let before = self.get(key).expect("it is there").clone();
        let mut after = before.clone();
        edit(&mut after);
        self.store_by_hand(key, &before, after);
    }

    fn store_by_hand(&mut self, key: &Key, before: &Value, after: Value) {
        let known = self.objects.get(key);
        let mut owners = known
            .map(|stored| stored.owners.clone())
            .unwrap_or_default();
        apply::taken_by_hand(&mut owners, before, &after);
        if is_released(&after) {
            return self.vanish(key);
        }
        self.store(key, after, owners);
    }
}

/// Whether an object is being deleted and nobody holds it any more.
fn is_released(object: &Value) -> bool {
    let metadata = &object["metadata"];
    let is_held = metadata["finalizers"]
        .as_array()
        .is_some_and(|held| !held.is_empty());
    !metadata["deletionTimestamp"].is_null() && !is_held
}

/// The part of a document that goes to this subresource.
fn narrow(document: &mut Value, status: bool) {
    let Value::Object(fields) = document else {
        return;
    };
    fields.retain(|name, _| (name == "status") == status && name != "apiVersion" && name != "kind");
    if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
        metadata.retain(|name, _| {
            ["labels", "annotations", "finalizers", "ownerReferences"].contains(&name.as_str())
        });
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, without_nulls(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        value => value,
    }
}

/// The rules of our schemas that user input can break.
fn validate(key: &Key, object: &Value) -> Result<(), Answer> {
    let username = object["spec"]["username"].as_str().unwrap_or_default();
    if key.plural == "hubusers" && username.chars().count() > 255 {
        let message =
            format!("{key} is invalid: spec.username: Too long: may not be more than 255 bytes");
        return Err(refuse(422, "Invalid", &message));
    }
    if key.name.len() > 253 {
        return Err(refuse(422, "Invalid", "metadata.name is too long"));
    }
    Ok(())
}
