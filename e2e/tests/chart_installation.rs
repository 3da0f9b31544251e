//! Tier 4: the Helm chart is installed, upgraded, rolled back, uninstalled and installed again.
//!
//! On a platform of its own, beside the one that the other tests share, whose operator was
//! installed without Helm. There is no node, so the controller runs here, as the service account
//! that the chart makes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

#[path = "chart/beside.rs"]
mod beside;
#[path = "chart/helm.rs"]
mod helm;

use std::time::Duration;

use beside::Beside;
use helm::{CHART, helm};
use hubstorage_core::api::{AGENTS_NAMESPACE, SYSTEM_NAMESPACE, VENDING_NAMESPACE};
use hubstorage_e2e::{MinioUser, wait};
use serde_json::{Value, json};

/// Bounds a hang; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Pods would only be waited for: there is no node.
const WITHOUT_PODS: [&str; 2] = ["--set=controller.replicas=0", "--set=serve.replicas=0"];

const HUB: &str = "e2e-chart";
const BUCKET: &str = "e2e-chart-scratch";

struct Cluster {
    beside: Beside,
}

impl Cluster {
    async fn up() -> Self {
        let beside = Beside::up("chart").await;
        Self { beside }
    }

    /// What Helm prints, or why it failed.
    async fn helm(&self, arguments: &[&[&str]]) -> Result<String, String> {
        helm(&self.beside.platform, arguments).await
    }

    async fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.beside.platform.kubectl(arguments).await.unwrap();
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    async fn apply(&self, object: &Value) {
        let applied = self.beside.platform.apply(&object.to_string()).await;
        applied.unwrap();
    }

    /// One field of one object, as text; empty where there is none.
    async fn field(&self, object: &[&str], path: &str) -> String {
        let output = format!("-o=jsonpath={path}");
        self.kubectl(&[&["get", "--ignore-not-found", &output], object].concat())
            .await
            .unwrap()
    }

    async fn ca_bundle(&self) -> String {
        let path = "{.webhooks[0].clientConfig.caBundle}";
        self.field(&["mutatingwebhookconfiguration/hubstorage"], path)
            .await
    }

    /// What a policy is at: a change of it makes pods of users from before be refused.
    async fn guard_generations(&self) -> String {
        let path = "{.items[*].metadata.generation}";
        self.field(&["validatingadmissionpolicies"], path).await
    }

    async fn agent_arguments(&self) -> String {
        let agent = ["daemonset/hubstorage-agent", "-n", AGENTS_NAMESPACE];
        self.field(&agent, "{.spec.template.spec.containers[0].args}")
            .await
    }

    async fn is_ready(&self) -> bool {
        let path = r#"{.status.conditions[?(@.type=="BucketsReady")].status}"#;
        self.field(&["hubstorage/hub", "-n", HUB], path).await == "True"
    }

    async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        wait::until(what, PATIENCE, async || Ok(holds().await))
            .await
            .unwrap();
    }

    /// A namespace with a hub, and all that it needs in and from the store.
    async fn declare_a_hub(&self) {
        let platform = &self.beside.platform;
        for (user, namespace) in [
            (MinioUser::Manage, SYSTEM_NAMESPACE),
            (MinioUser::Vend, VENDING_NAMESPACE),
        ] {
            let key = platform.minio_key(user).unwrap();
            self.apply(&json!({
                "apiVersion": "v1", "kind": "Secret",
                "metadata": {"name": "minio", "namespace": namespace},
                "stringData": {"AWS_ACCESS_KEY_ID": key.id, "AWS_SECRET_ACCESS_KEY": key.secret},
            }))
            .await;
        }
        let secret = json!({"type": "Secret", "secretRef": {"name": "minio"}});
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": HUB, "labels": {"hub": "chart"}},
        }))
        .await;
        self.apply(&json!({
            "apiVersion": "hubstorage.io/v1alpha1", "kind": "StorageProvider",
            "metadata": {"name": "minio"},
            "spec": {
                "namespaces": {"matchLabels": {"hub": "chart"}},
                "bucketNames": ["e2e-*"],
                "s3": {
                    "region": "us-east-1",
                    "endpoint": platform.minio_endpoint().unwrap(),
                    "addressing": "Path",
                    "credentials": secret,
                    "vending": {"credentials": secret},
                },
            },
        }))
        .await;
        self.apply(&json!({
            "apiVersion": "hubstorage.io/v1alpha1", "kind": "HubStorage",
            "metadata": {"name": "hub", "namespace": HUB},
            "spec": {
                "providerRef": {"name": "minio"},
                "buckets": [{"name": "scratch", "bucketName": BUCKET}],
            },
        }))
        .await;
    }

    /// `mc` with all rights, on an object in the hub's bucket.
    async fn mc(&self, command: &str) {
        let platform = &self.beside.platform;
        let root = platform.minio_key(MinioUser::Root).unwrap();
        let object = format!("local/{BUCKET}/kept");
        let output = platform.mc(&root, None, &[command, &object]).await.unwrap();
        assert!(output.status.success(), "mc {command}: {output:?}");
    }
}

#[tokio::test]
async fn a_release_is_installed_upgraded_rolled_back_uninstalled_and_installed_again() {
    let cluster = Cluster::up().await;
    installs(&cluster).await;
    let controller = cluster.beside.controller().await;
    cluster.declare_a_hub().await;
    cluster
        .until("the bucket", async || cluster.is_ready().await)
        .await;
    cluster
        .until("the webhook's authority", async || {
            !cluster.ca_bundle().await.is_empty()
        })
        .await;
    let published = ["configmap/hubstorage-ca", "-n", AGENTS_NAMESPACE];
    assert!(
        cluster
            .field(&published, r"{.data.ca\.crt}")
            .await
            .contains("BEGIN CERTIFICATE")
    );

    upgrades_and_leaves_alone_what_the_operator_wrote(&cluster).await;
    puts_back_what_somebody_changed(&cluster).await;
    rolls_back(&cluster).await;

    controller.stop().await;
    uninstalls_and_leaves_what_is_the_users(&cluster).await;

    installs(&cluster).await;
    let _controller = cluster.beside.controller().await;
    cluster
        .until("the webhook's authority", async || {
            !cluster.ca_bundle().await.is_empty()
        })
        .await;
    cluster
        .until("the bucket", async || cluster.is_ready().await)
        .await;
}

async fn installs(cluster: &Cluster) {
    let install = ["install", "--create-namespace"];
    let notes = cluster.helm(&[&install, &CHART, &WITHOUT_PODS]).await;
    let notes = notes.unwrap();
    assert!(notes.contains("docs/install.md"), "{notes}");
}

async fn upgrades_and_leaves_alone_what_the_operator_wrote(cluster: &Cluster) {
    let (bundle, guard) = (cluster.ca_bundle().await, cluster.guard_generations().await);

    let upgrade = ["upgrade", "--set=agent.logLevel=debug"];
    let upgraded = cluster.helm(&[&upgrade, &CHART, &WITHOUT_PODS]).await;
    upgraded.unwrap();

    assert!(
        cluster
            .agent_arguments()
            .await
            .contains("--log-level=debug")
    );
    assert_eq!(cluster.ca_bundle().await, bundle);
    assert_eq!(cluster.guard_generations().await, guard);
}

async fn puts_back_what_somebody_changed(cluster: &Cluster) {
    let upgrade = async |how: &[&str]| {
        let upgrade = ["upgrade", "--reuse-values"];
        cluster.helm(&[&upgrade, &CHART, how]).await
    };
    let patch = async |object: &str, patch: &str| {
        let patch = ["patch", object, "--type=merge", "-p", patch];
        cluster.kubectl(&patch).await.unwrap();
    };

    // Changed: Helm says so, and can be told to go on.
    let policy = "validatingadmissionpolicy/hubstorage-pod-changes";
    let failure_policy = async || cluster.field(&[policy], "{.spec.failurePolicy}").await;
    patch(policy, r#"{"spec":{"failurePolicy":"Ignore"}}"#).await;
    let refused = upgrade(&[]).await.unwrap_err();
    assert!(
        refused.contains("conflict with \"kubectl-patch\""),
        "{refused}"
    );
    assert_eq!(failure_policy().await, "Ignore");
    upgrade(&["--force-conflicts"]).await.unwrap();
    assert_eq!(failure_policy().await, "Fail");

    // Added to: that stays with whoever did it, until the object is made anew.
    let binding = "validatingadmissionpolicybinding/hubstorage-pod-changes";
    let actions = async || cluster.field(&[binding], "{.spec.validationActions}").await;
    patch(binding, r#"{"spec":{"validationActions":["Audit"]}}"#).await;
    upgrade(&["--force-conflicts"]).await.unwrap();
    assert_eq!(actions().await, r#"["Audit","Deny"]"#);
    cluster.kubectl(&["delete", binding]).await.unwrap();
    upgrade(&[]).await.unwrap();
    assert_eq!(actions().await, r#"["Deny"]"#);
}

async fn rolls_back(cluster: &Cluster) {
    let bundle = cluster.ca_bundle().await;

    let rollback = ["rollback", "hubstorage", "1"];
    cluster.helm(&[&rollback]).await.unwrap();

    assert!(cluster.agent_arguments().await.contains("--log-level=info"));
    assert_eq!(cluster.ca_bundle().await, bundle);
}

async fn uninstalls_and_leaves_what_is_the_users(cluster: &Cluster) {
    cluster.mc("pipe").await;

    let uninstall = ["uninstall", "hubstorage", "--wait"];
    cluster.helm(&[&uninstall]).await.unwrap();

    // Nothing that could keep a pod from being created, whatever it says of itself.
    for kind in [
        "mutatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    ] {
        assert_eq!(
            cluster.kubectl(&["get", kind, "-o=name"]).await.unwrap(),
            ""
        );
    }
    cluster
        .apply(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "jane", "namespace": HUB, "annotations": {
                "hub.jupyter.org/username": "jane", "hubstorage.io/created-by": "whoever",
            }},
            "spec": {"containers": [{"name": "notebook", "image": "notebook"}]},
        }))
        .await;

    cluster.mc("stat").await;
    assert!(cluster.is_ready().await);
    let keys = ["secret/minio", "-n", VENDING_NAMESPACE, "-o=name"];
    assert_eq!(
        cluster.kubectl(&[&["get"], &keys[..]].concat()).await,
        Ok("secret/minio\n".to_owned())
    );
    let gone = cluster
        .kubectl(&["get", "namespace", AGENTS_NAMESPACE])
        .await;
    assert!(gone.unwrap_err().contains("NotFound"));
}
