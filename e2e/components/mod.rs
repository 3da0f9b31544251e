//! Everything that runs, as a table.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::component::Component;
use crate::extent::Extent;
use crate::files;
use crate::site::Site;

mod agent;
mod controller;
mod forwarder;
mod images;
mod installation;
pub mod kubernetes;
pub mod minio;
pub mod node;
pub mod operator;
pub mod python;
mod serve;

/// The components of a platform in the order in which they are shown and, reversed, stopped.
pub fn all(extent: Extent) -> Vec<Box<dyn Component>> {
    let mut components: Vec<Box<dyn Component>> = Vec::new();
    if extent == Extent::Node {
        components.push(Box::new(node::Network));
    }
    components.extend::<[Box<dyn Component>; 6]>([
        Box::new(kubernetes::Etcd),
        Box::new(kubernetes::ApiServer),
        Box::new(kubernetes::ControllerManager),
        Box::new(kubernetes::Scheduler),
        Box::new(minio::Minio),
        Box::new(python::Python),
    ]);
    match extent {
        Extent::Stores => components.push(Box::new(kubernetes::Paper)),
        Extent::ControlPlane => components.extend::<[Box<dyn Component>; 7]>([
            Box::new(kubernetes::Paper),
            Box::new(installation::Installation),
            Box::new(forwarder::Forwarder),
            Box::new(controller::Controller),
            Box::new(serve::SERVE_1),
            Box::new(serve::SERVE_2),
            Box::new(agent::Agent),
        ]),
        Extent::Node => components.extend::<[Box<dyn Component>; 5]>([
            Box::new(node::CoreDns),
            Box::new(node::Containerd),
            Box::new(images::Images),
            Box::new(kubernetes::Kubelet),
            Box::new(kubernetes::KubeProxy),
        ]),
    }
    components
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
