//! How much of the platform runs: what the machine lets it, and what is asked for.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use anyhow::{Context, Result};
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
}

/// The address of the node, on the loopback interface. It may not be a loopback address: the
/// kubelet refuses those, and pods could not reach them.
pub const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 245, 0, 1);

impl Extent {
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
            Self::Stores | Self::ControlPlane => Ipv4Addr::LOCALHOST.into(),
            Self::Node => NODE_ADDRESS.into(),
        }
    }

    /// Whether a platform of this extent can become one of `other` without being taken down.
    pub fn grows_into(self, other: Self) -> bool {
        (self == Self::Node) == (other == Self::Node)
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
