//! Tier 4: pods are created without a pause while the certificate authority is succeeded, and every
//! one of them passes the webhook.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use hubstorage_core::api::{STAMP_ANNOTATION, SYSTEM_NAMESPACE, USERNAME_ANNOTATION};
use hubstorage_e2e::{Platform, giving_back};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use serde_json::json;

/// Bounds a hang; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Creators at a time: more connections than one, and both replicas behind them.
const CREATORS: usize = 4;

/// Pods that are still to come when the successor signs: the API server opens connections anew now
/// and then, and both replicas have to show what it trusts.
const AFTERWARDS: usize = 400;

/// How long a successor is only trusted: an hour, and five minutes more for clocks that differ.
const STAGING: Duration = Duration::from_secs(65 * 60);

/// How long the successor of this test is still staged when it is put there: enough for its
/// publication, which in a cluster has the hour.
const REST: Duration = Duration::from_secs(20);

type Data = BTreeMap<String, ByteString>;

/// An authority whose staging ends soon.
fn successor() -> (String, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let name = "HubStorage successor";
    params.distinguished_name.push(DnType::CommonName, name);
    let from = SystemTime::now() - STAGING + REST;
    params.not_before = from.into();
    params.not_after = (from + Duration::from_secs(300 * 86_400)).into();
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn text(data: &Data, key: &str) -> String {
    let value = data.get(key).map(|value| value.0.clone());
    String::from_utf8(value.unwrap_or_default()).unwrap()
}

struct Cluster {
    client: Client,
    secrets: Api<Secret>,
}

impl Cluster {
    async fn authority(&self) -> Data {
        let secret = self.secrets.get("hubstorage-ca").await.unwrap();
        secret.data.unwrap_or_default()
    }

    /// Changes the Secret with the authority, which also makes the controller look at it.
    async fn patch(&self, patch: serde_json::Value) {
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        let patched = self.secrets.patch("hubstorage-ca", &params, &patch);
        patched.await.unwrap();
    }

    /// What the API server trusts.
    async fn trusted(&self) -> String {
        let webhooks: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let webhooks = webhooks.get("hubstorage").await.unwrap().webhooks.unwrap();
        let bundle = webhooks[0].client_config.ca_bundle.clone().unwrap();
        String::from_utf8(bundle.0).unwrap()
    }

    async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let began = Instant::now();
        while !holds().await {
            assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// The succession, as it happens over months and an hour.
    async fn succeed(&self, original: &Data, pods: &Pods) {
        let (certificate, key) = successor();
        let base64 = |text: &str| json!(ByteString(text.as_bytes().to_vec()));
        self.patch(json!({"data": {"next.crt": base64(&certificate), "next.key": base64(&key)}}))
            .await;
        self.until("trust in the successor", async || {
            self.trusted().await.contains(certificate.trim())
        })
        .await;
        assert_eq!(
            text(&self.authority().await, "ca.crt"),
            text(original, "ca.crt"),
            "it was published only when it signed already: a rest of {REST:?} is too short here"
        );
        let looks = std::cell::Cell::new(0);
        self.until("the successor to sign", async || {
            looks.set(looks.get() + 1);
            let look = looks.get().to_string();
            self.patch(json!({"metadata": {"annotations": {"test/look": look}}}))
                .await;
            text(&self.authority().await, "ca.crt") == certificate
        })
        .await;
        self.until("the bundle that begins with it", async || {
            self.trusted().await.starts_with(certificate.trim())
        })
        .await;
        let before = pods.made.load(Ordering::Relaxed);
        self.until("pods that came after it", async || {
            pods.made.load(Ordering::Relaxed) >= before + AFTERWARDS
        })
        .await;
    }
}

/// Pods that are asked for.
#[derive(Debug, Default)]
struct Pods {
    made: AtomicUsize,
    unseen: AtomicUsize,
    enough: AtomicBool,
}

impl Pods {
    /// Asks for pods until there are enough, without keeping them: the webhook is asked all the
    /// same.
    async fn create(&self, api: Api<Pod>) {
        let pod = json!({
            "metadata": {"name": "rotation", "annotations": {USERNAME_ANNOTATION: "bob"}},
            "spec": {"containers": [{"name": "notebook", "image": "notebook"}]},
        });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        while !self.enough.load(Ordering::Relaxed) {
            let admitted = api.create(&dry_run, &pod).await.unwrap();
            let annotations = admitted.metadata.annotations.unwrap_or_default();
            if !annotations.contains_key(STAMP_ANNOTATION) {
                self.unseen.fetch_add(1, Ordering::Relaxed);
            }
            self.made.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test]
async fn every_pod_that_is_created_during_a_succession_passes_the_webhook() {
    let client = Platform::load().unwrap().client().await.unwrap();
    let cluster = Cluster {
        secrets: Api::namespaced(client.clone(), SYSTEM_NAMESPACE),
        client: client.clone(),
    };
    let api: Api<Pod> = Api::namespaced(client, "default");
    let (original, trusted) = (cluster.authority().await, cluster.trusted().await);
    let pods = Pods::default();

    let creators = (0..CREATORS).map(|_| pods.create(api.clone()));
    let rotation = async {
        cluster.succeed(&original, &pods).await;
        pods.enough.store(true, Ordering::Relaxed);
    };
    // A panic of either ends both.
    let both = async { tokio::join!(futures::future::join_all(creators), rotation) };
    giving_back(both, async {
        // The agent of the platform trusts what it was started with.
        let mut secret = cluster.secrets.get("hubstorage-ca").await.unwrap();
        secret.data = Some(original.clone());
        let params = PostParams::default();
        let replaced = cluster.secrets.replace("hubstorage-ca", &params, &secret);
        replaced.await.unwrap();
        cluster
            .until("the original bundle", async || {
                cluster.trusted().await == trusted
            })
            .await;
    })
    .await;

    assert_eq!(pods.unseen.into_inner(), 0, "of {:?} pods", pods.made);
}
