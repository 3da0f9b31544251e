//! What a new claim is given when it is admitted.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::{Value, json};

use super::{HomeClaim, Limits, StorageSize};
use crate::api::{Home, HomeOverride, HubStorage, Mode};

/// By what new claims of a hub go.
#[derive(Debug, Clone, PartialEq)]
pub struct HomeAdmission {
    hub: String,
    home: Home,
    overrides: Vec<HomeOverride>,
}

/// A claim that asks for something else than it was sent with.
#[derive(Debug, Clone, PartialEq)]
pub struct Resized {
    /// What it asked for.
    pub from: StorageSize,
    /// What it asks for now.
    pub to: StorageSize,
    /// Name of the HubStorage that says so.
    pub hub: String,
}

impl HomeAdmission {
    /// Of a hub that declares homes, and is not only observed. One that is being deleted declares nothing any more.
    pub fn of(hub: &HubStorage) -> Option<Self> {
        let is_in_force =
            hub.spec.mode != Mode::Observe && hub.metadata.deletion_timestamp.is_none();
        let home = hub.spec.home.clone().filter(|_| is_in_force)?;
        let known = hub.status.as_ref().and_then(|status| status.homes.as_ref());
        Some(Self {
            hub: hub.metadata.name.clone().unwrap_or_default(),
            home,
            overrides: known
                .map(|homes| homes.overrides.clone())
                .unwrap_or_default(),
        })
    }

    /// What is changed of a claim that somebody asks the API server to create; nothing, where it is no home, or
    /// asks for what it may have.
    pub fn admit(&self, claim: &PersistentVolumeClaim) -> Option<Resized> {
        if is_for_a_volume_that_is_there(claim) {
            return None;
        }
        let claim = HomeClaim::of(claim)?;
        let limits = Limits::of(&self.home, &self.overrides, &claim.username);
        let to = limits.instead(&claim.requested)?.clone();
        Some(Resized {
            from: claim.requested,
            to,
            hub: self.hub.clone(),
        })
    }
}

/// Whether a claim is for a volume that somebody has made, or for a copy of one: with another size it would find
/// none, and its server would wait for good.
fn is_for_a_volume_that_is_there(claim: &PersistentVolumeClaim) -> bool {
    claim.spec.as_ref().is_some_and(|spec| {
        spec.volume_name.is_some()
            || spec.data_source.is_some()
            || spec.data_source_ref.is_some()
            || spec.storage_class_name.as_deref() == Some("")
    })
}

impl Resized {
    /// As a JSON patch of the claim.
    pub fn patch(&self) -> Value {
        json!([{"op": "replace", "path": "/spec/resources/requests/storage", "value": self.to}])
    }
}
