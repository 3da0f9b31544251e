//! A cluster that somebody else runs: that of the current context of the kubeconfig.
//!
//! Nothing in it is ours by its name. `up` makes the namespace `hubstorage-system` first, with a
//! [`MARK`] that this checkout alone knows, and refuses a cluster where anything of a HubStorage is
//! already: whoever has that namespace has the one installation. [`remove`] takes away that
//! installation, and the namespaces with the mark.

use anyhow::{Context, Result, bail};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use serde_json::json;

mod removal;

pub use removal::remove;

use crate::checkout::Checkout;
use crate::components::installation::{AGENTS, SYSTEM, VENDING};
use crate::files;
use crate::kubeconfig::admin_path;
use crate::progress::Progress;
use crate::running::admin_client;

/// The label of every namespace that a checkout has made in the cluster, and of the demo's
/// StorageProvider; its value tells which checkout.
pub const MARK: &str = "e2e.hubstorage.io/checkout";

/// Where the store is, as in docs/examples/minio.yaml.
pub const STORE: &str = "minio";

/// The group of our kinds.
const GROUP: &str = "hubstorage.io";

/// The cluster, as `up` found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Existing {
    /// The context's name in the kubeconfig.
    pub context: String,
    /// The URL of its API server.
    pub server: String,
    /// The UID of its namespace `kube-system`: another cluster may come to be at the same URL.
    uid: String,
    /// The value of [`MARK`].
    pub mark: String,
}

const RECORD: &str = "existing.json";

impl Existing {
    /// The cluster that this checkout uses; none before `up` has found one, and after `down`.
    pub fn of(checkout: &Checkout) -> Option<Self> {
        let text = std::fs::read(checkout.run(RECORD)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// The same, where there must be one.
    pub fn load(checkout: &Checkout) -> Result<Self> {
        Self::of(checkout).context("this checkout uses no existing cluster; run `make up`")
    }

    /// Whether this checkout has made the namespace.
    fn has_made(&self, namespace: &Namespace) -> bool {
        namespace.labels().get(MARK) == Some(&self.mark)
    }

    /// A selector of what this checkout has marked.
    fn selector(&self) -> String {
        format!("{MARK}={}", self.mark)
    }

    /// A selector of everything else.
    pub fn selector_of_others(&self) -> String {
        format!("{MARK}!={}", self.mark)
    }
}

/// Finds the cluster of the current context and says which one it is, before anything in it is
/// changed. From here on the platform has a kubeconfig of its own: when the person chooses another
/// context, `down` still finds this one.
///
/// # Errors
/// If the cluster has an installation of somebody else's, or this checkout uses another cluster.
pub async fn attach(checkout: &Checkout, progress: &Progress) -> Result<()> {
    let config = of_current_context(Kubeconfig::read()?)?;
    let (context, server) = names(&config)?;
    progress.note(&format!("cluster: context {context:?}, {server}"));
    let client = client(config.clone()).await?;
    let uid = uid(&client)
        .await
        .with_context(|| format!("the cluster of the context {context:?}, {server}"))?;
    let mark = match Existing::of(checkout) {
        Some(known) if known.uid != uid => bail!(
            "this checkout uses the cluster of the context {:?}, {}: choose that context, or run \
             `make down` first",
            known.context,
            known.server,
        ),
        Some(known) => known.mark,
        None => format!("{:016x}", rand::rng().random::<u64>()),
    };
    let found = Existing {
        context,
        server,
        uid,
        mark,
    };
    refuse_strangers(&client, &found).await?;
    files::write_private(&admin_path(checkout), serde_yaml::to_string(&config)?)?;
    files::write_private(&checkout.run(RECORD), serde_json::to_vec_pretty(&found)?)
}

/// Makes a namespace with the mark, if this checkout has not made it before.
///
/// # Errors
/// If somebody else has.
pub async fn make_namespace(checkout: &Checkout, name: &str) -> Result<()> {
    let found = Existing::load(checkout)?;
    let namespaces: Api<Namespace> = Api::all(admin_client(checkout).await?);
    if let Some(namespace) = namespaces.get_opt(name).await? {
        if found.has_made(&namespace) {
            return Ok(());
        }
        bail!("{}", strangers_message(&[format!("Namespace {name}")]));
    }
    let namespace: Namespace = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {MARK: found.mark}},
    }))?;
    let made = namespaces.create(&PostParams::default(), &namespace).await;
    made.map(drop).with_context(|| format!("Namespace {name}"))
}

/// The image that an environment variable names; none if it is unset or empty.
pub fn given_image(variable: &str) -> Option<String> {
    std::env::var(variable)
        .ok()
        .filter(|value| !value.is_empty())
}

/// The kubeconfig's current context, and nothing else of it.
fn of_current_context(mut config: Kubeconfig) -> Result<Kubeconfig> {
    let current = config.current_context.clone().unwrap_or_default();
    config.contexts.retain(|context| context.name == current);
    let context = config
        .contexts
        .first()
        .and_then(|named| named.context.clone());
    let context = context.with_context(|| {
        format!(
            "the kubeconfig ($KUBECONFIG, else ~/.kube/config) has no context called {current:?}, \
             its current one: `kubectl config use-context` sets another"
        )
    })?;
    config
        .clusters
        .retain(|cluster| cluster.name == context.cluster);
    config
        .auth_infos
        .retain(|user| Some(&user.name) == context.user.as_ref());
    Ok(config)
}

/// The context's name, and the URL of its API server.
fn names(config: &Kubeconfig) -> Result<(String, String)> {
    let context = config.current_context.clone().unwrap_or_default();
    let cluster = config
        .clusters
        .first()
        .and_then(|named| named.cluster.as_ref());
    let server = cluster.and_then(|cluster| cluster.server.clone());
    let server = server
        .with_context(|| format!("the context {context:?} of the kubeconfig names no server"))?;
    Ok((context, server))
}

async fn client(config: Kubeconfig) -> Result<Client> {
    // Fails when it was done before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

async fn uid(client: &Client) -> Result<String> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = namespaces.get("kube-system").await?;
    namespace
        .uid()
        .context("the namespace kube-system has no UID")
}

/// Whatever of an installation is in the cluster has to be ours.
async fn refuse_strangers(client: &Client, found: &Existing) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let system = namespaces.get_opt(SYSTEM).await?;
    if system.is_some_and(|system| found.has_made(&system)) {
        return Ok(());
    }
    let mut strangers = Vec::new();
    for name in [SYSTEM, VENDING, AGENTS, STORE] {
        let namespace = namespaces.get_opt(name).await?;
        if namespace.is_some_and(|namespace| !found.has_made(&namespace)) {
            strangers.push(format!("Namespace {name}"));
        }
    }
    let webhooks: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    if webhooks.get_opt("hubstorage").await?.is_some() {
        strangers.push("MutatingWebhookConfiguration hubstorage".to_owned());
    }
    // Kinds that an uninstalled release has left count too: there may be HubStorages, which a new
    // controller would take for its own.
    let kinds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let kinds = kinds.list(&ListParams::default()).await?;
    let ours = kinds.iter().filter(|kind| kind.spec.group == GROUP);
    strangers.extend(ours.map(|kind| format!("CustomResourceDefinition {}", kind.name_any())));
    if strangers.is_empty() {
        return Ok(());
    }
    bail!("{}", strangers_message(&strangers))
}

fn strangers_message(strangers: &[String]) -> String {
    format!(
        "the cluster has {}, which this checkout has not made and does not touch. Choose another \
         cluster, or remove them as docs/install.md says under Uninstall, if nobody needs them",
        strangers.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "
        apiVersion: v1
        kind: Config
        current-context: kind
        contexts:
        - {name: kind, context: {cluster: kind-cluster, user: kind-user}}
        - {name: production, context: {cluster: production, user: boss}}
        clusters:
        - {name: kind-cluster, cluster: {server: 'https://127.0.0.1:6443'}}
        - {name: production, cluster: {server: 'https://192.0.2.1'}}
        users:
        - {name: kind-user, user: {exec: {apiVersion: v1, command: login, interactiveMode: Never}}}
        - {name: boss, user: {token: secret}}
    ";

    #[test]
    fn of_a_kubeconfig_nothing_but_the_current_context_is_kept() {
        let config = of_current_context(Kubeconfig::from_yaml(TWO).unwrap()).unwrap();

        let (context, server) = names(&config).unwrap();
        let kept = serde_yaml::to_string(&config).unwrap();
        assert_eq!((&*context, &*server), ("kind", "https://127.0.0.1:6443"));
        assert!(kept.contains("command: login"), "{kept}");
        assert!(!kept.contains("production"), "{kept}");
        assert!(!kept.contains("secret"), "{kept}");
    }

    #[test]
    fn a_kubeconfig_without_a_current_context_is_refused() {
        let config = Kubeconfig::from_yaml(&TWO.replace("current-context: kind", "")).unwrap();

        let error = of_current_context(config).unwrap_err().to_string();

        assert!(error.contains("use-context"), "{error}");
    }

    #[test]
    fn a_namespace_is_ours_by_the_mark_alone() {
        let found = Existing {
            context: "kind".into(),
            server: "https://127.0.0.1:6443".into(),
            uid: "1".into(),
            mark: "0001".into(),
        };
        let namespace = |labels| -> Namespace {
            let metadata = json!({"name": SYSTEM, "labels": labels});
            serde_json::from_value(json!({ "metadata": metadata })).unwrap()
        };

        assert!(found.has_made(&namespace(json!({MARK: "0001"}))));
        assert!(!found.has_made(&namespace(json!({MARK: "0002"}))));
        assert!(!found.has_made(&namespace(json!({}))));
    }
}
