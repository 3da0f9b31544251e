//! Minimal JSON Patch operations on a pod as it was sent.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, ReplaceOperation};
use serde_json::{Value, json};

use super::{TOKEN_FILE, TOKEN_MOUNT_PATH, TOKEN_SECONDS, TOKEN_VOLUME};
use crate::api::{AUDIENCE, OnConflict};

/// Collects operations on one pod. It keeps a patched copy, so that each operation sees what
/// those before it have made: the second one on an absent list appends instead of creating it.
pub(super) struct PodPatch {
    patched: Value,
    operations: Vec<PatchOperation>,
}

impl PodPatch {
    pub(super) fn new(original: &Value) -> Self {
        Self {
            patched: original.clone(),
            operations: Vec::new(),
        }
    }

    /// Sets an annotation, whatever it was.
    pub(super) fn annotate(&mut self, key: &str, value: &str) {
        if self.at(&["metadata", "annotations", key]) == Some(&json!(value)) {
            return;
        }
        if !self
            .at(&["metadata", "annotations"])
            .is_some_and(Value::is_object)
        {
            self.add(&["metadata", "annotations"], json!({}));
        }
        self.add(&["metadata", "annotations", key], json!(value));
    }

    /// Gives a container a variable. False if it has one of this name with another value, which
    /// is then kept.
    pub(super) fn env(
        &mut self,
        container: usize,
        name: &str,
        value: &str,
        on_conflict: OnConflict,
    ) -> bool {
        let wanted = json!({"name": name, "value": value});
        let index = container.to_string();
        let list = ["spec", "containers", &index, "env"];
        // Of several entries with one name the kubelet takes the last.
        let there = self.at(&list).and_then(Value::as_array).and_then(|env| {
            env.iter()
                .rposition(|entry| entry["name"] == name)
                .map(|at| (at, &env[at]))
        });
        match (there, on_conflict) {
            (Some((_, entry)), _) if *entry == wanted => true,
            (Some(_), OnConflict::Keep) => false,
            (Some((at, _)), OnConflict::Replace) => {
                self.replace(
                    &["spec", "containers", &index, "env", &at.to_string()],
                    wanted,
                );
                true
            }
            (None, _) => {
                self.append(&list, wanted);
                true
            }
        }
    }

    /// Gives a container the projected token.
    pub(super) fn token_volume(&mut self, container: usize) {
        let volume = json!({
            "name": TOKEN_VOLUME,
            "projected": {"sources": [{"serviceAccountToken": {
                "audience": AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": TOKEN_FILE,
            }}]},
        });
        let mount = json!({"name": TOKEN_VOLUME, "mountPath": TOKEN_MOUNT_PATH, "readOnly": true});
        let index = container.to_string();
        self.append_named(&["spec", "volumes"], volume);
        self.append_named(&["spec", "containers", &index, "volumeMounts"], mount);
    }

    pub(super) fn finish(self) -> Patch {
        Patch(self.operations)
    }

    fn append_named(&mut self, list: &[&str], item: Value) {
        let present = self
            .at(list)
            .and_then(Value::as_array)
            .is_some_and(|l| l.iter().any(|i| i["name"] == item["name"]));
        if !present {
            self.append(list, item);
        }
    }

    fn append(&mut self, list: &[&str], item: Value) {
        if self.at(list).is_some_and(Value::is_array) {
            self.add(&[list, &["-"]].concat(), item);
        } else {
            self.add(list, json!([item]));
        }
    }

    fn at(&self, path: &[&str]) -> Option<&Value> {
        PointerBuf::from_tokens(path.iter().copied())
            .resolve(&self.patched)
            .ok()
    }

    fn add(&mut self, path: &[&str], value: Value) {
        self.push(PatchOperation::Add(AddOperation {
            path: PointerBuf::from_tokens(path.iter().copied()),
            value,
        }));
    }

    fn replace(&mut self, path: &[&str], value: Value) {
        self.push(PatchOperation::Replace(ReplaceOperation {
            path: PointerBuf::from_tokens(path.iter().copied()),
            value,
        }));
    }

    /// An operation that does not apply to the pod (it has no spec or no containers) is left
    /// out: the API server will refuse such a pod in its own words.
    fn push(&mut self, operation: PatchOperation) {
        if json_patch::patch(&mut self.patched, std::slice::from_ref(&operation)).is_ok() {
            self.operations.push(operation);
        }
    }
}
