//! Everything that runs, as a table.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::checkout::Checkout;
use crate::component::Component;
use crate::files;
use crate::site::Site;

mod agent;
mod controller;
mod forwarder;
mod installation;
pub mod kubernetes;
pub mod minio;
pub mod operator;
pub mod python;
mod serve;

/// The components in the order in which they are shown and, reversed, stopped. Those of the
/// operator are left out when there is none to build yet, or when they are not `wanted`.
pub fn all(checkout: &Checkout, wanted: Operator) -> Vec<Box<dyn Component>> {
    let mut components: Vec<Box<dyn Component>> = vec![
        Box::new(kubernetes::Etcd),
        Box::new(kubernetes::ApiServer),
        Box::new(kubernetes::ControllerManager),
        Box::new(kubernetes::Scheduler),
        Box::new(kubernetes::Paper),
        Box::new(minio::Minio),
        Box::new(python::Python),
    ];
    if wanted == Operator::Wanted && operator::is_there(checkout) {
        components.push(Box::new(installation::Installation));
        components.push(Box::new(forwarder::Forwarder));
        components.push(Box::new(controller::Controller));
        components.push(Box::new(serve::SERVE_1));
        components.push(Box::new(serve::SERVE_2));
        components.push(Box::new(agent::Agent));
    }
    components
}

/// Whether the operator's own processes are to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// Yes.
    Wanted,
    /// No: tests of single stores need none.
    Unwanted,
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
