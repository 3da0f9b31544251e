//! What happens behind the scene: the hub's pods, waiting for the operator, clearing up.

use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use hubstorage_e2e::{HostPod, MinioUser, Platform, ServiceAccount};

/// The hub's namespace, as in docs/examples/hub.yaml.
pub const NAMESPACE: &str = "earth";

const PROVIDER: &str = include_str!("../../docs/examples/minio-provider.yaml");
const HUB: &str = include_str!("../../docs/examples/hub.yaml");

/// The local platform, set for the story.
pub struct Stage<'p> {
    platform: &'p Platform,
}

impl<'p> Stage<'p> {
    pub fn new(platform: &'p Platform) -> Self {
        Self { platform }
    }

    /// The example, for this store, and with a short interval, so that drift is put right
    /// before anybody gets bored.
    pub fn provider(&self) -> Result<String> {
        let mut provider: Value = serde_yaml::from_str(PROVIDER)?;
        provider["spec"]["driftCheckInterval"] = json!("5s");
        provider["spec"]["s3"]["endpoint"] = json!(self.platform.minio_endpoint()?);
        Ok(serde_yaml::to_string(&provider)?)
    }

    /// The example as it stands.
    pub fn hub(&self) -> Result<String> {
        let hub: Value = serde_yaml::from_str(HUB)?;
        Ok(serde_yaml::to_string(&hub)?)
    }

    /// Name in the store of one of the hub's buckets.
    pub async fn bucket(&self, name: &str) -> Result<String> {
        let path = format!("-o=jsonpath={{.status.buckets[?(@.name==\"{name}\")].bucketName}}");
        let found = self
            .kubectl(&["get", "hs", "-n", NAMESPACE, "earth", &path])
            .await?;
        if found.is_empty() {
            bail!("status.buckets of hs/earth does not name {name}");
        }
        Ok(found)
    }

    /// A notebook pod, made by the hub's service account as KubeSpawner makes it.
    pub async fn notebook(&self, user: &str) -> Result<HostPod> {
        let pod: Pod = serde_json::from_value(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": format!("jupyter-{user}"),
                "labels": {
                    "app": "jupyterhub", "component": "singleuser-server", "hub.jupyter.org/username": user,
                },
                "annotations": {"hub.jupyter.org/username": user},
            },
            "spec": {
                "automountServiceAccountToken": false,
                "securityContext": {"fsGroup": 100},
                "containers": [{
                    "name": "notebook",
                    "image": "quay.io/jupyter/base-notebook",
                    "env": [{"name": "JUPYTERHUB_USER", "value": user}],
                }],
            },
        }))?;
        self.let_the_hub_make_pods().await?;
        HostPod::create(self.platform, &ServiceAccount::new(NAMESPACE, "hub"), pod).await
    }

    /// Waits until the probe has shown that the store holds users apart: before that nothing is
    /// vended.
    pub async fn isolated(&self, patience: Duration) -> Result<()> {
        let path = "-o=jsonpath={.status.vending.buckets[*].verdict}";
        self.until(
            "both buckets are known to hold users apart",
            patience,
            async || {
                let verdicts = self
                    .kubectl(&["get", "hs", "-n", NAMESPACE, "earth", path])
                    .await?;
                Ok(verdicts == "Isolated Isolated")
            },
        )
        .await
    }

    /// Waits for this many HubUsers.
    pub async fn users(&self, wanted: usize, patience: Duration) -> Result<()> {
        self.until("HubUsers appear", patience, async || {
            let path = "-o=jsonpath={.items[*].status.prefix}";
            let prefixes = self.kubectl(&["get", "hu", "-n", NAMESPACE, path]).await?;
            Ok(prefixes.split_whitespace().count() == wanted)
        })
        .await
    }

    /// Waits for the lifecycle rule to be back in the store.
    pub async fn rule_is_back(&self, bucket: &str, patience: Duration) -> Result<()> {
        self.until("the rule is put back", patience, async || {
            let output = self
                .mc(&["ilm", "rule", "ls", &format!("local/{bucket}")])
                .await?;
            Ok(String::from_utf8_lossy(&output.stdout).contains("hubstorage/expire"))
        })
        .await
    }

    /// Waits for an event with this reason.
    pub async fn event(&self, reason: &str, patience: Duration) -> Result<()> {
        let only = format!("--field-selector=reason={reason}");
        self.until(&format!("an event says {reason}"), patience, async || {
            let found = self
                .kubectl(&["get", "events", "-n", NAMESPACE, &only, "-o=name"])
                .await?;
            Ok(!found.is_empty())
        })
        .await
    }

    /// All keys in a bucket, as the store's owner sees them.
    pub async fn keys(&self, bucket: &str) -> Result<Vec<String>> {
        let output = self
            .mc(&["ls", "--recursive", "--json", &format!("local/{bucket}")])
            .await?;
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(|line| {
                let entry: Value = serde_json::from_str(line)?;
                Ok(entry["key"]
                    .as_str()
                    .context("mc ls names no key")?
                    .to_owned())
            })
            .collect()
    }

    /// Removes everything that this demo or an earlier one has made.
    pub async fn clear(&self) -> Result<()> {
        self.kubectl(&[
            "delete",
            "namespace",
            NAMESPACE,
            "--ignore-not-found",
            "--grace-period=0",
        ])
        .await?;
        self.kubectl(&["delete", "hsp", "minio", "--ignore-not-found"])
            .await?;
        let output = self.mc(&["ls", "--json", "local"]).await?;
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let entry: Value = serde_json::from_str(line)?;
            let name = entry["key"]
                .as_str()
                .unwrap_or_default()
                .trim_end_matches('/');
            if name.starts_with("earth-scratch-") || name.starts_with("earth-persistent-") {
                self.mc(&["rb", "--force", &format!("local/{name}")])
                    .await?;
            }
        }
        Ok(())
    }

    /// What the hub's chart brings along: its service account, with the rights that Zero to
    /// JupyterHub gives it on pods.
    async fn let_the_hub_make_pods(&self) -> Result<()> {
        let meta = json!({"name": "hub", "namespace": NAMESPACE});
        let rbac = "rbac.authorization.k8s.io";
        let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
            {"apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": meta, "rules": [
                {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "watch", "list", "create", "delete"]},
            ]},
            {"apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": meta,
             "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "hub"},
             "subjects": [{"kind": "ServiceAccount", "name": "hub", "namespace": NAMESPACE}]},
        ]});
        let applied = self
            .platform
            .kubectl_with_input(["apply", "-f", "-"], &objects.to_string())
            .await?;
        if !applied.status.success() {
            bail!(
                "kubectl apply: {}",
                String::from_utf8_lossy(&applied.stderr).trim()
            );
        }
        // Pods run as `default`, which the controller-manager gives every namespace.
        let find = [
            "get",
            "sa",
            "-n",
            NAMESPACE,
            "default",
            "--ignore-not-found",
            "-o=name",
        ];
        self.until(
            "the namespace has its service account",
            Duration::from_secs(30),
            async || Ok(!self.kubectl(&find).await?.is_empty()),
        )
        .await
    }

    async fn until(
        &self,
        what: &str,
        patience: Duration,
        holds: impl AsyncFn() -> Result<bool>,
    ) -> Result<()> {
        let began = Instant::now();
        while !holds().await? {
            if began.elapsed() > patience {
                bail!("waited {} s in vain until {what}", patience.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    async fn mc(&self, arguments: &[&str]) -> Result<Output> {
        let key = self.platform.minio_key(MinioUser::Root)?;
        self.platform.mc(&key, None, arguments).await
    }

    async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let output = self.platform.kubectl(arguments).await?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("kubectl {}: {}", arguments.join(" "), said.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
