//! Whether the API server serves the kinds as this version writes them.

use anyhow::{Context as _, bail};
use hubstorage_core::api::{REINSTALL, crds};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, JSONSchemaProps,
    JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::{Api, Client, ResourceExt as _};

/// Fields that are named; the first tell enough of which version it is.
const MOST: usize = 5;

/// Succeeds where the definitions have every field of `status` that this version writes.
///
/// The API server refuses a whole status for one field that it does not know. Who cannot write down
/// what was begun must not begin it, so such a process ends before it leads: in a rolling update the
/// one before goes on. Definitions of a newer version are all right, and so are older ones that only
/// lack fields of `spec`: nobody can have set those.
///
/// # Errors
/// What is lacking, and how it is installed.
pub async fn are_installed(client: &Client) -> anyhow::Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut others = Vec::new();
    for ours in crds() {
        let name = ours.name_any();
        let served = api.get(&name).await.with_context(|| {
            format!(
                "the CustomResourceDefinition {name} cannot be read; install it with {REINSTALL}"
            )
        })?;
        let lacking = lacking(&ours, &served);
        if !lacking.is_empty() {
            others.push(format!("{name} has no {}", some(&lacking)));
        }
    }
    if !others.is_empty() {
        bail!(
            "the CustomResourceDefinitions are those of another version of HubStorage ({}), and what this version begins \
             could not be written down; bring them up to date with {REINSTALL}",
            others.join("; ")
        );
    }
    Ok(())
}

/// The first of them, and how many there are besides.
fn some(fields: &[String]) -> String {
    let named = fields[..fields.len().min(MOST)].join(", ");
    match fields.len().saturating_sub(MOST) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// Fields of our `status` that the definition does not have, as paths from the object's root.
fn lacking(ours: &CustomResourceDefinition, served: &CustomResourceDefinition) -> Vec<String> {
    let mut lacking = Vec::new();
    for version in &ours.spec.versions {
        let mut versions = served.spec.versions.iter();
        match versions.find(|it| it.name == version.name && it.served) {
            Some(served) => compare(".status", status(version), status(served), &mut lacking),
            None => lacking.push(format!("version {}", version.name)),
        }
    }
    lacking
}

fn status(version: &CustomResourceDefinitionVersion) -> Option<&JSONSchemaProps> {
    let schema = version.schema.as_ref()?.open_api_v3_schema.as_ref()?;
    schema.properties.as_ref()?.get("status")
}

/// Adds what `served` lacks of `ours`; all of a field that is not there is one.
fn compare(
    path: &str,
    ours: Option<&JSONSchemaProps>,
    served: Option<&JSONSchemaProps>,
    lacking: &mut Vec<String>,
) {
    let Some(ours) = ours else { return };
    let Some(served) = served else {
        lacking.push(path.to_owned());
        return;
    };
    if served.x_kubernetes_preserve_unknown_fields == Some(true) {
        return;
    }
    for (name, field) in ours.properties.iter().flatten() {
        let known = served.properties.as_ref().and_then(|it| it.get(name));
        compare(&format!("{path}.{name}"), Some(field), known, lacking);
    }
    if let Some(element) = element(ours) {
        let known = self::element(served);
        compare(&format!("{path}[*]"), Some(element), known, lacking);
    }
    for value in ours.enum_.iter().flatten() {
        let is_known = served.enum_.as_ref().is_none_or(|it| it.contains(value));
        if !is_known {
            lacking.push(format!("{path}: {}", value.0));
        }
    }
}

/// Of a list or a map.
fn element(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match (&schema.items, &schema.additional_properties) {
        (Some(JSONSchemaPropsOrArray::Schema(items)), _) => Some(items),
        (_, Some(JSONSchemaPropsOrBool::Schema(values))) => Some(values),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Definitions of the HubStorage: ours, and one in which something was changed.
    fn lacks(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let ours = crds().swap_remove(1);
        let mut served = serde_json::to_value(&ours).unwrap();
        change(&mut served["spec"]["versions"][0]);
        lacking(&ours, &serde_json::from_value(served).unwrap())
    }

    fn status(version: &mut Value) -> &mut Value {
        &mut version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    }

    fn remove(fields: &mut Value, name: &str) {
        fields.as_object_mut().unwrap().remove(name).unwrap();
    }

    #[test]
    fn nothing_lacks_of_our_own_of_newer_ones_and_of_fields_that_nobody_can_have_set() {
        assert_eq!(lacks(|_| {}), [""; 0]);
        let newer = |version: &mut Value| {
            status(version)["later"] = json!({"type": "string"});
        };
        assert_eq!(lacks(newer), [""; 0]);
        let older = |version: &mut Value| {
            let fields = &mut version["schema"]["openAPIV3Schema"]["properties"];
            remove(&mut fields["spec"]["properties"], "mode");
        };
        assert_eq!(lacks(older), [""; 0]);
    }

    #[test]
    fn each_field_of_status_that_lacks_is_named() {
        let whole = lacks(|version| remove(status(version), "role"));
        assert_eq!(whole, [".status.role"]);
        let inner = |version: &mut Value| {
            let buckets = &mut status(version)["vending"]["properties"]["buckets"];
            remove(&mut buckets["items"]["properties"], "roleId");
        };
        assert_eq!(lacks(inner), [".status.vending.buckets[*].roleId"]);
        let renamed = lacks(|version| version["name"] = json!("v1alpha0"));
        assert_eq!(renamed, ["version v1alpha1"]);
        let unserved = lacks(|version| version["served"] = json!(false));
        assert_eq!(unserved, ["version v1alpha1"]);
    }

    #[test]
    fn a_value_that_lacks_is_named() {
        let lacks = lacks(|version| {
            let verdict = &mut status(version)["vending"]["properties"]["buckets"]["items"]["properties"]
                ["verdict"];
            let values = verdict["enum"].as_array_mut().unwrap();
            values.retain(|value| value != "Leaks");
        });
        assert_eq!(lacks, [".status.vending.buckets[*].verdict: \"Leaks\""]);
    }
}
