//! The HubStorage operator.
//!
//! One binary, three roles: [`controller`] makes the store what the spec declares; `serve` is the
//! admission webhook ([`admission`]) and the credential broker ([`broker`]) side by side, on
//! ports and runtimes of their own; the rest is the command line. [`guard`] is what makes
//! usernames and stamps on pods trustworthy, [`certificates`] what both servers show to their
//! callers, [`manifests`] everything that is installed into a cluster, [`audit`] who could get around it,
//! [`metadata_trial`] what runs in the pods that try a cloud's metadata service.

pub mod admission;
pub mod api_client;
pub mod audit;
pub mod broker;
pub mod certificates;
pub mod clock;
pub mod controller;
pub mod guard;
pub mod health;
pub mod informer;
pub mod limits;
pub mod listener;
pub mod manifests;
pub mod metadata_trial;
pub mod providers;
pub mod pulse;
pub mod replica;
pub mod serve;
pub mod telemetry;
