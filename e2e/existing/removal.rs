//! Taking away what `up` and the demo have made in somebody else's cluster.

use anyhow::{Context, Result, bail};

use super::{Existing, GROUP, uid};
use crate::checkout::Checkout;
use crate::components::installation::{SYSTEM, VENDING};
use crate::components::release;
use crate::progress::Progress;
use crate::running::{Platform, admin_client};

/// How long anything may take to be gone, as kubectl wants it.
const WITHIN: &str = "--timeout=120s";

/// Removes the installation, if it is this checkout's, and every namespace with its mark. Safe to
/// repeat, also after one that was interrupted: `hubstorage-system`, which says whose the rest is,
/// goes last.
///
/// # Errors
/// If there are HubStorages or StorageProviders of somebody else's, which would go with the kinds.
/// Nothing is removed then.
pub async fn remove(checkout: &Checkout) -> Result<()> {
    // Without a kubectl nothing was made yet.
    let Some(found) = Existing::of(checkout).filter(|_| checkout.run("bin/kubectl").exists())
    else {
        return Ok(());
    };
    let (context, server) = (&found.context, &found.server);
    let progress = Progress::default();
    let step = progress.step("cluster", &format!("context {context:?}, {server}"));
    let gone = "if that cluster is gone, remove the folder .run";
    let answering = async { uid(&admin_client(checkout).await?).await };
    let answering = answering
        .await
        .with_context(|| format!("the context {context:?}, {server} ({gone})"))?;
    if answering != found.uid {
        bail!("another cluster answers at {server}, and nothing in it was removed; {gone}");
    }

    let cluster = Platform::at(checkout);
    let marked = marked_namespaces(&cluster, &found).await?;
    if marked.iter().any(|name| name == SYSTEM) {
        step.now("removing the operator");
        remove_installation(&cluster, &found, &marked).await?;
    }
    step.now("removing the namespaces");
    let (system, others): (Vec<_>, Vec<_>) = marked.iter().partition(|name| *name == SYSTEM);
    for names in [others, system] {
        for name in names {
            delete(&cluster, &["namespace", name]).await?;
        }
    }
    step.done("nothing of this checkout is left in it");
    Ok(())
}

async fn remove_installation(
    cluster: &Platform,
    found: &Existing,
    marked: &[String],
) -> Result<()> {
    let kinds = kinds(cluster).await?;
    if !kinds.is_empty() {
        let strangers = strangers(cluster, found, marked).await?;
        if !strangers.is_empty() {
            bail!(
                "{} would be deleted with their kinds, and are not of this checkout: nothing was \
                 removed. Delete them first, if nobody needs them",
                strangers.join(", ")
            );
        }
        // While the controller runs: it removes their finalizers.
        for namespace in marked {
            delete(
                cluster,
                &["hubstorages.hubstorage.io", "--all", "-n", namespace],
            )
            .await?;
        }
    }
    let uninstall = ["uninstall", release::NAME, "--ignore-not-found", "--wait"];
    let uninstall = [&uninstall[..], &["--namespace", SYSTEM]].concat();
    release::helm(&cluster.checkout, &uninstall).await?;
    for kind in &kinds {
        delete(cluster, &["customresourcedefinition", kind]).await?;
    }
    delete(cluster, &["namespace", VENDING]).await
}

/// Hubs outside of the namespaces that this checkout has made, and providers without its mark.
async fn strangers(cluster: &Platform, found: &Existing, marked: &[String]) -> Result<Vec<String>> {
    let hubs = "-o=jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name} {end}";
    let hubs = cluster
        .kubectl_prints(&["get", "hubstorages.hubstorage.io", "-A", hubs])
        .await?;
    let others = found.selector_of_others();
    let providers = ["get", "storageproviders.hubstorage.io", "-l", &others];
    let names = "-o=jsonpath={.items[*].metadata.name}";
    let providers = cluster
        .kubectl_prints(&[&providers[..], &[names]].concat())
        .await?;
    Ok(hubs_outside(&hubs, marked)
        .map(|hub| format!("HubStorage {hub}"))
        .chain(
            providers
                .split_whitespace()
                .map(|name| format!("StorageProvider {name}")),
        )
        .collect())
}

/// Of `NAMESPACE/NAME NAMESPACE/NAME …`, those in other namespaces than these.
fn hubs_outside<'a>(hubs: &'a str, namespaces: &'a [String]) -> impl Iterator<Item = &'a str> {
    hubs.split_whitespace().filter(|hub| {
        let namespace = hub.split('/').next().unwrap_or_default();
        !namespaces.iter().any(|marked| marked == namespace)
    })
}

async fn marked_namespaces(cluster: &Platform, found: &Existing) -> Result<Vec<String>> {
    let selector = found.selector();
    let names = "-o=jsonpath={.items[*].metadata.name}";
    let marked = ["get", "namespaces", "-l", &selector, names];
    let marked = cluster.kubectl_prints(&marked).await?;
    Ok(marked.split_whitespace().map(str::to_owned).collect())
}

/// The names of our kinds' definitions that are there.
async fn kinds(cluster: &Platform) -> Result<Vec<String>> {
    let names = "-o=jsonpath={.items[*].metadata.name}";
    let all = cluster
        .kubectl_prints(&["get", "customresourcedefinitions", names])
        .await?;
    let ours = all
        .split_whitespace()
        .filter(|name| name.ends_with(&format!(".{GROUP}")));
    Ok(ours.map(str::to_owned).collect())
}

/// Deletes and waits; what is not there is fine.
async fn delete(cluster: &Platform, what: &[&str]) -> Result<()> {
    let arguments = [&["delete", "--ignore-not-found", WITHIN], what].concat();
    cluster.kubectl_prints(&arguments).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hubs_in_namespaces_that_were_made_here_are_no_strangers() {
        let made = ["earth".to_owned(), SYSTEM.to_owned()];

        let outside: Vec<_> = hubs_outside("earth/earth moon/hub earth-2/hub ", &made).collect();

        assert_eq!(outside, ["moon/hub", "earth-2/hub"]);
    }
}
