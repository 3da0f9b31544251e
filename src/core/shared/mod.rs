//! Folders that the users of a hub share: which claims can be mounted by all of them, and where.
//!
//! A pod that mounts a claim which is not there, or not for it, waits for it and does not start. So what a claim is like
//! is found out before: what can be seen to keep pods waiting keeps a folder out of them instead.

mod claim;
mod path;

pub use claim::{FolderClaim, folders, folders_unseen};
pub use path::{InvalidPath, MountPath, Relation, SubPath};

/// The longest list of groups that is read for folders, in bytes of its annotation: an admission policy has a budget.
/// Whoever has a longer one is in no group here.
pub const LONGEST_GROUPS: usize = 1 << 16;
