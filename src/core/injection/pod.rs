//! What is read of a pod: the parts that decide, borrowed from the review that holds them. The rest
//! is skipped unread: most of a review are fields that say nothing to us (`managedFields` alone is
//! half of that of a big pod), and every creation waits for this.

use std::borrow::{Borrow, Cow};
use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::TOKEN_VOLUME;
use crate::api::AUDIENCE;

/// A pod as somebody sent it to the API server. A list or map that is absent, null or empty is the
/// same in all that is decided, but not in how something is added to it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct SentPod<'p> {
    #[serde(borrow)]
    pub(super) metadata: Metadata<'p>,
    #[serde(borrow)]
    pub(super) spec: Spec<'p>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Metadata<'p> {
    pub(super) labels: Option<BTreeMap<String, String>>,
    #[serde(borrow)]
    pub(super) annotations: Option<BTreeMap<Text<'p>, Text<'p>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Spec<'p> {
    #[serde(borrow)]
    pub(super) containers: Option<Vec<Container<'p>>>,
    #[serde(borrow)]
    pub(super) volumes: Option<Vec<Volume<'p>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Container<'p> {
    #[serde(borrow)]
    pub(super) name: Text<'p>,
    #[serde(borrow)]
    pub(super) env: Option<Vec<EnvEntry<'p>>>,
    #[serde(borrow)]
    pub(super) volume_mounts: Option<Vec<Mount<'p>>>,
}

/// An entry of `env`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct EnvEntry<'p> {
    #[serde(borrow)]
    pub(super) name: Text<'p>,
    #[serde(borrow)]
    pub(super) value: Option<Text<'p>>,
    pub(super) value_from: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Mount<'p> {
    #[serde(borrow)]
    pub(super) name: Text<'p>,
    #[serde(borrow)]
    pub(super) mount_path: Text<'p>,
    #[serde(borrow)]
    pub(super) sub_path: Option<Text<'p>>,
    #[serde(borrow)]
    pub(super) sub_path_expr: Option<Text<'p>>,
    pub(super) read_only: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Volume<'p> {
    #[serde(borrow)]
    pub(super) name: Text<'p>,
    /// Of a projected volume, what is in it.
    projected: Option<Value>,
    #[serde(borrow)]
    persistent_volume_claim: Option<ClaimVolume<'p>>,
    config_map: Option<IgnoredAny>,
    secret: Option<IgnoredAny>,
    #[serde(rename = "downwardAPI")]
    downward_api: Option<IgnoredAny>,
    image: Option<IgnoredAny>,
    nfs: Option<ReadOnlySource>,
    csi: Option<ReadOnlySource>,
}

/// Of a volume that may be read-only, whether it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ReadOnlySource {
    read_only: bool,
}

/// The claim that a volume is of.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ClaimVolume<'p> {
    #[serde(borrow)]
    claim_name: Text<'p>,
    read_only: bool,
}

/// A string that is borrowed where nothing in it is escaped. Of a bare `Cow` within an `Option` or
/// a list serde makes an owned one.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'p>(#[serde(borrow)] Cow<'p, str>);

impl SentPod<'_> {
    /// The value of an annotation.
    pub(super) fn annotation(&self, key: &str) -> Option<&str> {
        let annotations = self.metadata.annotations.as_ref()?;
        annotations.get(key).map(Text::as_str)
    }

    /// Whether another volume has the name of the token's, which can then not be given. Of ours only
    /// the audience is compared: the API server adds what it takes for granted.
    pub(super) fn has_volume_in_place_of_the_token(&self) -> bool {
        let mut volumes = self.spec.volumes.iter().flatten();
        volumes.any(|volume| volume.name.as_str() == TOKEN_VOLUME && !volume.is_token())
    }

    /// The containers that run beside each other, init containers are none of them.
    pub(super) fn containers(&self) -> &[Container<'_>] {
        self.spec.containers.as_deref().unwrap_or_default()
    }
}

impl Volume<'_> {
    pub(super) fn projected(name: &str, projected: Value) -> Self {
        Self {
            name: name.into(),
            projected: Some(projected),
            ..Self::default()
        }
    }

    pub(super) fn of_claim(name: &str, claim: &str, read_only: bool) -> Self {
        Self {
            name: name.into(),
            persistent_volume_claim: Some(ClaimVolume {
                claim_name: claim.into(),
                read_only,
            }),
            ..Self::default()
        }
    }

    /// Whether nobody can write to it, however it is mounted.
    pub(super) fn is_read_only(&self) -> bool {
        let claim = self.persistent_volume_claim.as_ref();
        let sources = [&self.nfs, &self.csi].into_iter().flatten();
        self.projected.is_some()
            || [
                &self.config_map,
                &self.secret,
                &self.downward_api,
                &self.image,
            ]
            .iter()
            .any(|source| source.is_some())
            || claim.is_some_and(|claim| claim.read_only)
            || sources.into_iter().any(|source| source.read_only)
    }

    /// Whether it is of this claim.
    pub(super) fn is_of_claim(&self, claim: &str) -> bool {
        let of = self.persistent_volume_claim.as_ref();
        of.is_some_and(|of| of.claim_name.as_str() == claim)
    }

    fn is_token(&self) -> bool {
        let sources = self.projected.as_ref();
        let sources = sources.and_then(|projected| projected["sources"].as_array());
        let mut sources = sources.into_iter().flatten();
        sources.any(|source| source["serviceAccountToken"]["audience"] == AUDIENCE)
    }
}

impl<'p> EnvEntry<'p> {
    pub(super) fn literal(name: &str, value: impl Into<Text<'p>>) -> Self {
        Self {
            name: name.into(),
            value: Some(value.into()),
            value_from: None,
        }
    }

    pub(super) fn from(name: &str, source: Value) -> Self {
        Self {
            name: name.into(),
            value: None,
            value_from: Some(source),
        }
    }

    /// Whether both say the same: the API server leaves out a value that is empty.
    pub(super) fn says(&self, other: &Self) -> bool {
        self.value_from == other.value_from && self.text() == other.text()
    }

    fn text(&self) -> &str {
        self.value.as_ref().map_or("", Text::as_str)
    }

    /// As it stands in a pod.
    pub(super) fn entry(&self) -> Value {
        let name = self.name.as_str();
        match &self.value_from {
            Some(source) => json!({"name": name, "valueFrom": source}),
            None => json!({"name": name, "value": self.text()}),
        }
    }
}

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Text<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

impl From<&str> for Text<'_> {
    fn from(text: &str) -> Self {
        Self(Cow::Owned(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_copied_of_what_is_not_escaped() {
        let sent = r#"{"metadata": {"annotations": {"a": "b", "c": "d\n"}},
            "spec": {"containers": [{"name": "notebook", "env": [{"name": "A", "value": "1"}]}]}}"#;
        let pod: SentPod<'_> = serde_json::from_str(sent).unwrap();
        let is_borrowed = |text: &Text<'_>| matches!(text.0, Cow::Borrowed(_));

        let annotations = pod.metadata.annotations.as_ref().unwrap();
        assert!(annotations.keys().all(is_borrowed));
        assert!(is_borrowed(&annotations["a"]) && !is_borrowed(&annotations["c"]));
        let notebook = &pod.containers()[0];
        assert!(is_borrowed(&notebook.name));
        let variable = &notebook.env.as_ref().unwrap()[0];
        assert!(is_borrowed(&variable.name) && is_borrowed(variable.value.as_ref().unwrap()));
    }
}
