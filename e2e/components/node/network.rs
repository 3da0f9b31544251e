//! The node's address, and what the kernel is told so that pods can reach it. Not a process.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::cache::wait_for_lock;
use crate::checkout::Checkout;
use crate::commands::printed;
use crate::component::Component;
use crate::extent::{Extent, NETWORK, NODE_ADDRESS};
use crate::files;
use crate::process::Launch;
use crate::site::Site;

/// The node's network.
pub struct Network;

/// Names the checkout whose platform has this machine's network: addresses, links and rules are
/// the machine's, so there is one node at a time.
const CLAIM: &str = "/run/hubstorage-e2e.claim";

/// The folder of the claim, locked by whoever looks at it to take it: a file of our own for that could
/// never be removed.
const LOCKED: &str = "/run";

/// What the machine was like before.
const BEFORE: &str = "machine.json";

/// The address of the agent, which its pod adds to the node (EKS nodes have it).
const AGENT_ADDRESS: &str = "169.254.170.23";

/// Where pods are. The bridge has the first address.
pub const POD_NETWORK: &str = "10.244.0.0/24";

/// The bridge that pods are attached to.
const BRIDGE: &str = "hubstorage0";

/// Settings of the kernel that the node changes: the first here, the others by the kubelet
/// (`setupKernelTunables`).
const SETTINGS: [&str; 7] = [
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// What `down` puts back.
#[derive(Serialize, Deserialize)]
struct Machine {
    settings: BTreeMap<String, String>,
    had_the_agents_address: bool,
}

#[async_trait(?Send)]
impl Component for Network {
    fn name(&self) -> &'static str {
        NETWORK
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        remember(&site.checkout).await?;
        if !has_address(&NODE_ADDRESS.to_string()).await? {
            ip(&["address", "add", &format!("{NODE_ADDRESS}/32"), "dev", "lo"]).await?;
        }
        std::fs::write(setting("net/ipv4/ip_forward"), "1").context("net.ipv4.ip_forward")?;
        write_cni_configuration(&site.checkout)?;
        Ok(None)
    }

    async fn ready(&self, _site: &Site) -> Result<()> {
        if !has_address(&NODE_ADDRESS.to_string()).await? {
            bail!("no interface has the address {NODE_ADDRESS}");
        }
        Ok(())
    }

    async fn clean_up(&self, checkout: &Checkout) -> Result<()> {
        let path = checkout.run(BEFORE);
        if let Ok(text) = std::fs::read(&path) {
            let before: Machine = serde_json::from_slice(&text)?;
            if Path::new("/sys/class/net").join(BRIDGE).exists() {
                ip(&["link", "delete", BRIDGE]).await?;
            }
            let mut ours = vec![NODE_ADDRESS.to_string()];
            ours.extend((!before.had_the_agents_address).then(|| AGENT_ADDRESS.to_owned()));
            for address in ours {
                if has_address(&address).await? {
                    ip(&["address", "delete", &format!("{address}/32"), "dev", "lo"]).await?;
                }
            }
            for (name, value) in before.settings {
                std::fs::write(setting(&name), value).with_context(|| name.clone())?;
            }
            files::remove(&path)?;
        }
        files::remove(Path::new(CLAIM))
    }
}

/// Lets nobody else look at the claim or change it, until the file is dropped: between a look and a
/// claim, another `up` could clean up after the same node and start its own.
pub async fn alone_with_the_claim() -> Result<File> {
    let lock = File::open(LOCKED).context(LOCKED)?;
    wait_for_lock(&lock).await?;
    Ok(lock)
}

/// Takes the machine's network for this checkout, before anything of a node is started and when
/// [`claimed_by_another`] tells of nobody.
pub fn claim(checkout: &Checkout) -> Result<()> {
    std::fs::write(CLAIM, checkout.root().display().to_string()).context(CLAIM)
}

/// The other checkout that has a node on this machine, or had one that was never taken down.
pub fn claimed_by_another(checkout: &Checkout) -> Option<Checkout> {
    let other = claimed_by()
        .map(Checkout::at)
        .filter(|other| other.root() != checkout.root())?;
    (Extent::of(&other) == Some(Extent::Node)).then_some(other)
}

/// Whether this checkout has it: nobody else may clean up after a node.
pub fn is_claimed_by(checkout: &Checkout) -> bool {
    claimed_by().is_some_and(|root| root == checkout.root().display().to_string())
}

fn claimed_by() -> Option<String> {
    std::fs::read_to_string(CLAIM).ok()
}

/// Notes what the machine was like, unless that is known from an `up` before.
async fn remember(checkout: &Checkout) -> Result<()> {
    let path = checkout.run(BEFORE);
    if path.exists() {
        return Ok(());
    }
    let mut settings = BTreeMap::new();
    for name in SETTINGS {
        // A kernel without a setting has nothing to be put back.
        if let Ok(value) = std::fs::read_to_string(setting(name)) {
            settings.insert(name.to_owned(), value.trim().to_owned());
        }
    }
    let machine = Machine {
        settings,
        had_the_agents_address: has_address(AGENT_ADDRESS).await?,
    };
    files::write_private(&path, serde_json::to_vec_pretty(&machine)?)
}

fn setting(name: &str) -> std::path::PathBuf {
    Path::new("/proc/sys").join(name)
}

async fn has_address(address: &str) -> Result<bool> {
    let found = ip(&["-oneline", "address", "show", "to", address]).await?;
    Ok(!found.trim().is_empty())
}

async fn ip(arguments: &[&str]) -> Result<String> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .await
        .context("could not run ip (Debian: iproute2)")?;
    printed(&output, &format!("ip {}", arguments.join(" ")))
}

/// One bridge, whose first address is the pods' gateway. No address translation: pods reach this
/// machine and each other, and nothing else.
fn write_cni_configuration(checkout: &Checkout) -> Result<()> {
    let configuration = serde_json::json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "bridge",
            "bridge": BRIDGE,
            "isGateway": true,
            "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": POD_NETWORK}]],
                "routes": [{"dst": "0.0.0.0/0"}],
                "dataDir": checkout.run("cni/addresses"),
            },
        }],
    });
    files::make_private_folder(&checkout.run("cni/configuration"))?;
    files::write_private(
        &checkout.run("cni/configuration/pods.conflist"),
        serde_json::to_vec_pretty(&configuration)?,
    )
}
