//! Claims in memory: users' homes, and those that may hold a shared folder.

use hubstorage_core::homes::HomeClaim;
use hubstorage_core::shared::FolderClaim;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::packed::Packed;

/// A claim as the watch has seen it.
pub type SeenClaim = Packed<PersistentVolumeClaim, Kept>;

/// What is kept of a claim. There are thousands of homes.
#[derive(Debug, Clone)]
pub struct Kept {
    home: Option<HomeClaim>,
    folder: FolderClaim,
}

impl SeenClaim {
    /// The home that it is, if it is one.
    pub fn home(&self) -> Option<&HomeClaim> {
        self.kept.home.as_ref()
    }

    /// What it is like, as one that holds a shared folder.
    pub fn folder(&self) -> FolderClaim {
        self.kept.folder
    }
}

impl From<PersistentVolumeClaim> for SeenClaim {
    fn from(claim: PersistentVolumeClaim) -> Self {
        let kept = Kept {
            home: HomeClaim::of(&claim),
            folder: FolderClaim::of(&claim),
        };
        Self::of(&claim.metadata, kept)
    }
}
