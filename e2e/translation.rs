//! From a pod's container to a process of this machine: the environment that the kubelet would
//! give it, with paths, hosts and ports translated by one table and nothing else changed.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, Pod};

/// What means something else on this machine: how it starts in the pod, and here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Translation {
    table: Vec<(String, String)>,
}

impl Translation {
    /// Adds a row: a path in the container or the origin of a URL (`http://host:port`).
    pub fn with(mut self, in_pod: impl Into<String>, here: impl Into<String>) -> Self {
        self.table.push((in_pod.into(), here.into()));
        self
    }

    /// A value, with the first row that fits applied. A row fits at the start of the value, up to
    /// a slash or the end: `/var/run/token` is not part of `/var/run/tokens`.
    pub fn apply(&self, value: &str) -> String {
        for (in_pod, here) in &self.table {
            if let Some(rest) = value.strip_prefix(in_pod.as_str())
                && (rest.is_empty() || rest.starts_with('/'))
            {
                return format!("{here}{rest}");
            }
        }
        value.to_owned()
    }
}

/// The environment of one container of `pod`, as the kubelet would make it, translated.
pub fn environment(
    pod: &Pod,
    container: &str,
    translation: &Translation,
) -> Result<BTreeMap<String, String>> {
    let container = container_of(pod, container)?;
    if container
        .env_from
        .as_ref()
        .is_some_and(|sources| !sources.is_empty())
    {
        bail!(
            "container {:?} has envFrom, which only a kubelet resolves",
            container.name
        );
    }
    let mut environment = BTreeMap::new();
    for variable in container.env.iter().flatten() {
        let value = value_of(pod, variable, &environment).with_context(|| {
            format!(
                "environment variable {} of {:?}",
                variable.name, container.name
            )
        })?;
        environment.insert(variable.name.clone(), value);
    }
    for value in environment.values_mut() {
        *value = translation.apply(value);
    }
    Ok(environment)
}

/// A container by its name.
pub fn container_of<'a>(pod: &'a Pod, name: &str) -> Result<&'a Container> {
    let containers = pod
        .spec
        .as_ref()
        .map(|spec| spec.containers.as_slice())
        .unwrap_or_default();
    let found = containers.iter().find(|container| container.name == name);
    found.with_context(|| format!("the pod has no container {name:?}"))
}

fn value_of(pod: &Pod, variable: &EnvVar, earlier: &BTreeMap<String, String>) -> Result<String> {
    match &variable.value_from {
        None => Ok(expand(
            variable.value.as_deref().unwrap_or_default(),
            earlier,
        )),
        Some(EnvVarSource {
            field_ref: Some(field),
            ..
        }) => field_of(pod, &field.field_path),
        Some(_) => bail!("has a valueFrom that only a kubelet resolves"),
    }
}

fn field_of(pod: &Pod, path: &str) -> Result<String> {
    let (metadata, spec, status) = (&pod.metadata, pod.spec.as_ref(), pod.status.as_ref());
    let value = match path {
        "metadata.name" => metadata.name.clone(),
        "metadata.namespace" => metadata.namespace.clone(),
        "metadata.uid" => metadata.uid.clone(),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()),
        "status.podIP" => status.and_then(|status| status.pod_ip.clone()),
        "status.hostIP" => status.and_then(|status| status.host_ip.clone()),
        other => match keyed(other) {
            // A missing key is an empty value, as with the kubelet.
            Some(("metadata.annotations", key)) => Some(
                metadata
                    .annotations
                    .as_ref()
                    .and_then(|all| all.get(key))
                    .cloned()
                    .unwrap_or_default(),
            ),
            Some(("metadata.labels", key)) => Some(
                metadata
                    .labels
                    .as_ref()
                    .and_then(|all| all.get(key))
                    .cloned()
                    .unwrap_or_default(),
            ),
            _ => bail!("refers to the field {other}, which is not known here"),
        },
    };
    value.with_context(|| format!("refers to {path}, which the pod does not have"))
}

/// `metadata.labels['key']` as `("metadata.labels", "key")`.
fn keyed(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?.split_once("['")
}

/// Replaces `$(NAME)` by an earlier variable's value, as the kubelet does: `$$` is a dollar, an
/// unknown name stays as it is written, and so does a dollar before anything else.
/// <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#Container>
fn expand(value: &str, earlier: &BTreeMap<String, String>) -> String {
    let mut expanded = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        if let Some(escaped) = after.strip_prefix('$') {
            expanded.push('$');
            rest = escaped;
        } else if let Some((name, tail)) = after
            .strip_prefix('(')
            .and_then(|open| open.split_once(')'))
        {
            match earlier.get(name) {
                Some(known) => expanded.push_str(known),
                None => expanded.push_str(&format!("$({name})")),
            }
            rest = tail;
        } else {
            expanded.push('$');
            rest = after;
        }
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(env: serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": "jupyter-ada", "namespace": "earth", "uid": "1",
                "annotations": {"hub.jupyter.org/username": "ada"},
            },
            "spec": {"containers": [{"name": "notebook", "env": env}]},
        }))
        .unwrap()
    }

    fn translated(env: serde_json::Value, translation: &Translation) -> BTreeMap<String, String> {
        environment(&pod(env), "notebook", translation).unwrap()
    }

    fn table() -> Translation {
        Translation::default()
            .with("/var/run/secrets/hubstorage", "/here/token")
            .with("http://169.254.170.23:8180", "http://127.0.0.1:20001")
    }

    #[test]
    fn the_agents_address_becomes_the_loopback_one_and_the_path_stays() {
        let uri = json!([{"name": "URI", "value": "http://169.254.170.23:8180/v1/credentials"}]);

        assert_eq!(
            translated(uri, &table())["URI"],
            "http://127.0.0.1:20001/v1/credentials"
        );
    }

    #[test]
    fn a_path_in_the_token_mount_becomes_the_file_on_this_machine() {
        let file = json!([{"name": "FILE", "value": "/var/run/secrets/hubstorage/token"}]);

        assert_eq!(translated(file, &table())["FILE"], "/here/token/token");
    }

    #[test]
    fn what_only_begins_alike_is_not_translated() {
        let values = [
            "/var/run/secrets/hubstorage-other/token",
            "http://169.254.170.23:81800/",
        ];

        for value in values {
            assert_eq!(table().apply(value), value);
        }
    }

    #[test]
    fn what_is_not_in_the_table_is_not_changed() {
        let bucket = json!([{"name": "SCRATCH_BUCKET", "value": "s3://earth-scratch/ada"}]);

        assert_eq!(
            translated(bucket, &table())["SCRATCH_BUCKET"],
            "s3://earth-scratch/ada"
        );
    }

    #[test]
    fn a_variable_may_refer_to_an_earlier_one_but_not_to_a_later_one() {
        let env = json!([
            {"name": "A", "value": "$(B)"},
            {"name": "B", "value": "b"},
            {"name": "C", "value": "$(A)-$(B)"},
        ]);

        let environment = translated(env, &Translation::default());

        assert_eq!(environment["A"], "$(B)");
        assert_eq!(environment["C"], "$(B)-b");
    }

    #[test]
    fn dollars_are_unescaped_as_the_kubelet_does() {
        let cases = [
            ("$$(A)", "$(A)"),
            ("a$b", "a$b"),
            ("$", "$"),
            ("$(open", "$(open"),
            ("$$$$", "$$"),
        ];

        for (written, meant) in cases {
            assert_eq!(
                expand(written, &BTreeMap::from([("A".into(), "1".into())])),
                meant,
                "{written}"
            );
        }
    }

    #[test]
    fn a_later_variable_of_the_same_name_wins() {
        let env = json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]);

        assert_eq!(translated(env, &Translation::default())["A"], "2");
    }

    #[test]
    fn fields_of_the_pod_are_resolved() {
        let env = json!([
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "USER", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['hub.jupyter.org/username']"}}},
        ]);

        let environment = translated(env, &Translation::default());

        assert_eq!(environment["NAME"], "jupyter-ada");
        assert_eq!(environment["USER"], "ada");
    }

    #[test]
    fn what_only_a_kubelet_can_resolve_is_an_error_that_names_the_variable() {
        let secret =
            json!([{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]);

        let error = environment(&pod(secret), "notebook", &Translation::default()).unwrap_err();

        assert!(format!("{error:#}").contains("KEY"));
    }
}
