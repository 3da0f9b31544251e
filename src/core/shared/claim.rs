//! What of a PersistentVolumeClaim decides whether all pods of a hub can mount it.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use crate::api::{HubStorage, Reason, SharedFolder, SharedFolderStatus};

/// A claim that may hold a shared folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderClaim {
    is_bound: bool,
    is_deleting: bool,
    is_block: bool,
    many_write: bool,
    many_read: bool,
}

impl FolderClaim {
    /// What a claim says. Its access modes are those of its volume, once it has one.
    pub fn of(claim: &PersistentVolumeClaim) -> Self {
        let spec = claim.spec.as_ref();
        let status = claim.status.as_ref();
        let of_volume = status.and_then(|status| status.access_modes.as_deref());
        let asked = spec.and_then(|spec| spec.access_modes.as_deref());
        let modes = of_volume.or(asked).unwrap_or_default();
        let has = |mode: &str| modes.iter().any(|has| has == mode);
        Self {
            is_bound: status.and_then(|status| status.phase.as_deref()) == Some("Bound"),
            is_deleting: claim.metadata.deletion_timestamp.is_some(),
            is_block: spec.and_then(|spec| spec.volume_mode.as_deref()) == Some("Block"),
            many_write: has("ReadWriteMany"),
            many_read: has("ReadOnlyMany"),
        }
    }

    /// Whether nobody can write to its volume.
    fn is_read_only(self) -> bool {
        self.many_read && !self.many_write
    }

    /// Why pods that mount it would not start, or not all of them, or would lack what `folder` declares.
    fn trouble(self, folder: &SharedFolder) -> Option<(Reason, &'static str)> {
        use Reason::{ClaimNotBound, ClaimNotShareable};
        Some(match self {
            Self {
                is_deleting: true, ..
            } => (
                ClaimNotBound,
                "is being deleted, and goes when no pod has it any more: name another one, or make it anew",
            ),
            Self {
                is_bound: false, ..
            } => (
                ClaimNotBound,
                "has no volume: `kubectl describe pvc` says what it waits for; where its StorageClass waits for a first \
                 pod, start one that mounts it",
            ),
            Self { is_block: true, .. } => (
                ClaimNotShareable,
                "is a block device (volumeMode: Block), which nobody can mount: make one with volumeMode Filesystem",
            ),
            Self {
                many_write: false,
                many_read: false,
                ..
            } => (
                ClaimNotShareable,
                "can be mounted on one node only: it needs access mode ReadWriteMany, or ReadOnlyMany if nobody writes",
            ),
            claim if claim.is_read_only() && folder.writers.is_some() => (
                ClaimNotShareable,
                "has access mode ReadOnlyMany, so that nobody can write to it: leave writers out, or make a claim with \
                 ReadWriteMany",
            ),
            _ => return None,
        })
    }
}

/// What is known of each folder that a hub declares before anybody has looked at claims: what was, or that it is not yet.
/// No folder is left out, since by this the admission policies know which HubStorage counts.
pub fn folders_unseen(hub: &HubStorage) -> Vec<SharedFolderStatus> {
    let before = hub.status.as_ref().map_or(&[][..], |status| &status.shared);
    let known = |folder: &SharedFolder| {
        let before = before.iter();
        let mut before = before.filter(|known| known.is_of(folder));
        before
            .next()
            .cloned()
            .unwrap_or_else(|| SharedFolderStatus {
                name: folder.name.clone(),
                claim_name: folder.claim_name.clone(),
                read_only: false,
                reason: Some(Reason::Progressing.to_string()),
                message: Some(
                    "the claims of shared folders have not been looked at yet".to_owned(),
                ),
            })
    };
    hub.spec.shared.iter().map(known).collect()
}

/// What is known of each folder that a hub declares, where `claim` finds a claim of its namespace by name.
pub fn folders(
    hub: &HubStorage,
    claim: impl Fn(&str) -> Option<FolderClaim>,
) -> Vec<SharedFolderStatus> {
    let known = |folder: &SharedFolder| {
        let claim = claim(&folder.claim_name);
        let trouble = match claim {
            None => Some((
                Reason::ClaimMissing,
                "is not in the namespace of the hub: make it, or name another one",
            )),
            Some(claim) => claim.trouble(folder),
        };
        let told = |why: &str| {
            format!(
                "spec.shared[{}].claimName: claim {} {why}",
                folder.name, folder.claim_name
            )
        };
        SharedFolderStatus {
            name: folder.name.clone(),
            claim_name: folder.claim_name.clone(),
            read_only: claim.is_some_and(FolderClaim::is_read_only),
            reason: trouble.map(|(reason, _)| reason.to_string()),
            message: trouble.map(|(_, why)| told(why)),
        }
    };
    hub.spec.shared.iter().map(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn hub(fields: Value) -> HubStorage {
        let mut folder = json!({"name": "shared", "claimName": "nfs", "mountPath": "/shared"});
        json_patch::merge(&mut folder, &fields);
        let spec = json!({
            "providerRef": {"name": "minio"}, "buckets": [{"name": "scratch"}], "shared": [folder],
        });
        HubStorage::new("earth", serde_json::from_value(spec).unwrap())
    }

    fn claim(fields: Value) -> FolderClaim {
        let mut claim = json!({
            "spec": {"accessModes": ["ReadWriteMany"]},
            "status": {"phase": "Bound", "accessModes": ["ReadWriteMany"]},
        });
        json_patch::merge(&mut claim, &fields);
        FolderClaim::of(&serde_json::from_value(claim).unwrap())
    }

    fn known(hub: &HubStorage, claim: Option<FolderClaim>) -> SharedFolderStatus {
        folders(hub, |name| claim.filter(|_| name == "nfs")).remove(0)
    }

    #[test]
    fn a_claim_that_everybody_can_mount_has_nothing_to_tell() {
        let told = known(&hub(json!({})), Some(claim(json!({}))));
        assert_eq!((told.reason, told.read_only), (None, false));
        let modes = json!(["ReadWriteOnce", "ReadOnlyMany"]);
        let read = claim(json!({"status": {"accessModes": modes}}));
        let told = known(&hub(json!({})), Some(read));
        assert_eq!((told.reason, told.read_only), (None, true));
    }

    #[test]
    fn a_claim_for_which_pods_would_wait_is_told_with_the_way_out() {
        let modes = |modes: Value| json!({"status": {"accessModes": modes}});
        let writers = json!({"writers": {"subjects": [{"kind": "Group", "name": "admins"}]}});
        for (hub, claim, reason, words) in [
            (hub(json!({})), None, "ClaimMissing", "make it"),
            (
                hub(json!({})),
                Some(claim(
                    json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
                )),
                "ClaimNotBound",
                "is being deleted",
            ),
            (
                hub(json!({})),
                Some(claim(json!({"status": {"phase": "Pending"}}))),
                "ClaimNotBound",
                "has no volume",
            ),
            (
                hub(json!({})),
                Some(claim(json!({"status": {"phase": "Lost"}}))),
                "ClaimNotBound",
                "has no volume",
            ),
            (
                hub(json!({})),
                Some(claim(json!({"spec": {"volumeMode": "Block"}}))),
                "ClaimNotShareable",
                "volumeMode Filesystem",
            ),
            (
                hub(json!({})),
                Some(claim(modes(json!(["ReadWriteOnce"])))),
                "ClaimNotShareable",
                "ReadWriteMany",
            ),
            (
                hub(writers),
                Some(claim(modes(json!(["ReadOnlyMany"])))),
                "ClaimNotShareable",
                "leave writers out",
            ),
        ] {
            let told = known(&hub, claim);
            assert_eq!(told.reason.as_deref(), Some(reason));
            let message = told.message.unwrap();
            for words in ["spec.shared[shared].claimName", "claim nfs", words] {
                assert!(message.contains(words), "{message}");
            }
        }
    }
}
