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
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
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

/// What was found.
#[derive(Debug)]
pub struct Report {
    /// Who could become an admin of a hub.
    pub text: String,
    /// What whoever reads it has to know beside.
    pub warnings: Vec<String>,
}

/// Where the operator itself is.
const OURS: [&str; 3] = [SYSTEM_NAMESPACE, VENDING_NAMESPACE, AGENTS_NAMESPACE];

/// Who could become an admin of a hub.
///
/// # Errors
/// If roles or HubStorages cannot be read, there is no hub, or not the namespace that was named.
pub async fn run(client: &Client, options: &Options) -> anyhow::Result<Report> {
    let all_hubs: Vec<DeserializeGuard<HubStorage>> = all(client).await?;
    let of_hubs = all_hubs
        .iter()
        .filter_map(|hub| hub.meta().namespace.clone());
    let of_hubs: BTreeSet<String> = of_hubs.collect();
    let (hubs, mut warnings) = readable(all_hubs);
    let namespaces = match &options.namespace {
        Some(only) => {
            refuse_missing(client, only, &of_hubs).await?;
            if !of_hubs.contains(only) && !OURS.contains(&only.as_str()) {
                warnings.push(format!(
                    "namespace {only} has no HubStorage, so these could act as its users only once it has one"
                ));
            }
            [only.clone()].into()
        }
        None if of_hubs.is_empty() => {
            bail!("no namespace has a HubStorage; name one that will have one with --namespace")
        }
        None => of_hubs.into_iter().chain(OURS.map(str::to_owned)).collect(),
    };
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
    let text = match options.output {
        Output::Json => format!("{}\n", serde_json::to_string_pretty(&found)?),
        Output::Table => table::table(&found, told - found.len()),
    };
    Ok(Report { text, warnings })
}

/// The hubs by which creators are known, and what is wrong with others. One that cannot be read may be the one
/// that counts in its namespace, so that others there say nothing.
fn readable(hubs: Vec<DeserializeGuard<HubStorage>>) -> (Vec<HubStorage>, Vec<String>) {
    let (mut readable, mut warnings, mut unknown) = (Vec::new(), Vec::new(), BTreeSet::new());
    for hub in hubs {
        match hub.0 {
            Ok(hub) => readable.push(hub),
            Err(InvalidObject { error, metadata }) => {
                let namespace = metadata.namespace.unwrap_or_default();
                warnings.push(format!(
                    "HubStorage {} in namespace {namespace} cannot be read ({error}), so nobody there is known as a \
                     creator; is a newer CustomResourceDefinition installed than this version of hubstorage knows?",
                    metadata.name.unwrap_or_default()
                ));
                unknown.insert(Some(namespace));
            }
        }
    }
    readable.retain(|hub| !unknown.contains(&hub.metadata.namespace));
    (readable, warnings)
}

/// A namespace that is not there has no bindings, and would look safe.
async fn refuse_missing(
    client: &Client,
    namespace: &str,
    of_hubs: &BTreeSet<String>,
) -> anyhow::Result<()> {
    let namespaces = Api::<Namespace>::all(client.clone());
    let found = namespaces.get_opt(namespace).await;
    let found = found.with_context(|| format!("namespace {namespace} cannot be read"))?;
    if found.is_some() {
        return Ok(());
    }
    let known: Vec<&str> = of_hubs.iter().map(String::as_str).collect();
    match known.is_empty() {
        true => bail!("--namespace {namespace}: there is no such namespace"),
        false => bail!(
            "--namespace {namespace}: there is no such namespace; those with a HubStorage are {}",
            known.join(", ")
        ),
    }
}

async fn all<K>(client: &Client) -> anyhow::Result<Vec<K>>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let listed = Api::<K>::all(client.clone())
        .list(&ListParams::default())
        .await;
    let listed = listed.map_err(|error| {
        let is_forbidden = matches!(&error, kube::Error::Api(status) if status.is_forbidden());
        let needs = match is_forbidden {
            true => "; `audit` needs the rights of an admin of the cluster",
            false => "",
        };
        let plural = K::plural(&());
        anyhow::Error::new(error).context(format!("{plural} cannot be listed{needs}"))
    })?;
    Ok(listed.items)
}

#[cfg(test)]
mod tests;
