//! As much of an API server as the broker talks to, on loopback: objects with lists, watches and
//! server-side apply of status, TokenReview, the keys, and a list of all calls.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt as _, stream};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::sync::watch;

pub const ISSUER: &str = "https://kubernetes.default.svc";

/// `resource/namespace/name`, or `resource/name`.
type Key = String;

#[derive(Default)]
struct Cluster {
    objects: BTreeMap<Key, Value>,
    /// Every change, for the watches: resource, type of event, object.
    events: Vec<(String, &'static str, Value)>,
    calls: Vec<String>,
    /// Those of them that asked for more than metadata.
    whole: Vec<String>,
    keys: Value,
    /// Tokens that TokenReview vouches for, and for whom.
    tokens: BTreeMap<String, Value>,
}

#[derive(Clone)]
pub struct ApiServer {
    cluster: Arc<Mutex<Cluster>>,
    version: Arc<watch::Sender<usize>>,
    lists_held: Arc<watch::Sender<bool>>,
    watches_cut: Arc<watch::Sender<bool>>,
    url: String,
}

impl ApiServer {
    pub async fn start(keys: Value) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            cluster: Arc::new(Mutex::new(Cluster {
                keys,
                ..Cluster::default()
            })),
            version: Arc::new(watch::Sender::new(0)),
            lists_held: Arc::new(watch::Sender::new(false)),
            watches_cut: Arc::new(watch::Sender::new(false)),
            url: format!("http://{}", listener.local_addr().unwrap()),
        };
        let app = Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        server
    }

    pub fn client(&self) -> Client {
        Client::try_from(Config::new(self.url.parse().unwrap())).unwrap()
    }

    fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap()
    }

    pub fn calls(&self) -> Vec<String> {
        self.cluster().calls.clone()
    }

    /// Calls whose answer was to be more than metadata.
    pub fn whole_objects_asked_for(&self) -> Vec<String> {
        self.cluster().whole.clone()
    }

    pub fn calls_to(&self, part: &str) -> usize {
        self.calls()
            .iter()
            .filter(|call| call.contains(part))
            .count()
    }

    /// Lists are answered only after `hold_lists(false)`.
    pub fn hold_lists(&self, hold: bool) {
        self.lists_held.send_replace(hold);
    }

    /// Lists and watches fail, those under way too, and nothing else does.
    pub fn cut_watches(&self, cut: bool) {
        self.watches_cut.send_replace(cut);
    }

    pub fn vouch(&self, token: &str, user: Value) {
        self.cluster().tokens.insert(token.to_owned(), user);
    }

    pub fn get(&self, key: &str) -> Option<Value> {
        self.cluster().objects.get(key).cloned()
    }

    pub fn put(&self, key: &str, object: Value) {
        self.change(key, |_| Some(object));
    }

    pub fn edit(&self, key: &str, edit: impl FnOnce(&mut Value)) {
        self.change(key, |object| {
            let mut object = object.unwrap();
            edit(&mut object);
            Some(object)
        });
    }

    pub fn delete(&self, key: &str) {
        self.change(key, |_| None);
    }

    fn change(&self, key: &str, change: impl FnOnce(Option<Value>) -> Option<Value>) {
        let mut cluster = self.cluster();
        let before = cluster.objects.get(key).cloned();
        let version = cluster.events.len() + 1;
        let (event, object) = match change(before.clone()) {
            Some(object) => (
                if before.is_some() {
                    "MODIFIED"
                } else {
                    "ADDED"
                },
                Some(object),
            ),
            None => ("DELETED", None),
        };
        let mut shown = object.clone().or(before).unwrap();
        shown["metadata"]["resourceVersion"] = json!(version.to_string());
        match object {
            Some(_) => _ = cluster.objects.insert(key.to_owned(), shown.clone()),
            None => _ = cluster.objects.remove(key),
        }
        let resource = key.split('/').next().unwrap().to_owned();
        cluster.events.push((resource, event, shown));
        drop(cluster);
        self.version.send_replace(version);
    }

    /// Waits until the object is as `is` wants it.
    pub async fn wait_for(&self, key: &str, is: impl Fn(&Value) -> bool) -> Value {
        let mut version = self.version.subscribe();
        let waiting = async {
            loop {
                if let Some(object) = self.get(key).filter(&is) {
                    return object;
                }
                version.changed().await.unwrap();
            }
        };
        let found = tokio::time::timeout(std::time::Duration::from_secs(30), waiting).await;
        found.unwrap_or_else(|_| panic!("{key} never became so: {:?}", self.get(key)))
    }

    fn list(&self, resource: &str) -> Value {
        let cluster = self.cluster();
        let of_resource = |key: &str| key.split('/').next() == Some(resource);
        let items: Vec<&Value> = cluster
            .objects
            .iter()
            .filter(|(key, _)| of_resource(key))
            .map(|(_, object)| object)
            .collect();
        json!({
            "kind": "List", "apiVersion": "v1", "items": items,
            "metadata": {"resourceVersion": cluster.events.len().to_string()},
        })
    }

    fn watch(&self, resource: &str, since: usize, ends_after: Duration) -> Response {
        let (server, resource) = (self.clone(), resource.to_owned());
        let mut cut = self.watches_cut.subscribe();
        let ends = async move {
            _ = tokio::time::timeout(ends_after, cut.wait_for(|cut| *cut)).await;
        };
        let version = self.version.subscribe();
        let events = stream::unfold((since, version), move |(mut at, mut version)| {
            let (server, resource) = (server.clone(), resource.clone());
            async move {
                loop {
                    let next = server.cluster().events.get(at).cloned();
                    match next {
                        Some((of, event, object)) => {
                            at += 1;
                            if of == resource {
                                let line =
                                    format!("{}\n", json!({"type": event, "object": object}));
                                return Some((
                                    Ok::<_, std::io::Error>(Bytes::from(line)),
                                    (at, version),
                                ));
                            }
                        }
                        None => version.changed().await.ok()?,
                    }
                }
            }
        });
        json_body(
            StatusCode::OK,
            Body::from_stream(events.take_until(Box::pin(ends))),
        )
    }

    fn apply(&self, key: &str, patch: &Value) -> Response {
        let Some(object) = self.get(key) else {
            return failure(StatusCode::NOT_FOUND, "NotFound");
        };
        // The UID in a patch of a custom resource's status is ignored: only the version counts.
        let version = &patch["metadata"]["resourceVersion"];
        if !version.is_null() && object["metadata"]["resourceVersion"] != *version {
            return failure(StatusCode::CONFLICT, "Conflict");
        }
        let mut patch = patch.clone();
        if let Some(metadata) = patch["metadata"].as_object_mut() {
            metadata.retain(|field, _| !matches!(field.as_str(), "uid" | "resourceVersion"));
        }
        self.edit(key, |object| merge(object, &patch));
        success(&self.get(key).unwrap())
    }

    fn review(&self, review: &Value) -> Response {
        let token = review["spec"]["token"].as_str().unwrap_or_default();
        let user = self.cluster().tokens.get(token).cloned();
        let pod_lives = |user: &Value| {
            let extra =
                |key: &str| user["extra"][format!("authentication.kubernetes.io/{key}")][0].clone();
            let namespace = user["username"].as_str()?.split(':').nth(2)?.to_owned();
            let pod = self.get(&format!("pods/{namespace}/{}", extra("pod-name").as_str()?))?;
            (pod["metadata"]["uid"] == extra("pod-uid")).then_some(())
        };
        let mut answer = review.clone();
        answer["status"] = match user.filter(|user| pod_lives(user).is_some()) {
            Some(user) => {
                json!({"authenticated": true, "audiences": ["hubstorage.io"], "user": user})
            }
            None => json!({"error": "pods not found"}),
        };
        success(&answer)
    }
}

/// As server-side apply does with maps; a list is replaced, which is what its only owner sees.
fn merge(object: &mut Value, patch: &Value) {
    match (object, patch) {
        (Value::Object(object), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(object.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (object, patch) => *object = patch.clone(),
    }
}

async fn answer(State(server): State<ApiServer>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let call = format!("{} {path}?{query}", parts.method);
    let accepts = parts.headers.get(header::ACCEPT);
    let is_metadata = |accepts: &HeaderValue| {
        let accepts = String::from_utf8_lossy(accepts.as_bytes());
        accepts.contains("as=PartialObjectMetadata")
    };
    if !accepts.is_some_and(is_metadata) {
        server.cluster().whole.push(call.clone());
    }
    server.cluster().calls.push(call);
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();

    match path.as_str() {
        "/.well-known/openid-configuration" => return success(&json!({"issuer": ISSUER})),
        "/openid/v1/jwks" => return success(&server.cluster().keys.clone()),
        "/apis/authentication.k8s.io/v1/tokenreviews" => return server.review(&body),
        _ => {}
    }
    let rest = path
        .strip_prefix("/api/v1/")
        .or_else(|| path.splitn(5, '/').nth(4))
        .unwrap_or_default();
    let parts_of_path: Vec<&str> = rest.split('/').collect();
    let is_collection = matches!(parts_of_path.as_slice(), [_] | ["namespaces", _, _]);
    if is_collection && parts.method == Method::GET && *server.watches_cut.borrow() {
        return failure(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable");
    }
    match (&parts.method, parts_of_path.as_slice()) {
        (&Method::GET, [resource] | ["namespaces", _, resource])
            if query.contains("watch=true") =>
        {
            let number = |name: &str| {
                let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
                pairs
                    .find(|(key, _)| *key == name)
                    .and_then(|(_, value)| value.parse::<u32>().ok())
                    .unwrap_or_default()
            };
            server.watch(
                resource,
                number("resourceVersion") as usize,
                Duration::from_secs(number("timeoutSeconds").into()),
            )
        }
        (&Method::GET, [resource] | ["namespaces", _, resource]) => {
            let mut held = server.lists_held.subscribe();
            held.wait_for(|held| !held).await.unwrap();
            success(&server.list(resource))
        }
        (&Method::POST, ["namespaces", namespace, resource]) => {
            let name = body["metadata"]["name"].as_str().unwrap().to_owned();
            server.put(&format!("{resource}/{namespace}/{name}"), body.clone());
            success(&body)
        }
        (method, ["namespaces", namespace, resource, name])
        | (method, ["namespaces", namespace, resource, name, "status"]) => {
            let key = format!("{resource}/{namespace}/{name}");
            match *method {
                // RBAC lets `serve` list and watch its kinds, and get none of them.
                Method::GET if ["hubstorages", "hubusers"].contains(resource) => {
                    failure(StatusCode::FORBIDDEN, "Forbidden")
                }
                Method::GET => server.get(&key).map_or_else(
                    || failure(StatusCode::NOT_FOUND, "NotFound"),
                    |o| success(&o),
                ),
                Method::PATCH => server.apply(&key, &body),
                _ => failure(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
            }
        }
        _ => failure(StatusCode::NOT_FOUND, "NotFound"),
    }
}

fn success(object: &Value) -> Response {
    json_body(StatusCode::OK, Body::from(object.to_string()))
}

fn failure(status: StatusCode, reason: &str) -> Response {
    let body = json!({"kind": "Status", "status": "Failure", "reason": reason, "code": status.as_u16(), "message": reason});
    json_body(status, Body::from(body.to_string()))
}

fn json_body(status: StatusCode, body: Body) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
