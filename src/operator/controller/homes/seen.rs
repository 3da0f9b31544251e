//! Users' claims in memory.

use hubstorage_core::homes::HomeClaim;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use crate::controller::packed::Packed;

/// A claim as the watch has seen it: the home that it is, if it is one.
pub type SeenClaim = Packed<PersistentVolumeClaim, Option<HomeClaim>>;

impl SeenClaim {
    /// The home that it is, if it is one.
    pub fn home(&self) -> Option<&HomeClaim> {
        self.kept.as_ref()
    }
}

impl From<PersistentVolumeClaim> for SeenClaim {
    fn from(claim: PersistentVolumeClaim) -> Self {
        Self::of(&claim.metadata, HomeClaim::of(&claim))
    }
}
