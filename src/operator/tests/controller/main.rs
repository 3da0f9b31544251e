//! The controller on a store and an API server in memory (tier 2 of the tests).
//!
//! The reconcilers are the real ones; what they call is counted, and each call can be made to
//! fail ([`hubstorage_cloud::faults`]). [`conditions`] judges status after every reconcile.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "these are tests"
)]

mod adoption;
mod api_server;
mod bad_input;
mod bypasses;
mod checks;
mod claims;
mod conditions;
mod deletion;
mod drift;
mod emptying;
mod fault_injection;
mod fixtures;
mod full_homes;
mod grants;
mod homes;
mod isolation;
mod missed;
mod modes;
mod moved;
mod news;
mod process;
mod rivals;
mod roles;
mod shared;
mod stale_caches;
mod store;
mod throttling;
mod users;
mod vending;
mod walks;
mod world;
