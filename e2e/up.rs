//! `e2e up`: starts what does not run, restarts what is out of date, leaves the rest alone.

use std::fs::File;

use anyhow::{Context, Result, bail, ensure};

use crate::cache::wait_for_lock;
use crate::checkout::Checkout;
use crate::component::{self, bring_up};
use crate::components::{self, node};
use crate::extent::{Extent, USE_KUBECONFIG};
use crate::ports::Ports;
use crate::process::Record;
use crate::progress::Progress;
use crate::shell;
use crate::site::Site;
use crate::{certificates, down, existing, files, prerequisites};

/// Whether anything of the platform runs: in this checkout, or for it in an existing cluster.
pub fn anything_runs(checkout: &Checkout) -> bool {
    Extent::of(checkout) == Some(Extent::Existing)
        || Record::all(checkout).iter().any(Record::is_alive)
}

/// Brings the platform up. One that runs is grown where that can be, and else taken down first.
pub async fn up(checkout: &Checkout, wanted: Extent) -> Result<()> {
    prerequisites::check(checkout)?;
    let progress = Progress::default();
    files::make_private_folder(&checkout.run(""))?;
    let _lock = lock(checkout, &progress).await?;
    let recorded = Extent::of(checkout);
    let fits = recorded.is_some_and(|extent| extent.grows_into(wanted));
    if recorded == Some(Extent::Existing) {
        // What it has in somebody else's cluster goes when that is asked for, never by itself.
        ensure!(
            fits,
            "this checkout uses an existing cluster (`make status`): set {USE_KUBECONFIG}=1 to go on with it, or \
             run `make down` first"
        );
    } else if !anything_runs(checkout) {
        // What an earlier platform left behind: it was killed, or the machine was restarted. etcd
        // does not sync here, so its data may be torn.
        down::take_down(checkout, &progress).await?;
        files::remove(&checkout.run("logs"))?;
    } else if !fits {
        progress.note("the platform that runs is of another extent and is taken down first");
        down::take_down(checkout, &progress).await?;
    }
    files::make_private_folder(&checkout.run("logs"))?;
    if wanted == Extent::Existing {
        existing::attach(checkout, &progress).await?;
    } else {
        certificates::ensure(&checkout.run("kubernetes/pki"))?;
    }
    wanted
        .max(recorded.filter(|_| fits).unwrap_or(wanted))
        .record(checkout)?;
    if wanted == Extent::Node {
        let _alone = node::alone_with_the_claim().await?;
        clear_the_machine(checkout, &progress).await?;
        node::claim(checkout)?;
    }

    let components = components::all(wanted);
    let ports = Ports::choose(checkout, wanted.host(), &components)?;
    let site = Site::new(checkout.clone(), wanted, ports, progress)?;
    bring_up(&site, &components).await.context(
        "the platform is not up (`make up` tries again, `make down` stops what was started)",
    )?;
    shell::write(checkout, &site.ports)
}

/// Takes down what is left of another checkout's node: addresses, links and rules are the machine's,
/// so there is one node at a time.
///
/// # Errors
/// If the other node runs.
async fn clear_the_machine(checkout: &Checkout, progress: &Progress) -> Result<()> {
    match node::claimed_by_another(checkout) {
        Some(other) => clear_of(&other, progress).await,
        None => Ok(()),
    }
}

async fn clear_of(other: &Checkout, progress: &Progress) -> Result<()> {
    let root = other.root().display();
    // Not waited for: whoever has it may be waiting for the claim.
    let Some(_lock) = try_lock(other)? else {
        bail!(
            "an `up` or `down` is under way in the checkout in {root}, which has a node on this machine"
        );
    };
    let beside = other.all_beside()?;
    let mut all = beside.iter().chain([other]).flat_map(Record::all);
    ensure!(
        !all.any(|record| record.is_alive()),
        "the checkout in {root} has a node on this machine, and there is room for one: run `make \
         down` there first"
    );
    progress.note(&format!(
        "the node of the checkout in {root} was killed: cleaning up after it"
    ));
    down::take_down(other, progress)
        .await
        .map(drop)
        .with_context(|| format!("cleaning up after the node of the checkout in {root}"))
}

/// Brings up the stores that only the contract suite needs, beside the platform that runs.
pub async fn further_stores(checkout: &Checkout) -> Result<()> {
    let progress = Progress::default();
    let _lock = lock(checkout, &progress).await?;
    let extent = Extent::of(checkout);
    let extent = extent.context("nothing was started in this checkout; run `make up`")?;
    let components = components::further_stores();
    let ports = Ports::choose(checkout, extent.host(), &components)?;
    let site = Site::new(checkout.clone(), extent, ports, progress)?;
    bring_up(&site, &components).await
}

/// Starts one component of a platform that runs, as it was last built: the counterpart of
/// [`down::stop`](crate::down::stop).
pub async fn start(checkout: &Checkout, name: &str) -> Result<()> {
    let progress = Progress::default();
    let _lock = lock(checkout, &progress).await?;
    let extent = Extent::of(checkout);
    let extent = extent.context("nothing was started in this checkout; run `make up`")?;
    let site = Site::new(checkout.clone(), extent, Ports::load(checkout), progress)?;
    let components = components::table(extent);
    let component = components.iter().find(|component| component.name() == name);
    let component = component.with_context(|| format!("no component {name:?}"))?;
    component::start(&site, component.as_ref())
        .await
        .with_context(|| name.to_owned())
}

/// Removes the state of a platform that does not run: everything but the logs.
pub fn forget(checkout: &Checkout) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(checkout.run("")) else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry?;
        if !["logs", "lock"]
            .iter()
            .any(|kept| entry.file_name() == *kept)
        {
            files::remove(&entry.path())?;
        }
    }
    Ok(())
}

/// One `up` or `down` at a time in a checkout.
pub async fn lock(checkout: &Checkout, progress: &Progress) -> Result<File> {
    if let Some(lock) = try_lock(checkout)? {
        return Ok(lock);
    }
    let step = progress.step(
        "platform",
        "waiting for another `up` or `down` in this checkout",
    );
    let lock = lock_file(checkout)?;
    wait_for_lock(&lock).await?;
    drop(step);
    Ok(lock)
}

/// The same, if nobody else has it.
fn try_lock(checkout: &Checkout) -> Result<Option<File>> {
    let lock = lock_file(checkout)?;
    Ok(lock.try_lock().is_ok().then_some(lock))
}

fn lock_file(checkout: &Checkout) -> Result<File> {
    let path = checkout.run("lock");
    File::create(&path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::fixture::recorded_sleeper;

    #[tokio::test]
    async fn anothers_node_is_in_the_way_while_it_runs_and_cleaned_up_after_when_it_was_killed() {
        let folder = tempfile::tempdir().unwrap();
        let other = Checkout::at(folder.path());
        let (mut child, _) = recorded_sleeper(&other);
        Extent::Node.record(&other).unwrap();

        let refusal = clear_of(&other, &Progress::default()).await.unwrap_err();
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        clear_of(&other, &Progress::default()).await.unwrap();

        let message = refusal.to_string();
        assert!(
            message.contains(&folder.path().display().to_string()),
            "{message}"
        );
        assert_eq!(Extent::of(&other), None);
        assert!(Record::all(&other).is_empty());
    }

    #[tokio::test]
    async fn an_existing_cluster_that_was_the_node_here_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let killed = Checkout::at(folder.path());
        let beside = Checkout::at(killed.run("beside/existing"));
        files::make_private_folder(&beside.run("")).unwrap();
        Extent::Node.record(&killed).unwrap();
        Extent::Existing.record(&beside).unwrap();

        clear_of(&killed, &Progress::default()).await.unwrap();

        assert_eq!(Extent::of(&beside), None);
    }
}
