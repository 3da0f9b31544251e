//! What Flux, Argo CD and `kubectl wait` make of a hub, each by the library that it uses itself.

use hubstorage_e2e::commands::{printed, run_with_input};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::hub::Hub;

/// A hub, and the health check of docs/examples.
struct Seen {
    hub: Hub,
    script: String,
}

impl Seen {
    fn new(hub: Hub) -> Self {
        let path = hub.platform.checkout.path("docs/examples/argocd-cm.yaml");
        let example: Value = serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let check = |kind: &str| {
            let key = format!("resource.customizations.health.hubstorage.io_{kind}");
            example["data"][key].as_str().unwrap().to_owned()
        };
        let script = check("HubStorage");
        assert_eq!(check("StorageProvider"), script);
        Self { hub, script }
    }

    /// What Flux waits for, and what Argo CD shows with which words.
    async fn as_is(&self, object: &Value) -> (String, String, String) {
        let flux = self.told(object, &["kstatus"]).await;
        let argo = self.told(object, &["health", &self.script]).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (
            text(&flux["status"]),
            text(&argo["status"]),
            text(&argo["message"]),
        )
    }

    async fn told(&self, object: &Value, arguments: &[&str]) -> Value {
        let mut gitops = Command::new(self.hub.platform.checkout.run("bin/gitops"));
        gitops.args(arguments);
        let output = run_with_input(gitops, object.to_string().as_bytes()).await;
        serde_json::from_str(&printed(&output.unwrap(), "gitops").unwrap()).unwrap()
    }

    /// Both see this of an object, and Argo CD says why.
    async fn is(&self, object: &Value, flux: &str, argo: &str, why: &str) {
        let (by_flux, by_argo, message) = self.as_is(object).await;
        assert_eq!(
            (by_flux.as_str(), by_argo.as_str()),
            (flux, argo),
            "{object}"
        );
        assert!(message.contains(why), "{why:?} is not said: {message}");
    }

    async fn hub_is(&self, flux: &str, argo: &str, why: &str) {
        self.is(&self.hub.current().await, flux, argo, why).await;
        let wait = [
            "wait",
            "--for=condition=Ready",
            "--timeout=0",
            "-n",
            &self.hub.namespace,
            "hs/hub",
        ];
        let waited = self.hub.platform.kubectl(wait).await.unwrap();
        assert_eq!(waited.status.success(), flux == "Current", "{waited:?}");
    }
}

#[tokio::test]
async fn flux_and_argo_cd_tell_who_has_to_do_something() {
    let seen = Seen::new(Hub::namespace("gitops").await);
    let hub = &seen.hub;

    // As the API server has it before the operator has seen it.
    let mut unseen = hub.storage();
    unseen["metadata"]["generation"] = json!(1);
    unseen["status"] = json!({"observedGeneration": -1});
    seen.is(&unseen, "InProgress", "Progressing", "not looked at")
        .await;

    hub.apply(&hub.storage()).await;
    hub.until_condition("hs/hub", "Stalled", "True", "ProviderNotFound")
        .await;
    seen.hub_is("Failed", "Degraded", "spec.providerRef.name")
        .await;
    let mut storage = hub.storage();
    storage["spec"]["mode"] = json!("Paused");
    hub.apply(&storage).await;
    hub.until_condition("hs/hub", "Stalled", "True", "Paused")
        .await;
    seen.hub_is("Failed", "Suspended", "nothing is put right")
        .await;
    hub.apply(&hub.storage()).await;
    hub.until_condition("hs/hub", "Stalled", "True", "ProviderNotFound")
        .await;
    seen.hub_is("Failed", "Degraded", "spec.providerRef.name")
        .await;

    let mut unreachable = hub.provider();
    unreachable["spec"]["s3"]["endpoint"] = json!("http://127.0.0.1:9");
    hub.apply(&unreachable).await;
    hub.until_condition("hs/hub", "Reconciling", "True", "ProviderNotReady")
        .await;
    seen.hub_is("InProgress", "Progressing", &hub.namespace)
        .await;

    hub.apply(&hub.provider()).await;
    hub.until_ready().await;
    seen.hub_is("Current", "Healthy", "as declared").await;
    let mut edited = hub.current().await;
    let generation = edited["metadata"]["generation"].as_i64().unwrap();
    edited["metadata"]["generation"] = json!(generation + 1);
    seen.is(&edited, "InProgress", "Progressing", "not looked at")
        .await;
    let provider = hub.get(&["hsp", &hub.namespace, "-o=json"]).await;
    let provider = serde_json::from_str(&provider).unwrap();
    seen.is(&provider, "Current", "Healthy", "").await;

    let mut storage = hub.storage();
    storage["spec"]["mode"] = json!("Paused");
    hub.apply(&storage).await;
    hub.until_condition("hs/hub", "Ready", "True", "Paused")
        .await;
    seen.hub_is("Current", "Suspended", "nothing is put right")
        .await;

    storage["spec"]["mode"] = json!("Observe");
    storage["spec"]["buckets"][0]["lifecycle"]["expireAfterDays"] = json!(3);
    hub.apply(&storage).await;
    hub.until_condition("hs/hub", "Stalled", "True", "Observing")
        .await;
    seen.hub_is("Failed", "Suspended", "status.plan").await;
    seen.hub.remove().await;
}

#[tokio::test]
async fn what_was_applied_does_not_differ_from_what_the_api_server_made_of_it() {
    let hub = Hub::ready("diff").await;
    // As Argo CD compares with ServerSideDiff, and Flux before each apply.
    for object in [hub.provider(), hub.storage()] {
        let diff = ["diff", "--server-side", "-f", "-"];
        let output = hub
            .platform
            .kubectl_with_input(diff, &object.to_string())
            .await
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
    hub.remove().await;
}
