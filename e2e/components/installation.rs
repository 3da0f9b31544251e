//! The operator's installation: its manifests, the two Secrets of the store, and a kubeconfig with
//! a token of its own service account for each role. Not a process.

use anyhow::{Context, Result};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::process::Command;

use super::{forwarder, minio, operator};
use crate::commands::{printed, run_with_input};
use crate::component::Component;
use crate::files;
use crate::kubeconfig::{self, Identity};
use crate::process::Launch;
use crate::running::{self, AccessKey, MinioUser};
use crate::service_account_token;
use crate::site::Site;

/// The installation.
pub struct Installation;

/// Where the operator's own objects are.
pub const SYSTEM: &str = "hubstorage-system";

/// Where the keys are that only `serve` may read.
pub const VENDING: &str = "hubstorage-vending";

/// Where the agents are, and what they know the broker by.
pub const AGENTS: &str = "hubstorage-agents";

/// The Secret with the key of the store's user that manages.
pub const MANAGE_SECRET: &str = "minio-manage";

/// The Secret with the key of the store's user that vends.
pub const VEND_SECRET: &str = "minio-vend";

/// A day: longer than the platform usually stays up, and every `up` renews it.
const TOKEN_SECONDS: i64 = 24 * 60 * 60;

#[async_trait(?Send)]
impl Component for Installation {
    fn name(&self) -> &'static str {
        "installation"
    }

    fn needs(&self) -> &'static [&'static str] {
        &["kube-apiserver", "minio"]
    }

    async fn build(&self, site: &Site) -> Result<()> {
        operator::build(site).await
    }

    async fn start(&self, _site: &Site) -> Result<Option<Launch>> {
        Ok(None)
    }

    async fn ready(&self, _site: &Site) -> Result<()> {
        Ok(())
    }

    async fn furnish(&self, site: &Site) -> Result<()> {
        apply_manifests(site).await?;
        let client = running::admin_client(&site.checkout).await?;
        write_keys(site, &client).await?;
        for role in ["controller", "serve"] {
            write_identity(site, &client, role).await?;
        }
        Ok(())
    }
}

/// The two Secrets with the keys of the store's users.
pub async fn write_keys(site: &Site, client: &Client) -> Result<()> {
    let keys = minio::Keys::load(&site.checkout)?;
    write_secret(client, SYSTEM, MANAGE_SECRET, &keys.of(MinioUser::Manage)).await?;
    write_secret(client, VENDING, VEND_SECRET, &keys.of(MinioUser::Vend)).await
}

/// `hubstorage manifests | kubectl apply`, as a person would.
async fn apply_manifests(site: &Site) -> Result<()> {
    let manifests = Command::new(operator::program(&site.checkout, "hubstorage"))
        .env_clear()
        .args(["manifests", "--webhook-url", &forwarder::webhook_url(site)?])
        .output()
        .await?;
    let manifests = printed(&manifests, "hubstorage manifests")?;
    let mut kubectl = Command::new(site.checkout.run("bin/kubectl"));
    kubectl.args(["apply", "--server-side", "--force-conflicts", "-f", "-"]);
    let applied = run_with_input(kubectl, manifests.as_bytes()).await?;
    printed(&applied, "kubectl apply").map(drop)
}

async fn write_secret(client: &Client, namespace: &str, name: &str, key: &AccessKey) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": {"AWS_ACCESS_KEY_ID": key.id, "AWS_SECRET_ACCESS_KEY": key.secret},
    });
    let apply = PatchParams::apply("hubstorage-e2e").force();
    let applied = secrets.patch(name, &apply, &Patch::Apply(secret)).await;
    applied
        .map(drop)
        .with_context(|| format!("Secret {namespace}/{name}"))
}

/// The kubeconfig of one role, with a fresh token.
async fn write_identity(site: &Site, client: &Client, role: &str) -> Result<()> {
    let account = format!("hubstorage-{role}");
    let issued = service_account_token::issue_for(client, SYSTEM, &account, TOKEN_SECONDS).await?;

    let folder = site.checkout.run("operator");
    files::make_private_folder(&folder)?;
    let token = folder.join(format!("{role}.token"));
    files::write_private(&token, issued)?;
    let config = folder.join(format!("{role}.kubeconfig"));
    kubeconfig::write(site, &config, &Identity::TokenFile(&token))
}
