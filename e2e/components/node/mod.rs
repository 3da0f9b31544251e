//! What a machine needs to be a node with real pods: an address, a container runtime, names.
//!
//! The runtime and the kubelet live in a mount namespace of their own (see [`containerd`]), and
//! everything that they start in one cgroup, so that nothing is left behind when they have ended,
//! however they ended.

mod cgroups;
mod containerd;
mod coredns;
mod network;

pub use cgroups::{Cgroup, ROOT as CGROUP_ROOT};
pub use containerd::{Containerd, beside as beside_containerd, ctr, socket as containerd_socket};
pub use coredns::CoreDns;
pub use network::{
    Network, POD_NETWORK, alone_with_the_claim, claim, claimed_by_another, is_claimed_by,
};

/// The node's name in Kubernetes.
pub const WORKER: &str = "worker";

/// Names within the cluster end with this.
pub const CLUSTER_DOMAIN: &str = "cluster.local";
