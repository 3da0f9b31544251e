//! Pods whose code runs as processes of this machine: what the API server knows of them, and what
//! their code sees.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use hubstorage_e2e::{HostPod, Platform, ServiceAccount, authorisation};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

const AUDIENCE: &str = "hubstorage-e2e.test";

/// A namespace with a service account `hub` that may create pods, removed at the end.
struct Namespace<'a> {
    platform: &'a Platform,
    name: String,
}

impl<'a> Namespace<'a> {
    async fn create(platform: &'a Platform, name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let manifest = format!(
            r#"
apiVersion: v1
kind: Namespace
metadata: {{name: {name}}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: hub, namespace: {name}}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: user, namespace: {name}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: hub, namespace: {name}}}
rules: [{{apiGroups: [""], resources: [pods], verbs: [create, get, delete]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: hub, namespace: {name}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: hub}}
subjects: [{{kind: ServiceAccount, name: hub, namespace: {name}}}]
"#
        );
        platform.apply(&manifest).await.unwrap();
        let namespace = Self { platform, name };
        let client = platform.client().await.unwrap();
        authorisation::until_it_may_create_pods(&client, &namespace.hub())
            .await
            .unwrap();
        namespace
    }

    fn hub(&self) -> ServiceAccount {
        ServiceAccount::new(&self.name, "hub")
    }

    async fn remove(self) {
        let removed = self
            .platform
            .kubectl(["delete", "namespace", &self.name, "--wait=false"])
            .await;
        assert!(removed.unwrap().status.success());
    }
}

fn pod() -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "jupyter-ada"},
        "spec": {
            "serviceAccountName": "user",
            "containers": [{
                "name": "notebook",
                "image": "notebook",
                "env": [
                    {"name": "GREETING", "value": "hello $(WHO)"},
                    {"name": "TOKEN_FILE", "value": "/var/run/secrets/e2e/token"},
                ],
                "volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets/e2e"}],
            }],
            "volumes": [{"name": "token", "projected": {"sources": [
                {"serviceAccountToken": {"audience": AUDIENCE, "path": "token", "expirationSeconds": 3600}},
            ]}}],
        },
    }))
    .unwrap()
}

async fn review(platform: &Platform, token: &str) -> Value {
    let reviews: Api<TokenReview> = Api::all(platform.client().await.unwrap());
    let review = TokenReview {
        spec: TokenReviewSpec {
            audiences: Some(vec![AUDIENCE.to_owned()]),
            token: token.to_owned(),
        },
        ..Default::default()
    };
    let answer = reviews
        .create(&PostParams::default(), &review)
        .await
        .unwrap();
    serde_json::to_value(answer.status).unwrap()
}

#[tokio::test]
async fn a_pods_code_sees_the_environment_of_its_container_and_its_token() {
    let platform = Platform::load().unwrap();
    let namespace = Namespace::create(&platform, "host-pod").await;
    let host_pod = HostPod::create(&platform, &namespace.hub(), pod())
        .await
        .unwrap();

    let code = r#"import os, json; print(json.dumps([dict(os.environ), open(os.environ["TOKEN_FILE"]).read()]))"#;
    let printed = host_pod.python(code).await.unwrap();

    let seen: Value = serde_json::from_str(&printed).unwrap();
    let mut names: Vec<&str> = seen[0]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    // Python itself adds LC_CTYPE when the environment names no locale (PEP 538).
    names.retain(|name| *name != "LC_CTYPE");
    assert_eq!(names, ["GREETING", "HOME", "TOKEN_FILE"]);
    assert_eq!(seen[0]["GREETING"], "hello $(WHO)");

    let review = review(&platform, seen[1].as_str().unwrap()).await;
    assert_eq!(review["authenticated"], true, "{review}");
    assert_eq!(
        review["user"]["extra"]["authentication.kubernetes.io/pod-name"],
        json!(["jupyter-ada"])
    );
    assert_eq!(
        review["user"]["extra"]["authentication.kubernetes.io/pod-uid"],
        json!([host_pod.pod().metadata.uid.as_deref().unwrap()])
    );
    namespace.remove().await;
}

#[tokio::test]
async fn a_pod_runs_for_everybody_who_asks_the_api_server() {
    let platform = Platform::load().unwrap();
    let namespace = Namespace::create(&platform, "host-pod-runs").await;

    let host_pod = HostPod::create(&platform, &namespace.hub(), pod())
        .await
        .unwrap();

    let status = host_pod.pod().status.as_ref().unwrap();
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(status.pod_ip.as_deref(), Some("127.0.0.1"));
    namespace.remove().await;
}

#[tokio::test]
async fn the_token_of_a_deleted_pod_is_worth_nothing() {
    let platform = Platform::load().unwrap();
    let namespace = Namespace::create(&platform, "host-pod-deleted").await;
    let host_pod = HostPod::create(&platform, &namespace.hub(), pod())
        .await
        .unwrap();
    let token = std::fs::read_to_string(host_pod.token_path(AUDIENCE).unwrap()).unwrap();

    host_pod.delete().await.unwrap();

    let review = review(&platform, &token).await;
    assert_ne!(review["authenticated"], true, "{review}");
    namespace.remove().await;
}

#[tokio::test]
async fn a_service_account_without_the_right_cannot_create_a_pod() {
    let platform = Platform::load().unwrap();
    let namespace = Namespace::create(&platform, "host-pod-refused").await;
    let user = ServiceAccount::new(&namespace.name, "user");

    let refused = HostPod::create(&platform, &user, pod())
        .await
        .err()
        .unwrap();

    assert!(format!("{refused:#}").contains("forbidden"), "{refused:#}");
    namespace.remove().await;
}
