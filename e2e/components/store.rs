//! MinIO in a cluster that somebody else runs, from docs/examples/minio.yaml, and the way to it from
//! this machine.

use anyhow::{Context, Result};
use async_trait::async_trait;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::minio::{self, Keys};
use crate::component::Component;
use crate::existing::{self, STORE, given_image};
use crate::process::Launch;
use crate::running::{MinioUser, Platform};
use crate::site::Site;

/// The store; its process on this machine is `kubectl port-forward`.
pub struct Store;

/// Where pods reach it.
pub const ENDPOINT: &str = "http://minio.minio.svc:9000";

const EXAMPLE: &str = include_str!("../../docs/examples/minio.yaml");

/// Names an image of MinIO other than the example's.
const IMAGE: &str = "HUBSTORAGE_MINIO_IMAGE";

#[async_trait(?Send)]
impl Component for Store {
    fn name(&self) -> &'static str {
        "minio"
    }

    fn needs(&self) -> &'static [&'static str] {
        &["cluster"]
    }

    fn ports(&self) -> &'static [&'static str] {
        &["minio"]
    }

    async fn build(&self, site: &Site) -> Result<()> {
        minio::build_client(site).await
    }

    async fn start(&self, site: &Site) -> Result<Option<Launch>> {
        existing::make_namespace(&site.checkout, STORE).await?;
        let root = Keys::ensure(&site.checkout)?.of(MinioUser::Root);
        let mut objects = example(given_image(IMAGE))?;
        objects.push(json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "minio-root", "namespace": STORE},
            "stringData": {"MINIO_ROOT_USER": root.id, "MINIO_ROOT_PASSWORD": root.secret},
        }));
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let cluster = Platform::at(&site.checkout);
        cluster.apply(&list.to_string()).await?;
        let rollout = ["rollout", "status", "deployment/minio", "--timeout=300s"];
        let rolled_out = cluster
            .kubectl_prints(&[&rollout[..], &["-n", STORE]].concat())
            .await;
        rolled_out.with_context(|| {
            format!("can its nodes pull the image? {IMAGE} names another (`kubectl get pods -n {STORE}`)")
        })?;

        let port = site.ports.get("minio")?;
        let arguments = [
            "port-forward",
            &format!("--namespace={STORE}"),
            &format!("--address={}", site.ports.host()),
            "service/minio",
            &format!("{port}:s3"),
        ];
        let mut forward = Launch::new(site.checkout.run("bin/kubectl"), arguments);
        // A plugin of the kubeconfig may need any of it.
        let inherited = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        forward.environment.extend(inherited);
        Ok(Some(forward))
    }

    async fn ready(&self, site: &Site) -> Result<()> {
        let url = format!("http://{}/minio/health/ready", site.ports.address("minio")?);
        crate::http::get(&url, None).await.map(drop)
    }

    async fn furnish(&self, site: &Site) -> Result<()> {
        minio::make_users(site).await
    }
}

/// The objects of the example, with another image if one is given.
fn example(image: Option<String>) -> Result<Vec<Value>> {
    let mut objects = Vec::new();
    for document in serde_yaml::Deserializer::from_str(EXAMPLE) {
        let mut object = Value::deserialize(document)?;
        if let (Some(image), "Deployment") = (&image, object["kind"].as_str().unwrap_or_default()) {
            object["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
        }
        objects.push(object);
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_stays_as_it_is_but_for_a_given_image() {
        let (mut ours, example) = (
            example(Some("mine:1".into())).unwrap(),
            example(None).unwrap(),
        );

        let image = |objects: &[Value]| {
            objects[0]["spec"]["template"]["spec"]["containers"][0]["image"].clone()
        };
        assert_eq!(image(&ours), "mine:1");
        ours[0]["spec"]["template"]["spec"]["containers"][0]["image"] = image(&example);
        assert_eq!(ours, example);
    }

    #[test]
    fn it_is_where_the_examples_say() {
        let objects = example(None).unwrap();
        assert!(
            objects
                .iter()
                .all(|object| object["metadata"]["namespace"] == STORE)
        );
        let provider = include_str!("../../docs/examples/minio-provider.yaml");
        assert!(provider.contains(&format!("endpoint: {ENDPOINT}\n")));
    }
}
