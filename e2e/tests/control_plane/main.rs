//! Tier 4: the whole system on a real API server and a real store. User code runs as processes
//! of this machine, with the environment of the pod that the API server returned.
//!
//! Every test has a hub of its own, in a namespace of its own; they run side by side. Every
//! refusal that is asserted stands beside the same call that succeeds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests"
)]

mod adoption;
mod audit;
mod bad_input;
mod bypasses;
mod clients;
mod conditions;
mod deletion;
#[allow(dead_code, reason = "other test binaries use more of it")]
mod forge;
mod gitops;
mod homes;
mod hub;
mod impostors;
mod kubectl;
mod permissions;
mod prefixes;
mod public_data;
mod refresh;
mod refusals;
mod replicas;
mod revocation;
mod secrets;
mod shared;
mod steady;
mod tokens;
mod user_code;
mod wild;
