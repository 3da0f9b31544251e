//! The controller: one leader makes the stores what HubStorage objects declare.
//!
//! Five reconcilers, one concern each: [`provider`] keeps StorageProvider status true, [`hub`]
//! keeps buckets as declared, [`users`] keeps one HubUser for each user that has a pod, [`homes`]
//! makes users' volumes as large as declared, and full ones larger by what [`usage`] asks of kubelets,
//! and [`bypasses`] looks for other ways to the store than ours, for [`hub`] to tell of. Otherwise they
//! talk through the API server, not to each other.

mod api_failure;
mod apply_status;
mod backoff;
pub mod bypasses;
mod context;
mod events;
pub mod homes;
pub mod hub;
mod kinds;
mod leadership;
mod metrics;
mod packed;
mod parts;
pub mod provider;
mod queue;
mod run;
mod runner;
mod seen_claim;
mod start;
mod step;
mod tenure;
pub mod usage;
mod user_pod;
pub mod users;
mod vending;
mod watches;

pub use api_failure::{ApiFailure, OUTDATED};
pub use backoff::Backoff;
pub use context::{Context, Limits, Stores};
pub use events::Events;
pub use metrics::Metrics;
pub use parts::{AgentsGap, Parts};
pub use run::{Options, run};
pub use runner::Wake;
pub use runner::{Awaited, Requeue};
pub use seen_claim::SeenClaim;
pub use step::Step;
pub use user_pod::UserPod;
pub use watches::Watches;

/// The field manager of everything that the controller applies.
pub const FIELD_MANAGER: &str = "hubstorage-controller";
