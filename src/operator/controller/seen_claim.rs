//! Claims in memory: users' homes, and those that may hold a shared folder.

use hubstorage_core::homes::HomeClaim;
use hubstorage_core::shared::FolderClaim;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::packed::Packed;

/// A claim as the watch has seen it.
pub type SeenClaim = Packed<PersistentVolumeClaim, Kept>;

/// What is kept of a claim. There are thousands of homes.
#[derive(Debug, Clone)]
pub enum Kept {
    /// A user's home.
    Home(HomeClaim),
    /// Any other, which may hold a shared folder.
    Folder(FolderClaim),
}

impl SeenClaim {
    /// The home that it is, if it is one.
    pub fn home(&self) -> Option<&HomeClaim> {
        match &self.kept {
            Kept::Home(home) => Some(home),
            Kept::Folder(_) => None,
        }
    }

    /// What it is like, unless it is a home, which nobody else mounts.
    pub fn folder(&self) -> Option<&FolderClaim> {
        match &self.kept {
            Kept::Home(_) => None,
            Kept::Folder(folder) => Some(folder),
        }
    }
}

impl From<PersistentVolumeClaim> for SeenClaim {
    fn from(claim: PersistentVolumeClaim) -> Self {
        let kept = match HomeClaim::of(&claim) {
            Some(home) => Kept::Home(home),
            None => Kept::Folder(FolderClaim::of(&claim)),
        };
        Self::of(&claim.metadata, kept)
    }
}
