//! Everything that runs, as a table.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::component::Component;
use crate::extent::Extent;
use crate::files;
use crate::site::Site;

mod agent;
mod cluster;
mod controller;
pub mod csi;
pub mod dask_gateway;
mod forwarder;
mod gitops;
mod helm;
pub mod hub;
mod images;
pub mod installation;
pub mod kubernetes;
pub mod minio;
pub mod moto;
pub mod node;
pub mod operator;
pub mod python;
pub mod release;
pub mod rgw;
mod serve;
pub mod store;

/// The components of a platform in the order in which they are shown and, reversed, stopped.
pub fn all(extent: Extent) -> Vec<Box<dyn Component>> {
    if extent == Extent::Existing {
        return vec![
            boxed(cluster::Cluster),
            boxed(helm::Helm),
            boxed(store::Store),
            boxed(release::IN_EXISTING),
        ];
    }
    let mut components = Vec::new();
    if extent == Extent::Node {
        components.push(boxed(node::Network));
    }
    components.extend([
        boxed(kubernetes::Etcd),
        boxed(kubernetes::ApiServer),
        boxed(kubernetes::ControllerManager),
        boxed(kubernetes::Scheduler),
        boxed(minio::Minio),
        boxed(python::USER_CODE),
        boxed(helm::Helm),
    ]);
    if extent != Extent::Node {
        components.push(boxed(kubernetes::Paper));
    }
    match extent {
        Extent::Stores | Extent::Existing => {}
        Extent::ControlPlane => components.extend([
            boxed(installation::Installation),
            boxed(forwarder::Forwarder),
            boxed(controller::Controller),
            boxed(serve::SERVE_1),
            boxed(serve::SERVE_2),
            boxed(agent::Agent),
            boxed(gitops::GitOps),
            boxed(python::CLIENTS),
            boxed(python::OLD_CLIENTS),
        ]),
        Extent::Node => components.extend([
            boxed(node::CoreDns),
            // Before the runtime, and so cleaned up after it.
            boxed(csi::Volumes),
            boxed(node::Containerd),
            boxed(images::OperatorImages),
            boxed(images::NotebookImage),
            boxed(kubernetes::Kubelet),
            boxed(kubernetes::KubeProxy),
            boxed(csi::Driver),
            boxed(csi::PROVISIONER),
            boxed(csi::RESIZER),
            boxed(release::ON_NODE),
            boxed(hub::HUB.proxy),
            boxed(hub::HUB),
            boxed(dask_gateway::Server),
            boxed(dask_gateway::Controller),
            boxed(hub::OLD_HUB.proxy),
            boxed(hub::OLD_HUB),
        ]),
    }
    components
}

/// The stores that only the contract suite needs. It has them started beside the platform.
pub fn further_stores() -> Vec<Box<dyn Component>> {
    let mut stores = vec![boxed(moto::Moto)];
    if rgw::obstacle().is_none() {
        stores.extend([boxed(rgw::Monitor), boxed(rgw::Disk), boxed(rgw::Gateway)]);
    }
    stores
}

/// Everything that may run in a checkout with a platform of this extent, in the same order.
pub fn table(extent: Extent) -> Vec<Box<dyn Component>> {
    let mut components = all(extent);
    components.extend(further_stores());
    components
}

fn boxed(component: impl Component + 'static) -> Box<dyn Component> {
    Box::new(component)
}

/// A copy of this program for the components that it is itself: they keep running while the harness
/// is rebuilt.
fn this_program(site: &Site) -> Result<PathBuf> {
    let program = site.checkout.run("bin/e2e");
    if !program.exists() {
        files::make_private_folder(&site.checkout.run("bin"))?;
        files::copy_if_changed(Path::new("/proc/self/exe"), &program)?;
    }
    Ok(program)
}
