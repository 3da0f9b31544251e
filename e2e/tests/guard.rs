//! Tier 4: the guard's policies on a real API server.
//!
//! Everybody here has all rights, so that it is the policy that refuses, and every refusal is
//! asserted by the policy's own message, beside the like of it that is allowed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

use http::{Method, Request};
use hubstorage_core::api::{AUDIENCE, GROUPS_ANNOTATION, STAMP_ANNOTATION, USERNAME_ANNOTATION};
use hubstorage_core::injection::TOKEN_VOLUME;
use hubstorage_e2e::Platform;
use kube::Client;
use rand::RngExt as _;
use serde_json::{Value, json};

/// Groups by which RBAC allows everything, whatever the name of the user.
const ADMINS: &[&str] = &["system:masters", "system:authenticated"];

/// A namespace for one test.
struct Arena {
    platform: Platform,
    namespace: String,
}

/// What the API server said.
type Answer = Result<Value, String>;

impl Arena {
    async fn new(purpose: &str) -> Self {
        let namespace = format!(
            "guard-{purpose}-{:06x}",
            rand::rng().random_range(0..0x100_0000)
        );
        let arena = Self {
            platform: Platform::load().unwrap(),
            namespace,
        };
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": arena.namespace},
        });
        arena
            .call("admin", Method::POST, "/api/v1/namespaces", &namespace)
            .await
            .unwrap();
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "users"},
        });
        arena.post("serviceaccounts", &account).await.unwrap();
        arena
    }

    async fn client(&self, user: &str) -> Client {
        let as_node = user.starts_with("system:node:");
        let groups = if as_node {
            &["system:nodes", "system:authenticated"]
        } else {
            ADMINS
        };
        self.platform.client_as(user, groups).await.unwrap()
    }

    async fn call(&self, user: &str, method: Method, path: &str, body: &Value) -> Answer {
        let form = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", form);
        let request = request.body(serde_json::to_vec(body).unwrap()).unwrap();
        let answer = self.client(user).await.request::<Value>(request).await;
        answer.map_err(|error| error.to_string())
    }

    fn path(&self, resource: &str) -> String {
        format!("/api/v1/namespaces/{}/{resource}", self.namespace)
    }

    fn users(&self, name: &str) -> String {
        format!(
            "/apis/hubstorage.io/v1alpha1/namespaces/{}/hubusers{name}",
            self.namespace
        )
    }

    async fn post(&self, resource: &str, body: &Value) -> Answer {
        self.call("admin", Method::POST, &self.path(resource), body)
            .await
    }

    async fn patch(&self, user: &str, resource: &str, body: &Value) -> Answer {
        self.call(user, Method::PATCH, &self.path(resource), body)
            .await
    }

    async fn pod(&self, name: &str, annotations: Value) -> Answer {
        self.post("pods", &pod(name, annotations)).await
    }

    async fn remove(self) {
        let path = format!("/api/v1/namespaces/{}", self.namespace);
        self.call("admin", Method::DELETE, &path, &json!({}))
            .await
            .unwrap();
    }
}

/// A pod on the node `paper`, with three volumes: ours, one like it, and one of no interest.
fn pod(name: &str, annotations: Value) -> Value {
    let token = |audience| json!({"serviceAccountToken": {"audience": audience, "path": "token"}});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "nodeName": "paper",
            "serviceAccountName": "users",
            "automountServiceAccountToken": false,
            "containers": [{"name": "notebook", "image": "notebook"}],
            "volumes": [
                {"name": TOKEN_VOLUME, "projected": {"sources": [token(AUDIENCE)]}},
                {"name": "sneaky", "projected": {"sources": [{"configMap": {"name": "x"}}, token(AUDIENCE)]}},
                {"name": "vault", "projected": {"sources": [token("vault")]}},
            ],
        },
    })
}

fn annotated(key: &str, value: impl Into<Value>) -> Value {
    json!({"metadata": {"annotations": {key: value.into()}}})
}

#[track_caller]
fn refused(answer: Answer, policy: &str, words: &str) {
    let error = answer.expect_err("the guard let it through");
    let by = format!("ValidatingAdmissionPolicy '{policy}'");
    assert!(
        error.contains(&by),
        "it was not {policy} that refused: {error}"
    );
    assert!(error.contains(words), "{words:?} is not said: {error}");
}

#[tokio::test]
async fn a_pod_is_created_with_no_stamp_but_the_creators_own() {
    let arena = Arena::new("stamp").await;
    let words = format!(
        "annotation {STAMP_ANNOTATION} must be absent or name the account that creates the pod"
    );
    for forged in [
        format!("system:serviceaccount:{}:hub", arena.namespace),
        String::new(),
    ] {
        let answer = arena.pod("forged", json!({STAMP_ANNOTATION: forged})).await;
        refused(answer, "hubstorage-pod-creation", &words);
    }
    arena
        .pod("own", json!({STAMP_ANNOTATION: "admin"}))
        .await
        .unwrap();
    arena.pod("none", Value::Null).await.unwrap();
    arena.remove().await;
}

#[tokio::test]
async fn a_pod_that_is_created_by_server_side_apply_is_guarded_as_well() {
    let arena = Arena::new("apply").await;
    let apply = async |annotations: Value| {
        let path = arena.path("pods/applied?fieldManager=eve");
        let request = Request::patch(path).header("content-type", "application/apply-patch+yaml");
        let body = serde_json::to_vec(&pod("applied", annotations)).unwrap();
        let client = arena.client("eve").await;
        let answer = client.request::<Value>(request.body(body).unwrap()).await;
        answer.map_err(|error| error.to_string())
    };
    let forged = apply(json!({STAMP_ANNOTATION: "admin"})).await;
    refused(forged, "hubstorage-pod-creation", STAMP_ANNOTATION);
    apply(json!({STAMP_ANNOTATION: "eve"})).await.unwrap();
    arena.remove().await;
}

#[tokio::test]
async fn stamp_username_and_groups_stay_as_they_were() {
    let arena = Arena::new("changes").await;
    // The webhook stamps it, as it has a username.
    let bob = json!({USERNAME_ANNOTATION: "bob", GROUPS_ANNOTATION: "[\"ocean\"]"});
    arena.pod("bobs", bob).await.unwrap();
    arena.pod("nobodys", Value::Null).await.unwrap();
    let ways = [
        ("admin", ""),
        ("admin", "/status"),
        ("system:node:paper", "/status"),
    ];
    for (who, subresource) in ways {
        for key in [STAMP_ANNOTATION, USERNAME_ANNOTATION, GROUPS_ANNOTATION] {
            let attacks = [
                ("bobs", annotated(key, "eve")),
                ("bobs", annotated(key, "")),
                ("bobs", annotated(key, Value::Null)),
                ("nobodys", annotated(key, "eve")),
                ("nobodys", annotated(key, "")),
            ];
            for (name, attack) in attacks {
                let answer = arena
                    .patch(who, &format!("pods/{name}{subresource}"), &attack)
                    .await;
                let words =
                    format!("annotation {key} of a pod can neither be added, changed nor removed");
                refused(answer, "hubstorage-pod-changes", &words);
            }
        }
        let all = json!({"metadata": {"annotations": null}});
        let answer = arena
            .patch(who, &format!("pods/bobs{subresource}"), &all)
            .await;
        refused(
            answer,
            "hubstorage-pod-changes",
            "create another pod instead",
        );

        for name in ["bobs", "nobodys"] {
            let other = annotated("example.org/other", subresource);
            arena
                .patch(who, &format!("pods/{name}{subresource}"), &other)
                .await
                .unwrap();
        }
    }
    arena.remove().await;
}

#[tokio::test]
async fn a_resize_or_an_ephemeral_container_brings_no_annotation_along() {
    let arena = Arena::new("resize").await;
    arena
        .pod(
            "bobs",
            json!({USERNAME_ANNOTATION: "bob", GROUPS_ANNOTATION: "[]"}),
        )
        .await
        .unwrap();
    let path = arena.path("pods/bobs");
    let before = arena
        .call("admin", Method::GET, &path, &Value::Null)
        .await
        .unwrap();
    let lies = [
        (USERNAME_ANNOTATION, "eve"),
        (GROUPS_ANNOTATION, "[\"ocean\"]"),
        (STAMP_ANNOTATION, "eve"),
    ];
    for subresource in ["resize", "ephemeralcontainers"] {
        for (annotation, lie) in lies {
            // Refused by the guard, or left out by the API server: either will do.
            let attack = annotated(annotation, lie);
            _ = arena
                .patch("admin", &format!("pods/bobs/{subresource}"), &attack)
                .await;
            let pod = arena
                .call("admin", Method::GET, &path, &Value::Null)
                .await
                .unwrap();
            assert_eq!(
                pod["metadata"]["annotations"], before["metadata"]["annotations"],
                "{subresource}: {annotation}"
            );
        }
    }
    arena.remove().await;
}

#[tokio::test]
async fn a_binding_brings_neither_stamp_nor_username_nor_groups() {
    let arena = Arena::new("binding").await;
    for (name, resource) in [("first", "pods/first/binding"), ("second", "bindings")] {
        let mut unbound = pod(name, Value::Null);
        unbound["spec"]["nodeName"] = Value::Null;
        // Or the scheduler would bind it first.
        unbound["spec"]["schedulerName"] = json!("nobody");
        arena.post("pods", &unbound).await.unwrap();
        let binding = |annotations: Value| {
            json!({
                "apiVersion": "v1", "kind": "Binding",
                "metadata": {"name": name, "annotations": annotations},
                "target": {"kind": "Node", "name": "paper"},
            })
        };
        for key in [STAMP_ANNOTATION, USERNAME_ANNOTATION, GROUPS_ANNOTATION] {
            let answer = arena.post(resource, &binding(json!({key: "eve"}))).await;
            refused(
                answer,
                "hubstorage-pod-binding",
                &format!("a binding may not carry annotation {key}"),
            );
        }
        arena.post(resource, &binding(Value::Null)).await.unwrap();
    }
    arena.remove().await;
}

#[tokio::test]
async fn an_ephemeral_container_does_not_mount_a_token_of_ours() {
    let arena = Arena::new("ephemeral").await;
    arena.pod("bobs", Value::Null).await.unwrap();
    let debug = |volume: &str| {
        let mount = json!({"name": volume, "mountPath": "/token"});
        json!({"spec": {"ephemeralContainers": [
            {"name": "debug", "image": "debug", "volumeMounts": [mount]},
        ]}})
    };
    for volume in [TOKEN_VOLUME, "sneaky"] {
        let answer = arena
            .patch("admin", "pods/bobs/ephemeralcontainers", &debug(volume))
            .await;
        refused(
            answer,
            "hubstorage-token-volume",
            "leave that volumeMount out",
        );
    }
    arena
        .patch("admin", "pods/bobs/ephemeralcontainers", &debug("vault"))
        .await
        .unwrap();
    arena.remove().await;
}

#[tokio::test]
async fn tokens_for_our_audience_are_for_nodes() {
    let arena = Arena::new("tokens").await;
    let created = arena.pod("bobs", Value::Null).await.unwrap();
    let request = |audiences: &[&str]| {
        json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {
                "audiences": audiences,
                "boundObjectRef": {
                    "apiVersion": "v1", "kind": "Pod", "name": "bobs", "uid": created["metadata"]["uid"],
                },
            },
        })
    };
    let path = arena.path("serviceaccounts/users/token");
    for audiences in [&[AUDIENCE][..], &["vault", AUDIENCE]] {
        let answer = arena
            .call("admin", Method::POST, &path, &request(audiences))
            .await;
        refused(
            answer,
            "hubstorage-token-requests",
            "are issued to nodes only",
        );
    }
    for audiences in [&["vault"][..], &[]] {
        arena
            .call("admin", Method::POST, &path, &request(audiences))
            .await
            .unwrap();
    }
    arena
        .call(
            "system:node:paper",
            Method::POST,
            &path,
            &request(&[AUDIENCE]),
        )
        .await
        .unwrap();
    arena.remove().await;
}

#[tokio::test]
async fn the_controller_makes_no_pod_but_one_that_carries_nothing() {
    let arena = Arena::new("trial").await;
    let controller = "system:serviceaccount:hubstorage-system:hubstorage-controller";
    let bare = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "trial"},
        "spec": {
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true},
            "containers": [{
                "name": "trial", "image": "trial", "securityContext": {"allowPrivilegeEscalation": false},
            }],
        },
    });
    let secret =
        json!({"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "key"}}});
    let attacks = [
        json!({"automountServiceAccountToken": true, "serviceAccountName": "users"}),
        json!({"volumes": [{"name": "hub", "secret": {"secretName": "hub"}}]}),
        json!({"volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": "claim-bob"}}]}),
        json!({"initContainers": [{"name": "first", "image": "first"}]}),
        json!({"hostNetwork": true}),
        json!({"hostPID": true}),
        json!({"hostIPC": true}),
        json!({"securityContext": null}),
        json!({"containers": [{
            "name": "trial", "image": "trial", "env": [secret],
            "securityContext": {"allowPrivilegeEscalation": false},
        }]}),
        json!({"containers": [{
            "name": "trial", "image": "trial", "envFrom": [{"secretRef": {"name": "hub"}}],
            "securityContext": {"allowPrivilegeEscalation": false},
        }]}),
        json!({"containers": [{"name": "trial", "image": "trial", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"add": ["NET_ADMIN"]}}}]}),
        json!({"containers": [{"name": "trial", "image": "trial"}]}),
    ];
    for attack in attacks {
        let mut pod = bare.clone();
        let spec = pod["spec"].as_object_mut().unwrap();
        spec.extend(attack.as_object().unwrap().clone());
        let answer = arena
            .call(controller, Method::POST, &arena.path("pods"), &pod)
            .await;
        refused(answer, "hubstorage-trial-pods", "makes trial pods only");
        pod["metadata"]["name"] = json!(format!("others-{:x}", rand::rng().random::<u64>()));
        arena.post("pods", &pod).await.unwrap();
    }
    arena
        .call(controller, Method::POST, &arena.path("pods"), &bare)
        .await
        .unwrap();
    arena.remove().await;
}

#[tokio::test]
async fn a_suspended_user_is_not_deleted_by_hand() {
    let arena = Arena::new("suspended").await;
    let user = |name: &str, access: &str| {
        json!({
            "apiVersion": "hubstorage.io/v1alpha1", "kind": "HubUser",
            "metadata": {"name": name},
            "spec": {"hubRef": {"name": "hub"}, "username": name, "access": access},
        })
    };
    for (name, access) in [
        ("ann", "Active"),
        ("bob", "Suspended"),
        ("eve", "Suspended"),
        ("joe", "Suspended"),
    ] {
        arena
            .call("admin", Method::POST, &arena.users(""), &user(name, access))
            .await
            .unwrap();
    }
    let delete = async |who: &str, name: &str| {
        arena
            .call(who, Method::DELETE, &arena.users(name), &json!({}))
            .await
    };
    let words = "set spec.access to Active first";
    for who in [
        "admin",
        "system:serviceaccount:hubstorage-system:hubstorage-controller",
    ] {
        refused(
            delete(who, "/bob").await,
            "hubstorage-suspended-users",
            words,
        );
        refused(delete(who, "").await, "hubstorage-suspended-users", words);
    }
    for (who, name) in [
        (
            "system:serviceaccount:kube-system:generic-garbage-collector",
            "/bob",
        ),
        (
            "system:serviceaccount:kube-system:namespace-controller",
            "/eve",
        ),
    ] {
        delete(who, name).await.unwrap();
    }
    let activate = json!({"spec": {"access": "Active"}});
    arena
        .call("admin", Method::PATCH, &arena.users("/joe"), &activate)
        .await
        .unwrap();
    delete("admin", "/joe").await.unwrap();
    arena.remove().await;
}
