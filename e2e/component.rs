//! What every component of the platform can do, and the one way in which all are brought up.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use tokio::sync::watch;

use crate::checkout::Checkout;
use crate::files;
use crate::process::{Launch, Record, spawn};
use crate::progress::Step;
use crate::site::Site;

/// How long a component may take from its start until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// One part of the platform. [`crate::components`] lists them.
#[async_trait(?Send)]
pub trait Component {
    /// Its name: of its process record, its log and its line in `status`.
    fn name(&self) -> &'static str;

    /// The components that must be ready before this one starts. Building does not wait.
    fn needs(&self) -> &'static [&'static str] {
        &[]
    }

    /// The names of the ports that it listens on. On a node, it starts when the node has its address.
    fn ports(&self) -> &'static [&'static str] {
        &[]
    }

    /// Makes what it runs, or finds it in the cache. Of components that run the same program, the
    /// one that the others need builds it.
    async fn build(&self, _site: &Site) -> Result<()> {
        Ok(())
    }

    /// Writes the files that it reads and says what to run; none if it is not a process.
    async fn start(&self, site: &Site) -> Result<Option<Launch>>;

    /// Asks once whether it is ready; the error says what is missing.
    async fn ready(&self, site: &Site) -> Result<()>;

    /// Puts into it what others expect to find there. Runs at every `up`, so it must be safe to
    /// repeat.
    async fn furnish(&self, _site: &Site) -> Result<()> {
        Ok(())
    }

    /// Ends its process.
    async fn stop(&self, site: &Site) -> Result<()> {
        stop_recorded(site, self.name()).await
    }

    /// Takes back what it did to the machine beside running a process. Runs after its process has
    /// ended, also after one that crashed at any moment, so it must be safe to repeat.
    async fn clean_up(&self, _checkout: &Checkout) -> Result<()> {
        Ok(())
    }
}

/// How long a process may take to end after TERM.
pub const GRACE: Duration = Duration::from_secs(10);

async fn stop_recorded(site: &Site, name: &str) -> Result<()> {
    match Record::of(&site.checkout, name) {
        Some(record) => record.stop(&site.checkout, GRACE).await,
        None => Ok(()),
    }
}

/// Where a component has got to, for those that need it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progressed {
    Underway,
    Ready,
    Failed,
}

type Readiness<'a> = HashMap<&'a str, watch::Sender<Progressed>>;

/// Brings all components up at once; each waits for what it needs. A failure stops those that
/// need the failed one and no others: a long build is not lost to a typo elsewhere. What runs
/// stays for `down` or the next `up`.
pub async fn bring_up(site: &Site, components: &[Box<dyn Component>]) -> Result<()> {
    let readiness: Readiness<'_> = components
        .iter()
        .map(|component| (component.name(), watch::Sender::new(Progressed::Underway)))
        .collect();
    let all = components.iter().map(|component| {
        let component = component.as_ref();
        let readiness = &readiness;
        async move {
            let outcome = bring_up_one(site, component, readiness).await;
            let progressed = if matches!(outcome, Ok(true)) {
                Progressed::Ready
            } else {
                Progressed::Failed
            };
            if let Some(sender) = readiness.get(component.name()) {
                sender.send_replace(progressed);
            }
            outcome.with_context(|| component.name())
        }
    });
    let failures: Vec<String> = futures::future::join_all(all)
        .await
        .into_iter()
        .filter_map(|outcome| Some(format!("{:#}", outcome.err()?)))
        .collect();
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    Ok(())
}

/// Starts one component, as it was last built, and waits until it is ready; nothing if it runs.
pub async fn start(site: &Site, component: &dyn Component) -> Result<()> {
    let step = site.progress.step(component.name(), "starting");
    if let Some(launch) = component.start(site).await?
        && !is_up_to_date(site, component, &launch).await?
    {
        component.stop(site).await?;
        start_and_wait(site, component, &launch, &step).await?;
    }
    step.done("ready");
    Ok(())
}

/// False if something that it needs has failed, which says so itself.
async fn bring_up_one(
    site: &Site,
    component: &dyn Component,
    readiness: &Readiness<'_>,
) -> Result<bool> {
    component.build(site).await?;
    let address = site.extent.listens_after().filter(|address| {
        // Not brought up with these where it was before.
        !component.ports().is_empty() && readiness.contains_key(address)
    });
    for need in component.needs().iter().copied().chain(address) {
        let Some(sender) = readiness.get(need) else {
            bail!("needs {need:?}, which is no component");
        };
        let mut progressed = sender.subscribe();
        let progressed = progressed
            .wait_for(|state| *state != Progressed::Underway)
            .await?;
        if *progressed == Progressed::Failed {
            return Ok(false);
        }
    }

    let step = site.progress.step(component.name(), "starting");
    let outcome = match component.start(site).await? {
        None => {
            component.ready(site).await?;
            "ready"
        }
        Some(launch) if is_up_to_date(site, component, &launch).await? => "was running",
        Some(launch) => {
            component.stop(site).await?;
            start_and_wait(site, component, &launch, &step).await?;
            "ready"
        }
    };
    component.furnish(site).await?;
    step.done(outcome);
    Ok(true)
}

/// Whether the component runs, from what it would be started from now, and is ready. Asked a few
/// times: a busy machine is no reason to restart it.
async fn is_up_to_date(site: &Site, component: &dyn Component, launch: &Launch) -> Result<bool> {
    let Some(record) = Record::of(&site.checkout, component.name()) else {
        return Ok(false);
    };
    if !record.is_alive() || record.fingerprint != launch.fingerprint()? {
        return Ok(false);
    }
    for _ in 0..5 {
        if component.ready(site).await.is_ok() {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(false)
}

async fn start_and_wait(
    site: &Site,
    component: &dyn Component,
    launch: &Launch,
    step: &Step,
) -> Result<()> {
    let name = component.name();
    let log = site.checkout.log(name);
    let mut child = spawn(&site.checkout, name, launch)?;
    let give_up = tokio::time::Instant::now() + READY_WITHIN;
    loop {
        let missing = match component.ready(site).await {
            Ok(()) => return Ok(()),
            Err(missing) => missing,
        };
        if let Some(status) = child.try_wait()? {
            bail!(
                "ended at once with {status}; the end of {}:\n{}",
                site.checkout.display(&log),
                files::last_lines(&log, 20)
            );
        }
        if tokio::time::Instant::now() > give_up {
            bail!(
                "was not ready after {} s: {missing:#}; see {}",
                READY_WITHIN.as_secs(),
                site.checkout.display(&log)
            );
        }
        step.now(&format!("starting: {missing:#}"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::extent::{Extent, NETWORK};
    use crate::ports::Ports;
    use crate::progress::Progress;

    /// A component that notes when it is started and when it is ready.
    struct Noted {
        name: &'static str,
        ports: &'static [&'static str],
        notes: Rc<RefCell<Vec<String>>>,
    }

    #[async_trait(?Send)]
    impl Component for Noted {
        fn name(&self) -> &'static str {
            self.name
        }

        fn ports(&self) -> &'static [&'static str] {
            self.ports
        }

        async fn start(&self, _site: &Site) -> Result<Option<Launch>> {
            self.notes
                .borrow_mut()
                .push(format!("{} starts", self.name));
            tokio::task::yield_now().await;
            Ok(None)
        }

        async fn ready(&self, _site: &Site) -> Result<()> {
            self.notes
                .borrow_mut()
                .push(format!("{} is ready", self.name));
            Ok(())
        }
    }

    #[tokio::test]
    async fn nothing_listens_before_the_node_has_its_address() {
        let folder = tempfile::tempdir().unwrap();
        let notes = Rc::new(RefCell::new(Vec::new()));
        let noted = |name, ports| -> Box<dyn Component> {
            let notes = notes.clone();
            Box::new(Noted { name, ports, notes })
        };
        let components = [noted("etcd", &["etcd"]), noted(NETWORK, &[])];
        let (checkout, progress) = (Checkout::at(folder.path()), Progress::default());
        let site = Site::new(checkout, Extent::Node, Ports::default(), progress).unwrap();

        bring_up(&site, &components).await.unwrap();

        let in_order = [
            "network starts",
            "network is ready",
            "etcd starts",
            "etcd is ready",
        ];
        assert_eq!(*notes.borrow(), in_order);
    }
}
