//! Admission policies that hold what a HubStorage declares, whether the webhook is there or not: how large homes may be,
//! and who writes to shared folders.
//!
//! Their parameter is the HubStorage, unlike the guard's ([`crate::guard`]), on which vending depends: whether these are in
//! force is told in status, and vending does not wait for it.

pub mod homes;
pub mod shared;
