//! What is done about a bucket: its lifecycle rules and the plan.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod lifecycle;
mod plan;
mod plan_properties;
mod strategies;
