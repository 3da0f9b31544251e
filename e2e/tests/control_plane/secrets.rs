//! Keys in Secrets: they take effect as soon as they are there, and stop as soon as they are not.

use hubstorage_e2e::{AccessKey, MinioUser};
use serde_json::{Value, json};

use crate::hub::{Hub, failed, said};

const ASK: &str =
    "import boto3; print(boto3.Session().get_credentials().get_frozen_credentials().access_key)";

/// A Secret of one test, named after its namespace.
struct Keys<'h> {
    hub: &'h Hub,
    namespace: &'static str,
}

impl Keys<'_> {
    async fn are(&self, key: &AccessKey) {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": self.hub.namespace, "namespace": self.namespace},
            "stringData": {"AWS_ACCESS_KEY_ID": key.id, "AWS_SECRET_ACCESS_KEY": key.secret},
        });
        self.hub.apply(&secret).await;
    }

    /// The right ones of a user of the store, and wrong ones.
    async fn are_of(&self, user: MinioUser) {
        self.are(&self.hub.platform.minio_key(user).unwrap()).await;
    }

    async fn are_wrong(&self) {
        let nobody = AccessKey {
            id: "nobody".to_owned(),
            secret: "not-a-secret".to_owned(),
        };
        self.are(&nobody).await;
    }

    async fn are_gone(&self) {
        let name = &self.hub.namespace;
        self.hub
            .kubectl(&["delete", "secret", name, "-n", self.namespace])
            .await;
    }
}

/// The provider of a test, which looks at nothing by itself within the hour.
fn patient(hub: &Hub) -> Value {
    let mut provider = hub.provider();
    provider["spec"]["driftCheckInterval"] = json!("1h");
    provider
}

#[tokio::test]
async fn managing_keys_take_effect_when_their_secret_appears_and_whenever_it_changes() {
    let hub = Hub::namespace("managing").await;
    let keys = Keys {
        hub: &hub,
        namespace: "hubstorage-system",
    };
    let itself = format!("hsp/{}", hub.namespace);
    let mut provider = patient(&hub);
    provider["spec"]["s3"]["credentials"]["secretRef"]["name"] = json!(hub.namespace);
    hub.apply(&provider).await;
    hub.apply(&hub.storage()).await;
    hub.until_condition(&itself, "Stalled", "True", "CredentialsMissing")
        .await;

    keys.are_of(MinioUser::Manage).await;
    hub.until_ready().await;

    keys.are_wrong().await;
    hub.until_condition(&itself, "Stalled", "True", "CredentialsRejected")
        .await;

    keys.are_of(MinioUser::Manage).await;
    hub.until_condition(&itself, "Ready", "True", "Ready").await;
    hub.until_ready().await;

    keys.are_gone().await;
    hub.until_condition(&itself, "Stalled", "True", "CredentialsMissing")
        .await;
    hub.remove().await;
}

#[tokio::test]
async fn former_vending_keys_vend_nothing_from_the_moment_that_they_are_changed() {
    let hub = Hub::namespace("rotated").await;
    let keys = Keys {
        hub: &hub,
        namespace: "hubstorage-vending",
    };
    keys.are_of(MinioUser::Vend).await;
    let mut provider = patient(&hub);
    provider["spec"]["s3"]["vending"]["credentials"]["secretRef"]["name"] = json!(hub.namespace);
    hub.apply(&provider).await;
    hub.apply(&hub.storage()).await;
    hub.until_ready().await;
    let alice = hub.pod("alice", "alice").await;
    hub.until("the first credential", async || {
        alice.python(ASK).await.is_ok()
    })
    .await;
    let former = said(&alice, ASK).await;

    keys.are_wrong().await;

    // Both replicas have a cache with her credential.
    hub.until_condition("hs/hub", "IsolationReady", "Unknown", "ProbeInconclusive")
        .await;
    for _ in 0..4 {
        let error = failed(&alice, ASK).await;
        assert!(error.contains("NothingVendable"), "{error}");
    }

    keys.are_of(MinioUser::Vend).await;
    hub.until("credentials of the new keys", async || {
        alice.python(ASK).await.is_ok()
    })
    .await;
    assert_ne!(said(&alice, ASK).await, former);
    keys.are_gone().await;
    hub.remove().await;
}
