//! `hubstorage audit`: who could act as any user of a hub, by the rights that RBAC gives them.
//!
//! The broker's trust ends with these accounts. It is a look from outside, with the rights of whoever runs it;
//! the operator itself reads no roles.

mod findings;
mod rights;
mod table;

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use hubstorage_core::api::{AGENTS_NAMESPACE, HubStorage, SYSTEM_NAMESPACE, VENDING_NAMESPACE};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::ListParams;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use findings::{Rbac, findings};

pub use rights::{Question, questions};

/// Options of `hubstorage audit`.
#[derive(Args, Debug, Clone)]
pub struct Options {
    /// Only this namespace. Default: every namespace with a HubStorage, and those of the operator, where the
    /// keys of stores and the agents are.
    #[arg(long, short)]
    namespace: Option<String>,
    /// The accounts that Kubernetes itself needs, too.
    #[arg(long)]
    all: bool,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

#[derive(ValueEnum, Debug, Clone, Copy, Default)]
enum Output {
    /// For people.
    #[default]
    Table,
    /// A list of objects.
    Json,
}

/// Who could become an admin of a hub, as text.
///
/// # Errors
/// If roles or HubStorages cannot be read, or there is no hub.
pub async fn run(client: &Client, options: &Options) -> anyhow::Result<String> {
    let hubs: Vec<HubStorage> = all(client).await?;
    let namespaces: BTreeSet<String> = match &options.namespace {
        Some(only) => [only.clone()].into(),
        None => {
            let of_hubs = hubs.iter().filter_map(|hub| hub.metadata.namespace.clone());
            let ours = [SYSTEM_NAMESPACE, VENDING_NAMESPACE, AGENTS_NAMESPACE].map(str::to_owned);
            of_hubs.chain(ours).collect()
        }
    };
    if options.namespace.is_none() && hubs.is_empty() {
        bail!("no namespace has a HubStorage; name one that will have one with --namespace");
    }
    let rbac = Rbac {
        roles: all::<Role>(client).await?,
        role_bindings: all::<RoleBinding>(client).await?,
        cluster_roles: all::<ClusterRole>(client).await?,
        cluster_role_bindings: all::<ClusterRoleBinding>(client).await?,
    };
    let mut found = findings(&rbac, &hubs, &namespaces);
    let told = found.len();
    if !options.all {
        found.retain(|finding| !finding.is_of_kubernetes);
    }
    match options.output {
        Output::Json => Ok(format!("{}\n", serde_json::to_string_pretty(&found)?)),
        Output::Table => Ok(table::table(&found, told - found.len())),
    }
}

async fn all<K>(client: &Client) -> anyhow::Result<Vec<K>>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let listed = Api::<K>::all(client.clone())
        .list(&ListParams::default())
        .await;
    let listed = listed.with_context(|| {
        format!(
            "{} cannot be listed; `audit` needs the rights of an admin of the cluster",
            K::plural(&())
        )
    })?;
    Ok(listed.items)
}
