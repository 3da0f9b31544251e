//! The running platform, as tests and the demo see it.

use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;
use std::process::Output;

use anyhow::{Context, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::checkout::Checkout;
use crate::commands::{printed, run_with_input};
use crate::components::installation::{MANAGE_SECRET, VEND_SECRET};
use crate::components::minio::{self, Keys};
use crate::components::{operator, store};
use crate::extent::Extent;
use crate::ports::Ports;
use crate::process::Record;
use crate::{down, kubeconfig};

/// What is running in this checkout, and how to reach it.
pub struct Platform {
    /// The checkout.
    pub checkout: Checkout,
    /// The port of everything.
    pub ports: Ports,
}

/// A user of the object store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinioUser {
    /// May do everything. Tests use it to look at the store from outside.
    Root,
    /// May manage buckets; its key is the controller's.
    Manage,
    /// May only be narrowed; its key is `serve`'s.
    Vend,
    /// Whoever works in the store by hand, and is limited to no bucket.
    Hand,
}

impl MinioUser {
    /// Its name, which in MinIO is also its access key id.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Manage => "hubstorage-manage",
            Self::Vend => "hubstorage-vend",
            Self::Hand => "hand",
        }
    }
}

/// An access key. `Debug` does not show the secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKey {
    /// `AWS_ACCESS_KEY_ID`.
    pub id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret: String,
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("AccessKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Platform {
    /// The platform that `make up` started in this checkout. Never one in somebody else's cluster,
    /// which is no place for tests.
    pub fn load() -> Result<Self> {
        let checkout = Checkout::find()?;
        if !Record::of(&checkout, "kube-apiserver").is_some_and(|record| record.is_alive()) {
            bail!(
                "the local platform does not run in {}; start it with `make up`",
                checkout.root().display()
            );
        }
        Ok(Self::at(&checkout))
    }

    /// The platform of a checkout, whatever runs of it.
    pub fn at(checkout: &Checkout) -> Self {
        Self {
            checkout: checkout.clone(),
            ports: Ports::load(checkout),
        }
    }

    /// A client with all rights.
    pub async fn client(&self) -> Result<Client> {
        admin_client(&self.checkout).await
    }

    /// A client that acts as `user` in `groups`, by impersonation.
    pub async fn client_as(&self, user: &str, groups: &[&str]) -> Result<Client> {
        let mut config = admin_config(&self.checkout).await?;
        config.auth_info.impersonate = Some(user.to_owned());
        config.auth_info.impersonate_groups =
            Some(groups.iter().map(|group| (*group).to_owned()).collect());
        Ok(Client::try_from(config)?)
    }

    /// Runs kubectl as the admin.
    pub async fn kubectl<I, S>(&self, arguments: I) -> Result<Output>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.kubectl_with_input(arguments, "").await
    }

    /// Runs kubectl as the admin with something on its standard input, say for `apply -f -`.
    pub async fn kubectl_with_input<I, S>(&self, arguments: I, input: &str) -> Result<Output>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut kubectl = Command::new(self.checkout.run("bin/kubectl"));
        kubectl.args(arguments);
        run_with_input(kubectl, input.as_bytes()).await
    }

    /// What kubectl prints as the admin; its failure is an error.
    pub async fn kubectl_prints(&self, arguments: &[&str]) -> Result<String> {
        let output = self.kubectl(arguments).await?;
        printed(&output, &format!("kubectl {}", arguments.join(" ")))
    }

    /// Applies YAML as the admin; a refusal is the error's text.
    pub async fn apply(&self, yaml: &str) -> Result<()> {
        let applied = self.kubectl_with_input(["apply", "-f", "-"], yaml).await?;
        printed(&applied, "kubectl apply").map(drop)
    }

    /// The object store's endpoint, as the operator and the pods of users reach it.
    pub fn minio_endpoint(&self) -> Result<String> {
        if Extent::of(&self.checkout) == Some(Extent::Existing) {
            return Ok(store::ENDPOINT.to_owned());
        }
        Ok(format!("http://{}", self.ports.address("minio")?))
    }

    /// `spec.s3` of a StorageProvider for it, with the keys of the two Secrets that `up` makes.
    pub fn s3(&self) -> Result<Value> {
        let secret = |name| json!({"type": "Secret", "secretRef": {"name": name}});
        Ok(json!({
            "region": "us-east-1",
            "endpoint": self.minio_endpoint()?,
            "addressing": "Path",
            "credentials": secret(MANAGE_SECRET),
            "vending": {"credentials": secret(VEND_SECRET)},
        }))
    }

    /// A key of the object store.
    pub fn minio_key(&self, user: MinioUser) -> Result<AccessKey> {
        Ok(Keys::load(&self.checkout)?.of(user))
    }

    /// Makes a user of the object store that vends as `serve`'s own does.
    pub async fn make_vending_user(&self, name: &str) -> Result<AccessKey> {
        minio::make_vending_user(&self.checkout, self.ports.address("minio")?, name).await
    }

    /// Runs MinIO's client `mc` with a key, or with that of a session; it knows the store as
    /// `local`.
    pub async fn mc(
        &self,
        key: &AccessKey,
        session_token: Option<&str>,
        arguments: &[&str],
    ) -> Result<Output> {
        let address = self.ports.address("minio")?;
        minio::client(&self.checkout, address, key, session_token, arguments, "").await
    }

    /// The Python that has the libraries of user code.
    pub fn python(&self) -> PathBuf {
        self.checkout.run("python/bin/python")
    }

    /// The Python that has every kind of client of a store, or the one whose clients are old.
    pub fn python_of_clients(&self, old: bool) -> PathBuf {
        let name = if old { "old-clients" } else { "clients" };
        self.checkout.run(name).join("bin/python")
    }

    /// Where the agent answers on this machine.
    pub fn agent_endpoint(&self) -> Result<String> {
        Ok(format!("http://{}", self.ports.address("agent")?))
    }

    /// The health endpoint of `controller`, `serve-1` or `serve-2`, for `/metrics` and `/readyz`.
    pub fn health_endpoint(&self, component: &str) -> Result<String> {
        let port = match component {
            "agent" => "agent-metrics".to_owned(),
            other => format!("{other}-health"),
        };
        Ok(format!("http://{}", self.ports.address(&port)?))
    }

    /// The process id of a component that runs, say to read its memory from /proc.
    pub fn pid(&self, component: &str) -> Result<i32> {
        let record = Record::of(&self.checkout, component).filter(Record::is_alive);
        Ok(record
            .with_context(|| format!("{component} does not run"))?
            .pid)
    }

    /// Ends one component, to see what the others do without it.
    pub async fn stop(&self, component: &str) -> Result<()> {
        down::stop(&self.checkout, component).await
    }

    /// Starts it again. `e2e` is the harness's binary, which becomes the component; for a test
    /// that is `env!("CARGO_BIN_EXE_e2e")`.
    pub async fn start(&self, e2e: impl AsRef<OsStr>, component: &str) -> Result<()> {
        self.start_logging(e2e, component, None).await
    }

    /// The same, for a process of the operator that is to log everything from this level on.
    pub async fn start_logging(
        &self,
        e2e: impl AsRef<OsStr>,
        component: &str,
        level: Option<&str>,
    ) -> Result<()> {
        let mut command = Command::new(e2e);
        command
            .args(["start", component])
            .current_dir(self.checkout.root());
        if let Some(level) = level {
            command.env(operator::LOGS, level);
        }
        let output = run_with_input(command, b"").await?;
        printed(&output, &format!("e2e start {component}")).map(drop)
    }
}

/// A client by the admin's kubeconfig.
pub async fn admin_client(checkout: &Checkout) -> Result<Client> {
    Ok(Client::try_from(admin_config(checkout).await?)?)
}

async fn admin_config(checkout: &Checkout) -> Result<Config> {
    // Fails when it was done before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let path = kubeconfig::admin_path(checkout);
    let file = Kubeconfig::read_from(&path)
        .with_context(|| format!("{} (written by `make up`)", checkout.display(&path)))?;
    Ok(Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_of_a_key_does_not_show_the_secret() {
        let key = AccessKey {
            id: "hubstorage-vend".into(),
            secret: "s3cr3t".into(),
        };

        assert!(!format!("{key:?}").contains("s3cr3t"));
    }
}
