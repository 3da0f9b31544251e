//! How much of the platform runs: what the machine lets it, and what is asked for.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::checkout::Checkout;
use crate::files;

/// How much of the platform runs.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Extent {
    /// An API server and an object store; no operator.
    Stores,
    /// The operator as processes of this machine beside them. Pods exist on paper only, and their
    /// code runs as processes too. Needs no root.
    ControlPlane,
    /// A real node with real pods, the operator and notebook servers among them, under a real
    /// JupyterHub. Needs root, and has the machine to itself.
    Node,
    /// The cluster of the current context of the kubeconfig, which somebody else runs: the operator
    /// from its chart, and a MinIO beside it. [`USE_KUBECONFIG`] chooses it.
    #[value(skip)]
    Existing,
}

/// The environment variable that, set to 1, makes `up` use an existing cluster.
pub const USE_KUBECONFIG: &str = "HUBSTORAGE_USE_KUBECONFIG";

/// The address of the node, on the loopback interface. It may not be a loopback address: the
/// kubelet refuses those, and pods could not reach them.
pub const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 245, 0, 1);

/// The component that gives the node its address.
pub const NETWORK: &str = "network";

impl Extent {
    /// The component that is ready before anything listens; none where the host's address is there
    /// anyway.
    pub fn listens_after(self) -> Option<&'static str> {
        (self == Self::Node).then_some(NETWORK)
    }

    /// What is meant where no extent is named: an existing cluster, where [`USE_KUBECONFIG`] says
    /// so, or else as much as this machine can do.
    pub fn usual() -> Result<Self> {
        Self::asked_for(std::env::var(USE_KUBECONFIG).ok().as_deref())
    }

    fn asked_for(use_kubeconfig: Option<&str>) -> Result<Self> {
        match use_kubeconfig {
            None | Some("" | "0") => Ok(Self::possible()),
            Some("1") => Ok(Self::Existing),
            Some(other) => bail!("{USE_KUBECONFIG}={other:?} is unknown; it is 0 or 1"),
        }
    }

    /// What this machine can do at most.
    pub fn possible() -> Self {
        match obstacle() {
            None => Self::Node,
            Some(_) => Self::ControlPlane,
        }
    }

    /// The extent of the last `up` in this checkout; none before the first and after `down`.
    pub fn of(checkout: &Checkout) -> Option<Self> {
        let text = std::fs::read(checkout.run(RECORD)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Keeps it for `down`, `status` and the next `up`.
    pub fn record(self, checkout: &Checkout) -> Result<()> {
        let text = serde_json::to_vec(&self).context("an extent as JSON")?;
        files::write_private(&checkout.run(RECORD), text)
    }

    /// The address at which the platform's processes listen.
    pub fn host(self) -> IpAddr {
        match self {
            Self::Stores | Self::ControlPlane | Self::Existing => Ipv4Addr::LOCALHOST.into(),
            Self::Node => NODE_ADDRESS.into(),
        }
    }

    /// Whether a platform of this extent can become one of `other` without being taken down.
    pub fn grows_into(self, other: Self) -> bool {
        let on_paper = [Self::Stores, Self::ControlPlane];
        self == other || (on_paper.contains(&self) && on_paper.contains(&other))
    }
}

const RECORD: &str = "extent.json";

/// Programs of Debian that a node takes beside what the prerequisites name.
const PROGRAMS: [&str; 8] = [
    "apt-get", "dpkg", "ip", "unshare", "nsenter", "losetup", "strip", "ldd",
];

/// Why this machine cannot have a node; nothing if it can.
pub fn obstacle() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("a node with real pods needs root".to_owned());
    }
    let missing = PROGRAMS.iter().find(|program| !is_installed(program));
    if let Some(program) = missing {
        return Some(format!("a node with real pods needs Debian's {program}"));
    }
    // Root in a container may have no right to this.
    let tried = Command::new("unshare").args(["--mount", "true"]).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        return Some("a node with real pods needs the right to mount".to_owned());
    }
    None
}

/// Whether `PATH` has the program.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_cluster_is_used_only_when_it_is_asked_for() {
        for not in [None, Some(""), Some("0")] {
            assert_ne!(Extent::asked_for(not).unwrap(), Extent::Existing);
        }

        assert_eq!(Extent::asked_for(Some("1")).unwrap(), Extent::Existing);
        assert!(Extent::asked_for(Some("yes")).is_err());
    }

    #[test]
    fn only_platforms_without_a_node_grow() {
        assert!(Extent::Stores.grows_into(Extent::ControlPlane));
        assert!(Extent::Existing.grows_into(Extent::Existing));
        assert!(!Extent::ControlPlane.grows_into(Extent::Node));
        assert!(!Extent::Node.grows_into(Extent::Existing));
    }
}
