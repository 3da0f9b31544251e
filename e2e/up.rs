//! `e2e up`: starts what does not run, restarts what is out of date, leaves the rest alone.

use std::fs::File;

use anyhow::{Context, Result};

use crate::cache::wait_for_lock;
use crate::checkout::Checkout;
use crate::component::{self, bring_up};
use crate::components::{self, Operator, operator};
use crate::ports::Ports;
use crate::process::Record;
use crate::progress::Progress;
use crate::site::Site;
use crate::{certificates, files, prerequisites};

/// Whether anything of the platform runs in this checkout.
pub fn anything_runs(checkout: &Checkout) -> bool {
    Record::all(checkout).iter().any(Record::is_alive)
}

/// Brings the platform up.
pub async fn up(checkout: &Checkout, wanted: Operator) -> Result<()> {
    prerequisites::check(checkout)?;
    let progress = Progress::default();
    files::make_private_folder(&checkout.run(""))?;
    let _lock = lock(checkout, &progress).await?;
    if !anything_runs(checkout) {
        // What an earlier platform left behind: it was killed, or the machine was restarted. etcd
        // does not sync here, so its data may be torn.
        forget(checkout)?;
        files::remove(&checkout.run("logs"))?;
    }
    files::make_private_folder(&checkout.run("logs"))?;
    certificates::ensure(&checkout.run("kubernetes/pki"))?;

    if wanted == Operator::Wanted && !operator::is_there(checkout) {
        progress
            .note("operator: left out, as src/operator/main.rs or src/agent/main.rs is not there");
    }
    let components = components::all(checkout, wanted);
    let ports = Ports::choose(checkout, &components)?;
    let site = Site::new(checkout.clone(), ports, progress)?;
    bring_up(&site, &components).await.context(
        "the platform is not up (`make up` tries again, `make down` stops what was started)",
    )
}

/// Starts one component of a platform that runs, as it was last built: the counterpart of
/// [`down::stop`](crate::down::stop).
pub async fn start(checkout: &Checkout, name: &str) -> Result<()> {
    let progress = Progress::default();
    let _lock = lock(checkout, &progress).await?;
    let site = Site::new(checkout.clone(), Ports::load(checkout), progress)?;
    let components = components::all(checkout, Operator::Wanted);
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
    let path = checkout.run("lock");
    let lock = File::create(&path).with_context(|| path.display().to_string())?;
    if lock.try_lock().is_err() {
        let step = progress.step(
            "platform",
            "waiting for another `up` or `down` in this checkout",
        );
        wait_for_lock(&lock).await?;
        drop(step);
    }
    Ok(lock)
}
