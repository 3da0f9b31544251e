//! Tier 4: the certificate authority is succeeded while everybody serves.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use hubstorage_core::api::{
    AGENTS_NAMESPACE, STAMP_ANNOTATION, SYSTEM_NAMESPACE, USERNAME_ANNOTATION,
};
use hubstorage_e2e::{Platform, giving_back, wait};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, date_time_ymd};
use serde_json::json;

/// Bounds a hang; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reviews in a row that have to be answered: the forwarder gives them to both replicas in turn.
const REVIEWS: usize = 8;

type Data = BTreeMap<String, ByteString>;

/// An authority with more than two thirds of its life behind it.
fn aged(name: &str) -> (String, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(2032, 1, 1);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn text(data: &Data, key: &str) -> String {
    data.get(key)
        .map(|value| String::from_utf8(value.0.clone()).unwrap())
        .unwrap_or_default()
}

struct Cluster {
    client: Client,
}

impl Cluster {
    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE)
    }

    async fn secret(&self) -> Data {
        self.secrets()
            .get("hubstorage-ca")
            .await
            .unwrap()
            .data
            .unwrap_or_default()
    }

    /// Puts `data` in the place of all that is in the Secret.
    async fn write(&self, data: &Data) {
        let mut secret = self.secrets().get("hubstorage-ca").await.unwrap();
        secret.data = Some(data.clone());
        self.secrets()
            .replace("hubstorage-ca", &PostParams::default(), &secret)
            .await
            .unwrap();
    }

    async fn with(&self, pairs: &[(&str, &str)]) {
        let data: BTreeMap<_, _> = pairs
            .iter()
            .map(|(key, value)| (*key, ByteString(value.as_bytes().to_vec())))
            .collect();
        let patch = Patch::Merge(json!({"data": data}));
        self.secrets()
            .patch("hubstorage-ca", &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    /// What agents trust, and what the API server trusts.
    async fn bundles(&self) -> (String, String) {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), AGENTS_NAMESPACE);
        let map = maps.get("hubstorage-ca").await.unwrap();
        let webhooks: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let webhooks = webhooks.get("hubstorage").await.unwrap().webhooks.unwrap();
        let registered = webhooks[0].client_config.ca_bundle.clone().unwrap();
        (
            map.data.unwrap()["ca.crt"].clone(),
            String::from_utf8(registered.0).unwrap(),
        )
    }

    /// Whether the API server reaches both replicas: only the webhook stamps a pod.
    async fn stamps(&self) -> bool {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), "default");
        let pod = json!({
            "metadata": {"name": "certificates", "annotations": {USERNAME_ANNOTATION: "bob"}},
            "spec": {"containers": [{"name": "notebook", "image": "notebook"}]},
        });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        for _ in 0..REVIEWS {
            let admitted = pods.create(&dry_run, &pod).await.unwrap();
            if !admitted
                .metadata
                .annotations
                .unwrap()
                .contains_key(STAMP_ANNOTATION)
            {
                return false;
            }
        }
        true
    }

    async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        wait::until(what, PATIENCE, async || Ok(holds().await))
            .await
            .unwrap();
    }

    async fn is_trusted(&self, certificates: &[&str]) -> bool {
        let (agents, api_server) = self.bundles().await;
        agents == api_server && certificates.iter().all(|one| agents.contains(one.trim()))
    }
}

#[tokio::test]
async fn an_authority_that_grows_old_is_succeeded_in_two_steps_and_both_replicas_follow() {
    let client = Platform::load().unwrap().client().await.unwrap();
    let cluster = Cluster { client };
    let original = cluster.secret().await;
    cluster
        .until("the webhook", async || cluster.stamps().await)
        .await;

    giving_back(succeed(&cluster), async {
        // The agent of the platform trusts what it was started with.
        cluster.write(&original).await;
        let authority = text(&original, "ca.crt");
        cluster
            .until("the original bundle", async || {
                cluster.is_trusted(&[&authority]).await
            })
            .await;
        cluster
            .until("the webhook", async || cluster.stamps().await)
            .await;
    })
    .await;
}

async fn succeed(cluster: &Cluster) {
    let (old, old_key) = aged("old");
    let signing = [("ca.crt", old.as_str()), ("ca.key", old_key.as_str())];
    let data = signing.map(|(key, value)| (key.to_owned(), ByteString(value.as_bytes().to_vec())));
    cluster.write(&data.into()).await;

    // First step: a successor that is trusted, while the old one still signs.
    cluster
        .until("a successor", async || {
            cluster.secret().await.contains_key("next.crt")
        })
        .await;
    let staged = cluster.secret().await;
    assert_eq!(text(&staged, "ca.crt"), old);
    let successor = text(&staged, "next.crt");
    cluster
        .until("trust in both", async || {
            cluster.is_trusted(&[&old, &successor]).await
        })
        .await;
    cluster
        .until("the webhook", async || cluster.stamps().await)
        .await;

    // Second step, an hour later: here for a successor that is older than that.
    let (new, new_key) = aged("new");
    cluster
        .with(&[("next.crt", &new), ("next.key", &new_key)])
        .await;
    cluster
        .until("the succession", async || {
            text(&cluster.secret().await, "ca.crt") == new
        })
        .await;
    assert_eq!(text(&cluster.secret().await, "previous.crt"), old);
    cluster
        .until("trust in both", async || {
            cluster.is_trusted(&[&old, &new]).await
        })
        .await;
    cluster
        .until("the webhook", async || cluster.stamps().await)
        .await;
}
