//! What is asked of the API server, and what comes of its answers.

use http::{Request, Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

/// An API server with these objects, by the paths at which they are; every list is empty that is not among them.
fn client(objects: Value) -> Client {
    let service = tower::service_fn(move |request: Request<Body>| {
        let path = request.uri().path().to_owned();
        let found = objects.get(&path).cloned();
        let is_list = !path.starts_with("/api/v1/namespaces/");
        let empty = is_list.then(|| json!({"metadata": {}, "items": []}));
        let (status, body) = match found.or(empty) {
            Some(object) => {
                let code = object["code"]
                    .as_u64()
                    .and_then(|code| u16::try_from(code).ok());
                (code.unwrap_or(200), object)
            }
            None => (
                404,
                json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound"}),
            ),
        };
        let mut answer = Response::new(Body::from(body.to_string().into_bytes()));
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        async move { Ok::<_, std::convert::Infallible>(answer) }
    });
    Client::new(service, "default")
}

fn namespaced(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

fn hub(namespace: &str) -> Value {
    json!({
        "apiVersion": "hubstorage.io/v1alpha1", "kind": "HubStorage",
        "metadata": {"name": "hub", "namespace": namespace},
        "spec": {"providerRef": {"name": "minio"}, "buckets": [{"name": "scratch"}]},
    })
}

const HUBS: &str = "/apis/hubstorage.io/v1alpha1/hubstorages";

async fn audit(objects: Value, namespace: Option<&str>) -> anyhow::Result<Report> {
    let options = Options {
        namespace: namespace.map(str::to_owned),
        all: false,
        output: Output::Json,
    };
    run(&client(objects), &options).await
}

#[tokio::test]
async fn a_namespace_that_does_not_exist_is_no_safe_one() {
    let objects = json!({
        (HUBS): {"metadata": {}, "items": [hub("earth")]},
        "/api/v1/namespaces/earth": namespaced("earth"),
        "/api/v1/namespaces/mars": namespaced("mars"),
    });
    let error = audit(objects.clone(), Some("eart"))
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "--namespace eart: there is no such namespace; those with a HubStorage are earth"
    );
    let earth = audit(objects.clone(), Some("earth")).await.unwrap();
    assert!(earth.warnings.is_empty(), "{earth:?}");
    let mars = audit(objects, Some("mars")).await.unwrap();
    assert!(
        mars.warnings[0].contains("namespace mars has no HubStorage"),
        "{mars:?}"
    );
}

/// Whoever makes the pods of the hub, in its namespace.
fn creator(namespace: &str) -> (Value, Value) {
    let metadata = json!({"name": "hub", "namespace": namespace});
    let role = json!({"metadata": metadata, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}]});
    let binding = json!({
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "hub"},
        "subjects": [{"kind": "ServiceAccount", "name": "hub", "namespace": namespace}],
    });
    (role, binding)
}

#[tokio::test]
async fn a_hub_that_cannot_be_read_is_named_and_keeps_no_other_from_being_looked_at() {
    let mut odd = hub("mars");
    odd["spec"]["users"] = json!({"prefixScheme": "Reversed"});
    let (earth, mars) = (creator("earth"), creator("mars"));
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let objects = json!({
        (HUBS): {"metadata": {}, "items": [hub("earth"), odd, hub("mars")]},
        (format!("{rbac}/roles")): {"metadata": {}, "items": [earth.0, mars.0]},
        (format!("{rbac}/rolebindings")): {"metadata": {}, "items": [earth.1, mars.1]},
    });
    let report = audit(objects, None).await.unwrap();
    let found: Value = serde_json::from_str(&report.text).unwrap();
    let known = |namespace: &str| {
        let mut found = found.as_array().unwrap().iter();
        found
            .find(|finding| finding["namespace"] == namespace)
            .unwrap()["knownAs"]
            .clone()
    };
    assert_eq!(known("earth"), "creator of source notebook");
    assert_eq!(known("mars"), Value::Null);
    let [warning] = &*report.warnings else {
        panic!("{report:?}");
    };
    for part in [
        "HubStorage hub in namespace mars",
        "Reversed",
        "newer CustomResourceDefinition",
    ] {
        assert!(warning.contains(part), "{warning}");
    }
}

#[tokio::test]
async fn only_who_may_not_list_is_told_of_rights() {
    let failing = async |code: u16, reason: &str| {
        let status = json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "it says why"});
        let error = audit(json!({(HUBS): status}), None).await.unwrap_err();
        format!("{error:#}")
    };
    let forbidden = failing(403, "Forbidden").await;
    let broken = failing(500, "InternalError").await;
    for error in [&forbidden, &broken] {
        assert!(
            error.contains("hubstorages cannot be listed") && error.contains("it says why"),
            "{error}"
        );
    }
    assert!(
        forbidden.contains("rights of an admin of the cluster"),
        "{forbidden}"
    );
    assert!(!broken.contains("rights"), "{broken}");
}
