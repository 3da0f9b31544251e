//! The node's cluster, with storage for both hubs.

use std::time::Duration;

use hubstorage_e2e::components::hub::{self, HUB, OLD_HUB};
use hubstorage_e2e::jupyterhub::{Hub, ServerOptions};
use hubstorage_e2e::{MinioUser, Platform, giving_back, wait};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

/// Bounds a hang; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Says whether this pod's user has storage: it writes, and reads back.
pub const WRITE: &str = "
import os, s3fs
path = os.environ['SCRATCH_BUCKET'] + '/hello'
files = s3fs.S3FileSystem(skip_instance_cache=True)
files.pipe(path, b'here')
print(files.cat(path).decode(), end='')
";

static ALONE: Mutex<()> = Mutex::const_new(());

/// The platform, to one test at a time.
pub struct Cluster {
    pub platform: Platform,
    _alone: MutexGuard<'static, ()>,
}

impl Cluster {
    /// Waits for its turn, and for the storage of both hubs to be ready and probed.
    pub async fn enter() -> Self {
        let alone = ALONE.lock().await;
        let cluster = Self {
            platform: Platform::load().unwrap(),
            _alone: alone,
        };
        let objects: Vec<Value> = std::iter::once(cluster.provider())
            .chain([HUB, OLD_HUB].map(|hub| storage(hub.namespace)))
            .collect();
        for hub in [HUB, OLD_HUB] {
            let labels = ["label", "ns", hub.namespace, "test=node", "--overwrite"];
            cluster.kubectl(&labels).await;
        }
        cluster
            .apply(&json!({"apiVersion": "v1", "kind": "List", "items": objects}))
            .await;
        for hub in [HUB, OLD_HUB] {
            cluster.is_ready(hub.namespace).await;
        }
        cluster
    }

    /// Starts the user's server on the hub, again where the webhook has not heard of the spec yet, and returns what it
    /// says of the pod.
    pub async fn started_with_the_latest(&self, user: &str) -> Value {
        let generation = "-o=jsonpath={.metadata.generation}";
        let generation = ["hs", "node", "-n", HUB.namespace, generation];
        let generation: i64 = self.get(&generation).await.parse().unwrap();
        let annotation = r"-o=jsonpath={.metadata.annotations.hubstorage\.io/injected}";
        let report = std::sync::Mutex::new(Value::Null);
        self.until("the webhook to know the spec", async || {
            let pod = self.server(&HUB, user).await;
            let said = ["pod", &pod, "-n", HUB.namespace, annotation];
            let said: Value = serde_json::from_str(&self.get(&said).await).unwrap();
            let is_latest = said["generation"] == generation;
            *report.lock().unwrap() = said;
            is_latest
        })
        .await;
        report.into_inner().unwrap()
    }

    /// Waits until a hub's storage is ready, and its store known to hold users apart.
    pub async fn is_ready(&self, namespace: &str) {
        let path = "-o=jsonpath={.status.conditions[?(@.type==\"Ready\")].status} {.status.vending.buckets[*].verdict}";
        self.until("the hub's storage to be ready", async || {
            self.get(&["hs", "node", "-n", namespace, path]).await == "True Isolated"
        })
        .await;
    }

    fn provider(&self) -> Value {
        json!({
            "apiVersion": "hubstorage.io/v1alpha1", "kind": "StorageProvider",
            "metadata": {"name": "node"},
            "spec": {
                "namespaces": {"matchLabels": {"test": "node"}},
                "bucketNames": ["earth-*", "e2e-*"],
                "s3": self.platform.s3().unwrap(),
            },
        })
    }

    /// A hub of the platform.
    pub fn hub(&self, hub: &hub::Hub) -> Hub {
        Hub::of(&self.platform, hub).unwrap()
    }

    /// Starts a server as the hub does by default, and returns the name of its pod. One that is
    /// left from before is stopped first.
    pub async fn server(&self, hub: &hub::Hub, user: &str) -> String {
        let driver = self.hub(hub);
        if driver
            .server(user)
            .await
            .is_ok_and(|server| server.is_some())
        {
            driver.stop(user).await.unwrap();
        }
        driver.start(user, &ServerOptions::default()).await.unwrap();
        let server = driver.server(user).await.unwrap().unwrap();
        server.state.unwrap().pod_name.unwrap()
    }

    /// Waits until a user's code writes and reads in the server that runs.
    pub async fn has_storage(&self, hub: &hub::Hub, user: &str) {
        let hub = self.hub(hub);
        self.until("the user's storage", async || {
            let ran = hub.run(user, WRITE).await.unwrap();
            ran.ok().is_ok_and(|said| said == "here")
        })
        .await;
    }

    /// Takes something away, does `what`, and gives it back, whether that went well or not.
    pub async fn without(
        &self,
        take: impl Future<Output = ()>,
        what: impl Future<Output = ()>,
        give: impl Future<Output = ()>,
    ) {
        let both = async {
            take.await;
            what.await;
        };
        giving_back(both, give).await;
    }

    /// kubectl, which must succeed.
    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        self.platform.kubectl_prints(arguments).await.unwrap()
    }

    /// `kubectl get`; nothing for what is not there.
    pub async fn get(&self, arguments: &[&str]) -> String {
        let arguments = [&["get", "--ignore-not-found"], arguments].concat();
        self.kubectl(&arguments).await
    }

    pub async fn apply(&self, object: &Value) {
        self.platform.apply(&object.to_string()).await.unwrap();
    }

    /// All keys in a bucket, as the store's owner sees them.
    pub async fn keys(&self, bucket: &str) -> String {
        let key = self.platform.minio_key(MinioUser::Root).unwrap();
        let path = format!("local/{bucket}");
        let listed = self
            .platform
            .mc(&key, None, &["ls", "--recursive", &path])
            .await;
        String::from_utf8(listed.unwrap().stdout).unwrap()
    }

    /// Waits until a condition of the hub's storage is so, of the spec as it is now; its message.
    pub async fn until_told(
        &self,
        hub: &hub::Hub,
        type_: &str,
        status: &str,
        reason: &str,
    ) -> String {
        let told = std::sync::Mutex::new(String::new());
        let what = format!("{type_} to be {status} ({reason})");
        self.until(&what, async || {
            let hub = self
                .get(&["hs", "node", "-n", hub.namespace, "-o=json"])
                .await;
            let hub: Value = serde_json::from_str(&hub).unwrap();
            let conditions = hub["status"]["conditions"].as_array().cloned();
            let mut conditions = conditions.unwrap_or_default().into_iter();
            let homes = conditions.find(|told| told["type"] == type_);
            let Some(homes) = homes else { return false };
            *told.lock().unwrap() = homes["message"].as_str().unwrap().to_owned();
            hub["metadata"]["generation"] == hub["status"]["observedGeneration"]
                && homes["status"] == status
                && homes["reason"] == reason
        })
        .await;
        told.into_inner().unwrap()
    }

    pub async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        wait::until(what, PATIENCE, async || Ok(holds().await))
            .await
            .unwrap();
    }
}

/// The storage of a hub, as every test finds it.
pub fn storage(namespace: &str) -> Value {
    json!({
        "apiVersion": "hubstorage.io/v1alpha1", "kind": "HubStorage",
        "metadata": {"name": "node", "namespace": namespace},
        "spec": {
            "providerRef": {"name": "node"},
            "users": {"sources": [
                {
                    "name": "notebook",
                    "podSelector": {"matchLabels": {"component": "singleuser-server"}},
                    "creators": [{"serviceAccount": {"name": "hub"}}],
                },
                {
                    "name": "dask",
                    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "dask-gateway"}},
                    "creators": [{"serviceAccount": {"name": "dask-gateway-controller"}}],
                    "dependsOn": {"name": "notebook"},
                },
            ]},
            "buckets": [{
                "name": "scratch",
                "lifecycle": {"expireAfterDays": 7},
                "env": [{"name": "SCRATCH_BUCKET"}],
            }],
        },
    })
}
