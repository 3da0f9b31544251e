//! Which container is served.

use hubstorage_core::injection::HubInjection;
use serde_json::{Value, json};

use crate::cases::{plain_hub, scratch, stamped_only};
use crate::{HUB, admit, hub, minio, notebook_pod, patched, variable};

/// A hub whose source says this of the container.
fn hub_choosing(container: Value) -> HubInjection {
    let sources = json!([{
        "name": "notebook",
        "podSelector": {"matchLabels": {"component": "singleuser-server"}},
        "creators": [{"serviceAccount": {"name": "hub"}}],
        "container": container,
    }]);
    let env = json!([{"name": "SCRATCH_BUCKET"}]);
    hub(json!({"sources": sources}), scratch(env), minio())
}

/// A pod with these containers.
fn pod_of(names: &[&str]) -> Value {
    let mut pod = notebook_pod();
    let containers = names
        .iter()
        .map(|name| json!({"name": name, "image": "example.org/any:1"}));
    pod["spec"]["containers"] = containers.collect();
    pod
}

/// The containers that were given anything, by name; those that were given one thing were given
/// all.
fn served(pod: &Value, hub: &HubInjection) -> Vec<String> {
    let after = patched(pod, &admit(pod, HUB, Some(hub)));
    let containers = after["spec"]["containers"].as_array().unwrap();
    let served = containers.iter().filter(|container| {
        let has_token = container["volumeMounts"].is_array();
        assert_eq!(has_token, variable(container, "SCRATCH_BUCKET").is_some());
        has_token
    });
    let name = |container: &Value| container["name"].as_str().unwrap().to_owned();
    served.map(name).collect()
}

#[test]
fn the_container_named_notebook_is_served_although_another_is_first() {
    let mut pod = notebook_pod();
    let proxy = json!({"name": "proxy", "image": "example.org/proxy:1"});
    pod["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .insert(0, proxy.clone());
    let after = patched(&pod, &admit(&pod, HUB, Some(&plain_hub())));
    assert_eq!(after["spec"]["containers"][0], proxy);
    assert_eq!(
        variable(&after["spec"]["containers"][1], "SCRATCH_BUCKET"),
        Some(&json!("s3://earth-scratch/bob"))
    );
}

#[test]
fn where_no_container_is_named_notebook_the_first_is_served() {
    let mut pod = notebook_pod();
    pod["spec"]["containers"][0]["name"] = json!("dask-worker");
    let after = patched(&pod, &admit(&pod, HUB, Some(&plain_hub())));
    assert_eq!(
        variable(&after["spec"]["containers"][0], "SCRATCH_BUCKET"),
        Some(&json!("s3://earth-scratch/bob"))
    );
}

#[test]
fn a_container_that_another_webhook_puts_first_is_given_nothing_at_the_second_call() {
    for hub in [plain_hub(), hub_choosing(json!({"index": 0}))] {
        let pod = pod_of(&["dask-worker"]);
        let mut once = patched(&pod, &admit(&pod, HUB, Some(&hub)));
        let sidecar = json!({"name": "sidecar", "image": "example.org/any:1"});
        let containers = once["spec"]["containers"].as_array_mut().unwrap();
        containers.insert(0, sidecar);

        let twice = patched(&once, &admit(&once, HUB, Some(&hub)));

        assert_eq!(twice, once);
    }
}

#[test]
fn the_container_that_its_source_names_is_served() {
    let hub = hub_choosing(json!({"name": "rstudio"}));
    let pod = pod_of(&["proxy", "notebook", "rstudio"]);
    assert_eq!(served(&pod, &hub), ["rstudio"]);
}

#[test]
fn the_container_at_its_sources_index_is_served() {
    let hub = hub_choosing(json!({"index": 2}));
    let pod = pod_of(&["proxy", "notebook", "rstudio"]);
    assert_eq!(served(&pod, &hub), ["rstudio"]);
}

#[test]
fn the_container_that_the_pods_annotation_names_goes_before_its_sources() {
    let mut pod = pod_of(&["proxy", "notebook", "rstudio"]);
    pod["metadata"]["annotations"]["hubstorage.io/container"] = json!("proxy");
    for hub in [plain_hub(), hub_choosing(json!({"name": "rstudio"}))] {
        assert_eq!(served(&pod, &hub), ["proxy"]);
    }
}

#[test]
fn of_several_sources_the_one_that_trusts_the_creator_chooses() {
    let source = |name: &str, account: &str, container: &str| {
        let selector = json!({"matchExpressions": [{"key": "component", "operator": "Exists"}]});
        json!({"name": name, "podSelector": selector, "creators": [{"serviceAccount": {"name": account}}],
               "container": {"name": container}})
    };
    let users = json!({"sources": [source("dask", "dask-gateway", "dask-worker"), source("notebook", "hub", "rstudio")]});
    let hub = hub(users, scratch(json!([{"name": "SCRATCH_BUCKET"}])), minio());
    assert_eq!(
        served(&pod_of(&["dask-worker", "rstudio"]), &hub),
        ["rstudio"]
    );
}

#[test]
fn a_container_that_the_pod_does_not_have_is_not_replaced_by_another() {
    let pod = pod_of(&["notebook"]);
    let mut annotated = pod.clone();
    annotated["metadata"]["annotations"]["hubstorage.io/container"] = json!("rstudio");
    let why = |pod, container| stamped_only(pod, HUB, Some(&hub_choosing(container)));

    assert_eq!(
        why(&annotated, json!(null)),
        "its annotation hubstorage.io/container names the container \"rstudio\", which it does not have"
    );
    assert_eq!(
        why(&pod, json!({"name": "rstudio"})),
        "spec.users.sources[notebook].container names the container \"rstudio\", which it does not have"
    );
    assert_eq!(
        why(&pod, json!({"index": 1})),
        "spec.users.sources[notebook].container asks for the one at index 1, and it has 1 of them"
    );
}

#[test]
fn init_containers_and_sidecars_among_them_are_never_served() {
    let mut pod = pod_of(&["notebook"]);
    pod["spec"]["initContainers"] = json!([
        {"name": "volume-mount-hack", "command": ["sh", "-c", "chown 1000 /home/jovyan"], "securityContext": {"runAsUser": 0}},
        {"name": "rstudio", "restartPolicy": "Always"},
    ]);
    let why = stamped_only(&pod, HUB, Some(&hub_choosing(json!({"name": "rstudio"}))));
    assert!(why.contains("does not have"), "{why}");
    let after = patched(&pod, &admit(&pod, HUB, Some(&plain_hub())));
    assert_eq!(
        after["spec"]["initContainers"],
        pod["spec"]["initContainers"]
    );
}
