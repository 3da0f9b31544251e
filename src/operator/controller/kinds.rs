//! Whether the API server serves the kinds as this version writes them.

use anyhow::{Context as _, bail};
use hubstorage_core::api::{HubStorage, HubUser, REINSTALL, StorageProvider, crds};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, JSONSchemaProps,
    JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};

/// Fields that are named; the first tell enough of which version it is.
const MOST: usize = 5;

const UNSERVED: &str = "the API server does not serve the kinds of hubstorage.io to this account";

/// Succeeds where every object and every status that this version writes or reads fits into the
/// definitions.
///
/// The API server refuses a whole status for one field that it does not know, and drops from the spec what
/// it does not know, such as `mode: Paused`. Who cannot write down what was begun must not begin it, and so
/// a process ends rather than lead there: in a rolling update the one before goes on. Fields and values
/// that only newer definitions have do no harm.
///
/// # Errors
/// What does not fit, and how the right ones are installed.
pub async fn are_installed(client: &Client) -> anyhow::Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut others = Vec::new();
    for ours in crds() {
        let name = ours.name_any();
        let served = api
            .get_opt(&name)
            .await
            .with_context(|| format!("the CustomResourceDefinition {name} cannot be read"))?
            .with_context(|| {
                format!("there is no CustomResourceDefinition {name}; install it with {REINSTALL}")
            })?;
        let misfits = misfits(&ours, &served);
        if !misfits.is_empty() {
            others.push(format!("{name}: {}", some(&misfits)));
        }
    }
    if !others.is_empty() {
        bail!(
            "the CustomResourceDefinitions are those of another version of HubStorage ({}), and what this version begins \
             could not be written down; bring them up to date with {REINSTALL}",
            others.join("; ")
        );
    }
    // That they are served, and to this account.
    let one = ListParams::default().limit(1);
    Api::<StorageProvider>::all(client.clone())
        .list_metadata(&one)
        .await
        .context(UNSERVED)?;
    Api::<HubStorage>::all(client.clone())
        .list_metadata(&one)
        .await
        .context(UNSERVED)?;
    Api::<HubUser>::all(client.clone())
        .list_metadata(&one)
        .await
        .context(UNSERVED)?;
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

/// Where what is ours does not fit, as paths from the object's root.
fn misfits(ours: &CustomResourceDefinition, served: &CustomResourceDefinition) -> Vec<String> {
    let mut misfits = Vec::new();
    for version in &ours.spec.versions {
        let mut versions = served.spec.versions.iter();
        match versions.find(|it| it.name == version.name && it.served) {
            Some(served) => compare("", schema(version), schema(served), &mut misfits),
            None => misfits.push(format!("no version {}", version.name)),
        }
    }
    misfits
}

fn schema(version: &CustomResourceDefinitionVersion) -> Option<&JSONSchemaProps> {
    version.schema.as_ref()?.open_api_v3_schema.as_ref()
}

/// Adds what does not fit; all of a field that is not there is one.
fn compare(
    path: &str,
    ours: Option<&JSONSchemaProps>,
    served: Option<&JSONSchemaProps>,
    misfits: &mut Vec<String>,
) {
    let Some(ours) = ours else { return };
    let Some(served) = served else {
        misfits.push(format!("no {path}"));
        return;
    };
    if served.x_kubernetes_preserve_unknown_fields == Some(true) {
        return;
    }
    if (&ours.type_, &ours.x_kubernetes_list_type)
        != (&served.type_, &served.x_kubernetes_list_type)
    {
        misfits.push(format!("another type of {path}"));
    }
    if ours.x_kubernetes_list_map_keys != served.x_kubernetes_list_map_keys {
        misfits.push(format!("other keys of {path}"));
    }
    for (name, field) in ours.properties.iter().flatten() {
        let known = served.properties.as_ref().and_then(|it| it.get(name));
        compare(&format!("{path}.{name}"), Some(field), known, misfits);
    }
    if let Some(element) = element(ours) {
        let known = self::element(served);
        compare(&format!("{path}[*]"), Some(element), known, misfits);
    }
    let needed = served.required.iter().flatten();
    let known = |name: &&String| ours.required.iter().flatten().any(|it| it == *name);
    misfits.extend(
        needed
            .filter(|name| !known(name))
            .map(|name| format!("{path}.{name} is required")),
    );
    let allowed = served.enum_.iter().flatten().collect::<Vec<_>>();
    if !allowed.is_empty() {
        let values = ours.enum_.iter().flatten();
        let unknown = values.filter(|value| !allowed.contains(value));
        misfits.extend(unknown.map(|value| format!("no {} in {path}", value.0)));
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

    /// What does not fit into the definition of the HubStorage, of which something was changed.
    fn misfit(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let ours = crds().swap_remove(1);
        let mut served = serde_json::to_value(&ours).unwrap();
        change(&mut served["spec"]["versions"][0]);
        misfits(&ours, &serde_json::from_value(served).unwrap())
    }

    fn fields<'v>(version: &'v mut Value, part: &str) -> &'v mut Value {
        &mut version["schema"]["openAPIV3Schema"]["properties"][part]["properties"]
    }

    fn remove(fields: &mut Value, name: &str) {
        fields.as_object_mut().unwrap().remove(name).unwrap();
    }

    #[test]
    fn our_own_and_those_with_more_in_them_fit() {
        assert_eq!(misfit(|_| {}), [""; 0]);
        let newer = |version: &mut Value| {
            fields(version, "status")["later"] = json!({"type": "string"});
            let mode = &mut fields(version, "spec")["mode"]["enum"];
            mode.as_array_mut().unwrap().push(json!("Later"));
        };
        assert_eq!(misfit(newer), [""; 0]);
    }

    #[test]
    fn what_lacks_is_named() {
        let role = misfit(|version| remove(fields(version, "status"), "role"));
        assert_eq!(role, ["no .status.role"]);
        let mode = misfit(|version| remove(fields(version, "spec"), "mode"));
        assert_eq!(mode, ["no .spec.mode"]);
        let inner = |version: &mut Value| {
            let buckets = &mut fields(version, "status")["vending"]["properties"]["buckets"];
            remove(&mut buckets["items"]["properties"], "roleId");
        };
        assert_eq!(misfit(inner), ["no .status.vending.buckets[*].roleId"]);
        let value = |version: &mut Value| {
            let modes = fields(version, "spec")["mode"]["enum"].as_array_mut();
            modes.unwrap().retain(|mode| mode != "Paused");
        };
        assert_eq!(misfit(value), ["no \"Paused\" in .spec.mode"]);
        for change in [("name", json!("v1alpha0")), ("served", json!(false))] {
            let unserved = misfit(|version| version[change.0] = change.1);
            assert_eq!(unserved, ["no version v1alpha1"]);
        }
    }

    #[test]
    fn what_the_server_would_refuse_is_named() {
        let keys = |version: &mut Value| {
            fields(version, "status")["buckets"]["x-kubernetes-list-map-keys"] = json!(["name"]);
        };
        assert_eq!(misfit(keys), ["other keys of .status.buckets"]);
        let type_ = |version: &mut Value| {
            fields(version, "status")["observedGeneration"]["type"] = json!("string");
        };
        assert_eq!(
            misfit(type_),
            ["another type of .status.observedGeneration"]
        );
        let required = |version: &mut Value| {
            let status = &mut version["schema"]["openAPIV3Schema"]["properties"]["status"];
            status["required"] = json!(["later"]);
        };
        assert_eq!(misfit(required), [".status.later is required"]);
    }
}
