//! A hub for one test: a namespace, a StorageProvider, a HubStorage, and pods of its users.

use std::time::{Duration, Instant};

use hubstorage_e2e::{
    HostPod, MinioUser, Platform, Python, Raised, ServiceAccount, authorisation, wait,
};
use k8s_openapi::api::core::v1::Pod;
use rand::RngExt as _;
use serde_json::{Value, json};

/// Bounds a hang; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The service account that makes notebook pods.
pub const CREATOR: &str = "hub";

/// A hub for one test.
pub struct Hub {
    pub platform: Platform,
    /// Name of the namespace, and of the provider; every bucket's name starts with it. It starts
    /// with `e2e-`: the store's two users reach no other buckets.
    pub namespace: String,
}

impl Hub {
    /// A namespace, and nothing in it yet.
    pub async fn namespace(purpose: &str) -> Self {
        let platform = Platform::load().unwrap();
        let namespace = format!(
            "e2e-{purpose}-{:06x}",
            rand::rng().random_range(0..0x100_0000)
        );
        let hub = Self {
            platform,
            namespace,
        };
        hub.apply(&json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": hub.namespace, "labels": {"test": hub.namespace}},
        }))
        .await;
        hub.until("the default service account", async || {
            !hub.get(&["sa", "default", "--ignore-not-found", "-o=name"])
                .await
                .is_empty()
        })
        .await;
        hub
    }

    /// A hub with a scratch bucket, ready, and probed: its users can have credentials.
    pub async fn ready(purpose: &str) -> Self {
        let hub = Self::namespace(purpose).await;
        hub.apply(&hub.provider()).await;
        hub.apply(&hub.storage()).await;
        hub.until_probed().await;
        hub
    }

    /// Waits until users can have credentials.
    pub async fn until_probed(&self) {
        self.until_ready().await;
        self.until("the store to be probed", async || {
            self.get(&[
                "hs",
                "hub",
                "-o=jsonpath={.status.vending.buckets[*].verdict}",
            ])
            .await
                == "Isolated"
        })
        .await;
    }

    /// The StorageProvider of this test.
    pub fn provider(&self) -> Value {
        json!({
            "apiVersion": "hubstorage.io/v1alpha1", "kind": "StorageProvider",
            "metadata": {"name": self.namespace},
            "spec": {
                "namespaces": {"matchLabels": {"test": self.namespace}},
                "bucketNames": [format!("{}-*", self.namespace)],
                "driftCheckInterval": "5s",
                "s3": self.platform.s3().unwrap(),
            },
        })
    }

    /// The HubStorage of this test.
    pub fn storage(&self) -> Value {
        json!({
            "apiVersion": "hubstorage.io/v1alpha1", "kind": "HubStorage",
            "metadata": {"name": "hub", "namespace": self.namespace},
            "spec": {
                "providerRef": {"name": self.namespace},
                "buckets": [{
                    "name": "scratch",
                    "lifecycle": {"expireAfterDays": 7},
                    "env": [{"name": "SCRATCH_BUCKET"}, {"name": "PANGEO_SCRATCH", "format": "URLWithSlash"}],
                }],
            },
        })
    }

    /// A notebook pod as KubeSpawner makes it.
    pub fn notebook(&self, name: &str, username: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": format!("jupyter-{name}"),
                "namespace": self.namespace,
                "labels": {"app": "jupyterhub", "component": "singleuser-server", "hub.jupyter.org/username": name},
                "annotations": {"hub.jupyter.org/username": username},
            },
            "spec": {
                "automountServiceAccountToken": false,
                "containers": [{"name": "notebook", "image": "notebook", "env": [{"name": "HOME", "value": "/home/jovyan"}]}],
            },
        })
    }

    /// A user's pod, made by the hub's service account.
    pub async fn pod(&self, name: &str, username: &str) -> HostPod {
        self.pod_by(CREATOR, self.notebook(name, username))
            .await
            .unwrap()
    }

    /// A pod made by another service account of the namespace.
    pub async fn pod_by(&self, creator: &str, manifest: Value) -> anyhow::Result<HostPod> {
        self.allow_pods(creator).await;
        let pod: Pod = serde_json::from_value(manifest)?;
        HostPod::create(
            &self.platform,
            &ServiceAccount::new(&self.namespace, creator),
            pod,
        )
        .await
    }

    /// The rights that a hub has on pods (Zero to JupyterHub, `templates/hub/rbac.yaml`).
    pub async fn allow_pods(&self, account: &str) {
        let name = format!("{account}-pods");
        self.apply(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": name, "namespace": self.namespace},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "watch", "list", "create", "delete"]}],
        }))
        .await;
        self.apply(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": self.namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": self.namespace}],
        }))
        .await;
        let client = self.platform.client().await.unwrap();
        let account = ServiceAccount::new(&self.namespace, account);
        authorisation::until_it_may_create_pods(&client, &account)
            .await
            .unwrap();
    }

    /// Applies an object that is right.
    pub async fn apply(&self, object: &Value) {
        let refused = self.try_apply(object).await.err();
        assert_eq!(refused, None, "{object}");
    }

    /// Applies an object; what the API server says against it is the error.
    pub async fn try_apply(&self, object: &Value) -> Result<(), String> {
        let output = self
            .platform
            .kubectl_with_input(["apply", "--server-side", "-f", "-"], &object.to_string())
            .await;
        let output = output.unwrap();
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// `kubectl get` in the namespace.
    pub async fn get(&self, arguments: &[&str]) -> String {
        let all = [&["get", "-n", &self.namespace], arguments].concat();
        self.kubectl(&all).await
    }

    /// kubectl, which has to succeed.
    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.platform.kubectl(arguments).await.unwrap();
        assert!(
            output.status.success(),
            "kubectl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The HubStorage as it is.
    pub async fn current(&self) -> Value {
        serde_json::from_str(&self.get(&["hs", "hub", "-o=json"]).await).unwrap()
    }

    /// Name in the store of the scratch bucket.
    pub async fn bucket(&self) -> String {
        self.current().await["status"]["buckets"][0]["bucketName"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub async fn until_ready(&self) {
        let timeout = format!("--timeout={}s", PATIENCE.as_secs());
        self.kubectl(&[
            "wait",
            "--for=condition=Ready",
            &timeout,
            "-n",
            &self.namespace,
            "hs/hub",
        ])
        .await;
    }

    /// Waits for a condition of an object to have this status and reason; gives its message.
    pub async fn until_condition(
        &self,
        object: &str,
        type_: &str,
        status: &str,
        reason: &str,
    ) -> String {
        let mut last = Value::Null;
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let object: Value =
                serde_json::from_str(&self.get(&[object, "-o=json"]).await).unwrap();
            let conditions = object["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let current =
                object["status"]["observedGeneration"] == object["metadata"]["generation"];
            if let Some(found) = conditions
                .iter()
                .find(|condition| condition["type"] == type_)
            {
                if current && found["status"] == status && found["reason"] == reason {
                    return found["message"].as_str().unwrap().to_owned();
                }
                last = found.clone();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{object} never had {type_}={status} ({reason}); last seen: {last}");
    }

    /// What the events of the namespace with this reason say.
    pub async fn events(&self, reason: &str) -> String {
        let selector = format!("--field-selector=reason={reason}");
        self.get(&["events", &selector, "-o=jsonpath={.items[*].message}"])
            .await
    }

    /// Waits until an event with this reason says `words`.
    pub async fn until_event(&self, reason: &str, words: &str) {
        let what = format!("an event {reason} that says {words:?}");
        self.until(&what, async || self.events(reason).await.contains(words))
            .await;
    }

    /// Waits until something holds.
    pub async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let what = format!("{what} in {}", self.namespace);
        wait::until(&what, PATIENCE, async || Ok(holds().await))
            .await
            .unwrap();
    }

    /// Python with the store's root key: what the store's owner sees or does.
    pub async fn as_owner(&self, code: &str) -> String {
        let key = self.platform.minio_key(MinioUser::Root).unwrap();
        let python = Python::at(
            &self.platform.python(),
            &self.platform.checkout.run("minio"),
        )
        .with_env([
            ("AWS_ACCESS_KEY_ID", key.id),
            ("AWS_SECRET_ACCESS_KEY", key.secret),
            ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
            (
                "AWS_ENDPOINT_URL_S3",
                self.platform.minio_endpoint().unwrap(),
            ),
        ]);
        let code = format!("import boto3, json\ns3 = boto3.client('s3')\n{code}");
        python.run(&code, &[]).await.unwrap()
    }

    /// Deletes what is in no namespace, if it is there.
    pub async fn delete_of_cluster(&self, kind: &str, name: &str) {
        self.kubectl(&["delete", kind, name, "--ignore-not-found", "--wait=false"])
            .await;
    }

    /// Removes everything, the bucket too. A test that fails leaves it for whoever looks why.
    pub async fn remove(self) {
        let names = &self.namespace;
        self.kubectl(&["delete", "namespace", names, "--wait=false"])
            .await;
        self.delete_of_cluster("hsp", names).await;
        let code = format!(
            "import boto3\n\
             for b in s3.list_buckets()['Buckets']:\n    \
                 if b['Name'].startswith('{names}'):\n        \
                     bucket = boto3.resource('s3').Bucket(b['Name'])\n        \
                     bucket.object_versions.delete(); bucket.delete()\n"
        );
        self.as_owner(&code).await;
    }
}

/// What Python printed; it has to end well.
pub async fn said(pod: &HostPod, code: &str) -> String {
    pod.python(code).await.unwrap()
}

/// What Python said when it did not end well, which it must not.
pub async fn failed(pod: &HostPod, code: &str) -> String {
    let raised = pod.python(code).await.unwrap_err();
    raised.downcast::<Raised>().unwrap().0
}

/// The token that the pod has for the broker.
pub fn token_of(pod: &HostPod) -> String {
    std::fs::read_to_string(pod.token_path("hubstorage.io").unwrap()).unwrap()
}
