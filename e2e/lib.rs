//! The local platform: a real Kubernetes API server, a real object store, Python, and the operator,
//! on one machine and without a container engine. As root on Debian it has a real node, where pods
//! run and a JupyterHub starts notebook servers; without root, pods exist on paper ([`Extent`]).
//!
//! Read it in this order: [`components`] is the table of everything that runs, [`component`] what
//! each of them must be able to do, [`up`] and [`down`] start and stop them. Tests and the demo
//! use [`Platform`] (what is running and how to reach it), [`Notebook`] (where a user's code runs),
//! [`jupyterhub::Hub`] and [`HostPod`] (a user pod whose code runs as a process on this machine).

pub mod authorisation;
pub mod between;
pub mod cache;
pub mod certificates;
pub mod checkout;
pub mod commands;
pub mod component;
pub mod components;
pub mod debian;
pub mod down;
pub mod existing;
pub mod extent;
pub mod files;
pub mod forward;
mod giving_back;
pub mod go;
pub mod host_pod;
pub mod http;
pub mod images;
pub mod jupyterhub;
pub mod kubeconfig;
pub mod notebook;
pub mod ports;
pub mod prerequisites;
pub mod process;
pub mod progress;
pub mod python;
pub mod running;
pub mod service_account_token;
mod shell;
pub mod site;
pub mod static_checks;
pub mod status;
pub mod tally;
pub mod test_programs;
pub mod tiers;
pub mod translation;
pub mod up;
pub mod wait;

pub use extent::Extent;
pub use giving_back::giving_back;
pub use host_pod::{HostPod, ServiceAccount};
pub use notebook::Notebook;
pub use python::{Conversation, Python, Raised};
pub use running::{AccessKey, MinioUser, Platform};
