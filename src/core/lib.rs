//! The pure part of HubStorage: no client, no clock, no async.
//!
//! Everything that decides something lives here and takes what it needs as arguments, so that
//! it can be tested without a cluster or a store:
//!
//! - [`api`]: the three kinds, their conditions and reasons.
//! - [`names`]: usernames to key prefixes, bucket names, object names.
//! - [`lifecycle`]: the rules a bucket should have, merged with those of others.
//! - [`policies`]: session policies, the boundary of what a vended credential reaches.
//! - [`bucket_policy`]: our statements in a bucket's policy, and what others are granted by it.
//! - [`roles`]: the role that a hub's sessions are of.
//! - [`settings`]: everything else of a bucket that can be declared.
//! - [`supports`]: what a store can do.
//! - [`plan`]: declared and observed state to a list of actions.
//! - [`bypass`]: what users' pods have besides what is vended.
//! - [`homes`]: how large homes are, may be, and what is done about it.
//! - [`shared`]: folders that users share.
//! - [`hubs`]: which HubStorage of a namespace counts.
//! - [`injection`]: what a user pod is given when it is admitted.

pub mod api;
pub mod bucket_policy;
pub mod bypass;
pub mod homes;
pub mod hubs;
pub mod injection;
pub mod lifecycle;
pub mod names;
pub mod plan;
pub mod policies;
pub mod roles;
pub mod settings;
pub mod shared;
mod statements;
pub mod supports;
