//! Folders that the users of a hub share: which claims can be mounted by all of them, and where.
//!
//! A pod that mounts a claim which is not there, or not for it, waits for it and does not start. So what a claim is like
//! is found out before: what [`FolderClaim::trouble`] tells of keeps a folder out of users' pods, never a user out of
//! their server.

mod claim;
mod path;

pub use claim::{FolderClaim, folders};
pub use path::{InvalidPath, MountPath, Relation, SubPath};
