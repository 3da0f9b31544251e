//! The part of the Helm chart that is generated: the objects of `hubstorage manifests`, in one
//! template for each [`Part`].

use hubstorage_core::api::{SYSTEM_NAMESPACE, VENDING_NAMESPACE};
use serde_json::{Value, json};

use super::document::{self, Document};
use super::{Options, Part};

/// A template of the chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Name of its file in `charts/hubstorage/templates/generated/`.
    pub file: &'static str,
    /// What is in it.
    pub text: String,
}

const HEADER: &str = "\
# Generated from what `hubstorage manifests` prints; do not edit. To write it anew:
#   HUBSTORAGE_BLESS=1 cargo test -p hubstorage --test chart
";

/// The generated templates.
///
/// # Errors
/// None in practice: the objects are compiled in.
pub fn templates() -> anyhow::Result<Vec<Template>> {
    Part::ALL.into_iter().map(template).collect()
}

fn template(part: Part) -> anyhow::Result<Template> {
    let mut documents = part.documents(&Options::default())?;
    // Helm makes the namespace of a release before it looks at templates.
    documents.retain(|document| !is_namespace(&document.object, SYSTEM_NAMESPACE));
    documents.iter_mut().for_each(keep_what_is_the_users);
    let yaml = document::render(HEADER, &documents)?;
    Ok(Template {
        file: part.file(),
        text: without_actions(&yaml),
    })
}

impl Part {
    fn file(self) -> &'static str {
        match self {
            Self::Kinds => "crds.yaml",
            Self::Namespaces => "namespaces.yaml",
            Self::Accounts => "accounts.yaml",
            Self::Rights => "rights.yaml",
            Self::Guard => "guard.yaml",
            Self::Homes => "homes.yaml",
            Self::Shared => "shared.yaml",
            Self::Webhook => "webhook.yaml",
        }
    }
}

/// With a CustomResourceDefinition go all its objects, with a namespace all that is in it: the
/// HubStorages and the vending keys are not the chart's to delete.
fn keep_what_is_the_users(document: &mut Document) {
    let object = &mut document.object;
    if object["kind"] == "CustomResourceDefinition" || is_namespace(object, VENDING_NAMESPACE) {
        object["metadata"]["annotations"]["helm.sh/resource-policy"] = json!("keep");
    }
}

fn is_namespace(object: &Value, name: &str) -> bool {
    object["kind"] == "Namespace" && object["metadata"]["name"] == name
}

/// The same text for Helm, to which `{{` begins an action.
fn without_actions(yaml: &str) -> String {
    yaml.replace("{{", "{{ \"{{\" }}")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize as _;

    use super::*;

    fn objects() -> Vec<Value> {
        let templates = templates().unwrap();
        let documents = templates
            .iter()
            .flat_map(|template| serde_yaml::Deserializer::from_str(&template.text));
        documents
            .map(|document| Value::deserialize(document).unwrap())
            .collect()
    }

    #[test]
    fn everything_but_the_namespace_of_the_release_is_in_the_chart() {
        let printed = super::super::render(&Options::default()).unwrap();
        let printed = serde_yaml::Deserializer::from_str(&printed)
            .map(|document| Value::deserialize(document).unwrap());
        let identity = |object: &Value| {
            (
                object["kind"].clone(),
                object["metadata"]["namespace"].clone(),
                object["metadata"]["name"].clone(),
            )
        };

        let expected: Vec<_> = printed
            .filter(|object| !is_namespace(object, SYSTEM_NAMESPACE))
            .map(|object| identity(&object))
            .collect();

        assert_eq!(objects().iter().map(identity).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_holds_objects_of_users_outlives_the_release_and_nothing_else_does() {
        let kept: Vec<_> = objects()
            .into_iter()
            .filter(|object| object["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep")
            .map(|object| object["metadata"]["name"].as_str().unwrap().to_owned())
            .collect();

        assert_eq!(
            kept,
            [
                "storageproviders.hubstorage.io",
                "hubstorages.hubstorage.io",
                "hubusers.hubstorage.io",
                "hubstorage-vending",
            ]
        );
    }

    #[test]
    fn the_chart_leaves_out_what_the_operator_writes() {
        for object in objects() {
            let kind = object["kind"].as_str().unwrap();
            assert!(!["Secret", "ConfigMap", "Lease"].contains(&kind), "{kind}");
            // Of the kinds, one has a field of this name.
            if kind != "CustomResourceDefinition" {
                assert!(!object.to_string().contains("caBundle"), "{object}");
            }
        }
    }

    #[test]
    fn braces_mean_themselves() {
        assert_eq!(without_actions("a: '{{b}}'"), "a: '{{ \"{{\" }}b}}'");
    }
}
