//! Tier 5: real pods on a real node, and notebook servers that a real JupyterHub starts.
//!
//! What a test takes away, all others need: such tests run alone, and put it back in any case.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests"
)]

mod agents;
mod cluster;
mod dask;
mod environment;
mod for_users;
mod github;
mod homes;
mod metadata;
mod outages;
mod release;
mod shared;
mod story;
