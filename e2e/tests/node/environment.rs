//! Variables that a hub declares, as a kubelet gives them to a notebook server.

use hubstorage_core::names::Prefix;
use hubstorage_e2e::components::hub::HUB;
use serde_json::{Value, json};

use crate::cluster::{Cluster, storage};

/// A user whom a kubelet would take for a reference to a variable that stands before it.
const USER: &str = "$(STAC_URL)";

/// What the server has of these variables.
const TELL: &str = "
import json, os
names = ['STAC_URL', 'CATALOG_URL', 'MAPS_LICENCE', 'NO_KEY', 'NO_MAP', 'HUB_USER', 'HUB_PREFIX',
    'JUPYTERHUB_USER']
print(json.dumps({name: os.environ[name] for name in names if name in os.environ}), end='')
";

#[tokio::test]
async fn a_server_has_the_variables_of_its_hub_and_starts_without_those_that_lead_nowhere() {
    let cluster = Cluster::enter().await;
    let metadata = json!({"name": "hub-values", "namespace": HUB.namespace});
    let objects = [
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"catalog": "https://catalog.example.org"}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"licence": "0-1-2"}}),
    ];
    let documented = include_str!("../../../docs/examples/hub-environment.yaml");
    let documented: Value = serde_yaml::from_str(documented).unwrap();
    let mut env = documented["spec"]["env"].as_array().unwrap().clone();
    env.extend([
        json!({"name": "NO_KEY", "valueFrom": {"secretKeyRef": {"name": "hub-values", "key": "none"}}}),
        json!({"name": "NO_MAP", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "none"}}}),
        json!({"name": "JUPYTERHUB_USER", "value": "ours"}),
    ]);
    let mut hub = storage(HUB.namespace);
    hub["spec"]["env"] = env.into();

    let declared = async {
        for object in objects.iter().chain([&hub]) {
            cluster.apply(object).await;
        }
    };
    let given = async {
        let report = cluster.started_with_the_latest(USER).await;
        let told = cluster.hub(&HUB).run(USER, TELL).await.unwrap();
        let told: Value = serde_json::from_str(&told.ok().unwrap()).unwrap();
        cluster.hub(&HUB).stop(USER).await.unwrap();
        assert_eq!(
            told,
            json!({
                "STAC_URL": "https://stac.example.org", "CATALOG_URL": "https://catalog.example.org",
                "MAPS_LICENCE": "0-1-2", "HUB_USER": USER,
                "HUB_PREFIX": Prefix::escaped(USER.as_bytes()).to_string(), "JUPYTERHUB_USER": USER,
            })
        );
        assert_eq!(report["kept"], json!(["JUPYTERHUB_USER"]));
    };
    let removed = async {
        cluster.apply(&storage(HUB.namespace)).await;
        for kind in ["configmap", "secret"] {
            let delete = ["delete", kind, "hub-values", "-n", HUB.namespace];
            cluster.kubectl(&delete).await;
        }
    };
    cluster.without(declared, given, removed).await;
}
