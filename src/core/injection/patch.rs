//! Minimal JSON Patch operations on a pod as it was sent.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, ReplaceOperation};
use serde_json::{Value, json};

use super::pod::{Container, EnvEntry, Mount, SentPod, Text, Volume};
use super::shared::WantedMount;
use super::{TOKEN_FILE, TOKEN_MOUNT_PATH, TOKEN_SECONDS, TOKEN_VOLUME};
use crate::api::{AUDIENCE, OnConflict};
use crate::shared::Relation;

/// Collects operations on one pod. It patches what was read, too, so that each operation sees what
/// those before it have made: the second one on an absent list appends instead of creating it.
pub(super) struct PodPatch<'p> {
    patched: SentPod<'p>,
    operations: Vec<PatchOperation>,
}

/// The container that is served, and the operations on its pod.
pub(super) struct ContainerPatch<'a, 'p> {
    index: usize,
    container: &'a mut Container<'p>,
    volumes: &'a mut Option<Vec<Volume<'p>>>,
    operations: &'a mut Vec<PatchOperation>,
}

impl<'p> PodPatch<'p> {
    pub(super) fn new(original: SentPod<'p>) -> Self {
        Self {
            patched: original,
            operations: Vec::new(),
        }
    }

    /// Sets an annotation, whatever it was.
    pub(super) fn annotate(&mut self, key: &str, value: &str) {
        if self.patched.annotation(key) == Some(value) {
            return;
        }
        if self.patched.metadata.annotations.is_none() {
            add(
                &mut self.operations,
                &["metadata", "annotations"],
                json!({}),
            );
        }
        add(
            &mut self.operations,
            &["metadata", "annotations", key],
            json!(value),
        );
        let annotations = &mut self.patched.metadata.annotations;
        annotations
            .get_or_insert_default()
            .insert(key.into(), value.into());
    }

    /// The container at `index`, if there is one.
    pub(super) fn container(&mut self, index: usize) -> Option<ContainerPatch<'_, 'p>> {
        let spec = &mut self.patched.spec;
        Some(ContainerPatch {
            index,
            container: spec.containers.as_mut()?.get_mut(index)?,
            volumes: &mut spec.volumes,
            operations: &mut self.operations,
        })
    }

    pub(super) fn finish(self) -> Patch {
        Patch(self.operations)
    }
}

impl<'p> ContainerPatch<'_, 'p> {
    /// Gives it a variable. False if it has one of this name with another value, which is then
    /// kept.
    pub(super) fn env(&mut self, wanted: EnvEntry<'p>, on_conflict: OnConflict) -> bool {
        let index = self.index.to_string();
        let list = ["spec", "containers", &index, "env"];
        let env = &mut self.container.env;
        // Of several entries with one name the kubelet takes the last.
        let there = env
            .iter_mut()
            .flatten()
            .enumerate()
            .filter(|(_, entry)| entry.name == wanted.name)
            .last();
        match (there, on_conflict) {
            (Some((_, entry)), _) if entry.says(&wanted) => true,
            (Some(_), OnConflict::Keep) => false,
            (Some((at, entry)), OnConflict::Replace) => {
                self.operations
                    .push(PatchOperation::Replace(ReplaceOperation {
                        path: PointerBuf::from_tokens([&list[..], &[&at.to_string()]].concat()),
                        value: wanted.entry(),
                    }));
                *entry = wanted;
                true
            }
            (None, _) => {
                let entry = wanted.entry();
                append(self.operations, &list, env, wanted, entry);
                true
            }
        }
    }

    /// Gives it the projected token.
    pub(super) fn token_volume(&mut self) {
        let is_ours = |name: &Text<'_>| name.as_str() == TOKEN_VOLUME;
        if !self
            .volumes
            .iter()
            .flatten()
            .any(|volume| is_ours(&volume.name))
        {
            let projected = json!({
                "name": TOKEN_VOLUME,
                "projected": {"sources": [{"serviceAccountToken": {
                    "audience": AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": TOKEN_FILE,
                }}]},
            });
            let volume = Volume::projected(TOKEN_VOLUME, projected["projected"].clone());
            append(
                self.operations,
                &["spec", "volumes"],
                self.volumes,
                volume,
                projected,
            );
        }
        let mounts = &mut self.container.volume_mounts;
        if !mounts.iter().flatten().any(|mount| is_ours(&mount.name)) {
            let index = self.index.to_string();
            let list = ["spec", "containers", &index, "volumeMounts"];
            let mount = Mount {
                name: TOKEN_VOLUME.into(),
                mount_path: TOKEN_MOUNT_PATH.into(),
                read_only: true,
                ..Mount::default()
            };
            let read_only =
                json!({"name": TOKEN_VOLUME, "mountPath": TOKEN_MOUNT_PATH, "readOnly": true});
            append(self.operations, &list, mounts, mount, read_only);
        }
    }
}

impl<'p> ContainerPatch<'_, 'p> {
    /// Gives it a mount of a claim. False where that would take something from the pod, or could not be made, which is
    /// then left as it is.
    pub(super) fn claim_mount(&mut self, wanted: &WantedMount<'_>) -> bool {
        for mount in self.container.volume_mounts.iter().flatten() {
            match wanted.path.relation(mount.mount_path.as_str()) {
                Relation::Apart => {}
                Relation::Same => return self.is_as_wanted(mount, wanted),
                // It would be hidden, or mounted within what is read-only, where the runtime can make no place for it.
                Relation::Around => return false,
                Relation::Within if mount.read_only || self.is_read_only(&mount.name) => {
                    return false;
                }
                Relation::Within => {}
            }
        }
        let Some(volume) = self.volume_of_claim(wanted) else {
            return false;
        };
        let path = wanted.path.as_str();
        let mut json = json!({"name": volume, "mountPath": path});
        if let Some(sub_path) = wanted.sub_path {
            json["subPath"] = json!(sub_path);
        }
        if wanted.read_only {
            json["readOnly"] = json!(true);
        }
        let mount = Mount {
            name: volume.into(),
            mount_path: path.to_owned().into(),
            sub_path: wanted.sub_path.map(|path| path.to_string().into()),
            sub_path_expr: None,
            read_only: wanted.read_only,
        };
        let index = self.index.to_string();
        let list = ["spec", "containers", &index, "volumeMounts"];
        append(
            self.operations,
            &list,
            &mut self.container.volume_mounts,
            mount,
            json,
        );
        true
    }

    /// Whether the volume of this name is read-only, however it is mounted.
    fn is_read_only(&self, volume: &Text<'_>) -> bool {
        let mut volumes = self.volumes.iter().flatten();
        volumes.any(|known| known.name == *volume && known.is_read_only())
    }

    /// Whether a mount at the wanted path is the wanted one.
    fn is_as_wanted(&self, mount: &Mount<'_>, wanted: &WantedMount<'_>) -> bool {
        let mut volumes = self.volumes.iter().flatten();
        let volume = volumes.find(|volume| volume.name == mount.name);
        let sub_path = mount.sub_path.as_ref().map_or("", Text::as_str);
        volume.is_some_and(|volume| volume.is_of_claim(wanted.claim))
            && mount.sub_path_expr.is_none()
            && wanted
                .sub_path
                .map_or(sub_path.is_empty(), |wanted| wanted.is(sub_path))
            && mount.read_only == wanted.read_only
    }

    /// Name of the pod's volume of the claim, which gets one if it has none: older kubelets do not start a pod with two
    /// of one claim. None where that name is another's, or that volume can only be read and the mount is to be written.
    fn volume_of_claim(&mut self, wanted: &WantedMount<'_>) -> Option<String> {
        let mut volumes = self.volumes.iter().flatten();
        let of_claim = volumes.clone();
        let mut of_claim = of_claim
            .filter(|volume| volume.is_of_claim(wanted.claim))
            .peekable();
        if of_claim.peek().is_some() {
            let mut enough = of_claim.filter(|volume| wanted.read_only || !volume.is_read_only());
            return enough.next().map(|volume| volume.name.as_str().to_owned());
        }
        let name = &wanted.volume;
        if volumes.any(|volume| volume.name.as_str() == name) {
            return None;
        }
        let mut claim = json!({"claimName": wanted.claim});
        if wanted.is_volume_read_only {
            claim["readOnly"] = json!(true);
        }
        let volume = Volume::of_claim(name, wanted.claim, wanted.is_volume_read_only);
        let json = json!({"name": name, "persistentVolumeClaim": claim});
        append(
            self.operations,
            &["spec", "volumes"],
            self.volumes,
            volume,
            json,
        );
        Some(name.clone())
    }
}

/// Appends to the list at `path`, of which `list` is what was read, and `json` is `item` in full.
fn append<T>(
    operations: &mut Vec<PatchOperation>,
    path: &[&str],
    list: &mut Option<Vec<T>>,
    item: T,
    json: Value,
) {
    match list {
        Some(list) => {
            add(operations, &[path, &["-"]].concat(), json);
            list.push(item);
        }
        None => {
            add(operations, path, json!([json]));
            *list = Some(vec![item]);
        }
    }
}

fn add(operations: &mut Vec<PatchOperation>, path: &[&str], value: Value) {
    operations.push(PatchOperation::Add(AddOperation {
        path: PointerBuf::from_tokens(path.iter().copied()),
        value,
    }));
}
