//! What happens behind the scene: the hub's pods, waiting for the operator, clearing up.

use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use hubstorage_e2e::components::hub::HUB;
use hubstorage_e2e::existing::{self, Existing, MARK};
use hubstorage_e2e::jupyterhub::Hub;
use hubstorage_e2e::{Extent, MinioUser, Notebook, Platform, wait};

/// The hub's namespace, as in docs/examples/hub.yaml.
pub const NAMESPACE: &str = "earth";

const PROVIDER: &str = include_str!("../../docs/examples/minio-provider.yaml");
const HUB_EXAMPLE: &str = include_str!("../../docs/examples/hub.yaml");

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
        if self.extent() == Extent::Existing {
            let existing = Existing::load(&self.platform.checkout)?;
            provider["metadata"]["labels"] = json!({MARK: existing.mark});
        }
        Ok(serde_yaml::to_string(&provider)?)
    }

    /// The example as it stands.
    pub fn hub(&self) -> Result<String> {
        let hub: Value = serde_yaml::from_str(HUB_EXAMPLE)?;
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

    /// What the platform is.
    pub fn extent(&self) -> Extent {
        Extent::of(&self.platform.checkout).unwrap_or(Extent::ControlPlane)
    }

    /// Makes what the story takes for granted.
    pub async fn set(&self) -> Result<()> {
        if self.extent() == Extent::Existing {
            // Asked for now, rather than in the middle of the story.
            Notebook::image()?;
            existing::make_namespace(&self.platform.checkout, NAMESPACE).await?;
        }
        Ok(())
    }

    /// A user's notebook.
    pub async fn notebook(&self, user: &str) -> Result<Notebook> {
        Notebook::open(self.platform, user).await
    }

    /// Waits until the probe has shown that the store holds users apart: before that nothing is
    /// vended.
    pub async fn isolated(&self, patience: Duration) -> Result<()> {
        let path = "-o=jsonpath={.status.vending.buckets[*].verdict}";
        wait::until(
            "both buckets to be known to hold users apart",
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

    /// Waits for this many HubUsers at least: a real hub may have other users.
    pub async fn users(&self, wanted: usize, patience: Duration) -> Result<()> {
        wait::until("HubUsers to appear", patience, async || {
            let path = "-o=jsonpath={.items[*].status.prefix}";
            let prefixes = self.kubectl(&["get", "hu", "-n", NAMESPACE, path]).await?;
            Ok(prefixes.split_whitespace().count() >= wanted)
        })
        .await
    }

    /// Waits for the lifecycle rule to be back in the store.
    pub async fn rule_is_back(&self, bucket: &str, patience: Duration) -> Result<()> {
        wait::until("the rule to be put back", patience, async || {
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
        wait::until(&format!("an event to say {reason}"), patience, async || {
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
    ///
    /// # Errors
    /// In somebody else's cluster, if something there has a name that the demo needs.
    pub async fn clear(&self) -> Result<()> {
        match self.extent() {
            Extent::Node => {
                // The namespace is the hub's own.
                let hub = Hub::of(self.platform, &HUB)?;
                for user in hub.servers().await?.keys() {
                    hub.stop(user).await?;
                }
                self.kubectl(&["delete", "-n", NAMESPACE, "hs", "--all", "--timeout=60s"])
                    .await?;
                self.kubectl(&["delete", "-n", NAMESPACE, "events", "--all", "--wait=false"])
                    .await?;
            }
            Extent::Existing => {
                self.refuse_strangers().await?;
                // While its namespace has its events.
                let hubs = ["delete", "-n", NAMESPACE, "hs", "--all", "--timeout=60s"];
                self.kubectl(&hubs).await?;
                self.delete_namespace("--timeout=60s").await?;
            }
            Extent::Stores | Extent::ControlPlane => {
                self.delete_namespace("--grace-period=0").await?;
            }
        }
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

    async fn delete_namespace(&self, how: &str) -> Result<()> {
        let delete = ["delete", "namespace", NAMESPACE, "--ignore-not-found", how];
        self.kubectl(&delete).await.map(drop)
    }

    /// The two things of the story that a person may have made too, by its examples.
    async fn refuse_strangers(&self) -> Result<()> {
        let existing = Existing::load(&self.platform.checkout)?;
        let of_others = existing.selector_of_others();
        for (kind, name) in [("namespaces", NAMESPACE), ("storageproviders", "minio")] {
            let names = "-o=jsonpath={.items[*].metadata.name}";
            let others = self
                .kubectl(&["get", kind, "-l", &of_others, names])
                .await?;
            if others.split_whitespace().any(|other| other == name) {
                bail!(
                    "the cluster has {name:?} among its {kind}, which the demo has not made and would \
                     delete: nothing was changed"
                );
            }
        }
        Ok(())
    }

    async fn mc(&self, arguments: &[&str]) -> Result<Output> {
        let key = self.platform.minio_key(MinioUser::Root)?;
        self.platform.mc(&key, None, arguments).await
    }

    async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.platform.kubectl_prints(arguments).await
    }
}
