//! The operator's processes log all that they can while users come and go and much goes wrong: none of
//! the secrets that were around is in any log, nor anywhere in the API but where secrets are kept. Alone
//! in its binary: the processes are started anew for it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests"
)]

#[path = "control_plane/forge.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod forge;
#[path = "control_plane/hub.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod hub;
#[path = "control_plane/replicas.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod replicas;

use forge::{Forge, claims};
use hub::{Hub, failed, said, token_of};
use hubstorage_e2e::{HostPod, MinioUser, Platform, giving_back};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::ListParams;
use replicas::{POD, replicas};
use serde_json::{Value, json};

/// In the order in which they are started.
const PROCESSES: [&str; 4] = ["controller", "serve-1", "serve-2", "agent"];

/// Where keys are kept, and nobody is told of them.
const OF_KEYS: [&str; 2] = ["hubstorage-system", "hubstorage-vending"];

const ASK: &str = "
import boto3, json
key = boto3.Session().get_credentials().get_frozen_credentials()
print(json.dumps([key.access_key, key.secret_key, key.token]))";

/// What must not be found, each with what it is.
#[derive(Default)]
struct Secrets(Vec<(String, String)>);

impl Secrets {
    fn add(&mut self, what: &str, secret: &str) {
        let secret = secret.trim();
        assert!(secret.len() >= 16, "{what} is found anywhere: too short");
        self.0.push((what.to_owned(), secret.to_owned()));
    }

    /// A token, and its signature by itself: without it the rest is worth nothing.
    fn add_token(&mut self, whose: &str, token: &str) {
        self.add(&format!("the token of {whose}"), token);
        if let Some((_, signature)) = token.trim().rsplit_once('.')
            && !signature.is_empty()
        {
            self.add(&format!("the signature of the token of {whose}"), signature);
        }
    }

    /// Secret access key and session token of a pod's credentials; gives the access key id, which is no
    /// secret and stands in the audit line.
    async fn add_credentials(&mut self, pod: &HostPod) -> String {
        let keys = said(pod, ASK).await;
        let keys: [String; 3] = serde_json::from_str(&keys).unwrap();
        let [id, secret, session] = keys;
        self.add(&format!("the secret key of {}", pod.name()), &secret);
        self.add(&format!("the session token of {}", pod.name()), &session);
        id
    }

    #[track_caller]
    fn assert_absent(&self, place: &str, text: &str) {
        for (what, secret) in &self.0 {
            assert!(!text.contains(secret), "{what} is in {place}");
        }
    }
}

async fn restart(platform: &Platform, level: Option<&str>) {
    let stopping = PROCESSES.map(|process| platform.stop(process));
    futures::future::try_join_all(stopping).await.unwrap();
    for process in PROCESSES {
        let e2e = env!("CARGO_BIN_EXE_e2e");
        platform.start_logging(e2e, process, level).await.unwrap();
    }
}

/// Users get credentials, are refused, suspended and served again; keys are wrong and taken away.
async fn story(hub: &Hub, secrets: &mut Secrets) -> Vec<String> {
    hub.until_ready().await;
    let (alice, bob) = (hub.pod("alice", "alice").await, hub.pod("bob", "bob").await);
    hub.until("the first credential", async || {
        alice.python(ASK).await.is_ok()
    })
    .await;
    let ids = vec![
        secrets.add_credentials(&alice).await,
        secrets.add_credentials(&bob).await,
    ];

    // Tokens that are no good, or used where they should not be.
    let good = token_of(&alice);
    secrets.add_token("alice", &good);
    secrets.add_token("bob", &token_of(&bob));
    let forge = Forge::of_the_api_server(&hub.platform).await;
    let mut others = claims(&good);
    others["aud"] = json!(["vault"]);
    let mut nobodys = claims(&good);
    nobodys["kubernetes.io"]["pod"]["uid"] = json!("00000000-0000-4000-8000-000000000000");
    let bad = [
        ("another audience", forge.sign(&others)),
        ("nobody", forge.sign(&nobodys)),
        ("a forger", forge.with_another_key().sign(&claims(&good))),
        (
            "nobody at all",
            "this-is-not-a-token-but-could-be-a-password".to_owned(),
        ),
        ("one who is lengthy", "x1y2z3".repeat(2000)),
    ];
    for (whose, token) in &bad {
        secrets.add_token(whose, token);
        for replica in replicas(&hub.platform) {
            assert_ne!(replica.ask(token, POD).await.status, 200, "{whose}");
        }
        // And through the agent.
        let file = alice.token_path("hubstorage.io").unwrap();
        let wrong = format!("{}-wrong", file.display());
        std::fs::write(&wrong, token).unwrap();
        let asking = format!(
            "import os; os.environ['AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE'] = {wrong:?}\n{ASK}"
        );
        failed(&alice, &asking).await;
    }
    let stolen = std::net::Ipv4Addr::new(10, 9, 8, 7);
    for replica in replicas(&hub.platform) {
        assert_eq!(replica.ask(&good, stolen).await.code(), "PodElsewhere");
    }

    // A user is suspended, and a pod deleted.
    let user = hub.get(&["hu", "--field-selector=spec.username=alice", "-o=name"]);
    let user = user.await;
    let set_access = async |access: &str| {
        let patch = format!(r#"{{"spec":{{"access":"{access}"}}}}"#);
        let arguments = ["patch", user.trim(), "--type=merge", "-p", &patch];
        hub.kubectl(&[&["-n", &hub.namespace], &arguments[..]].concat())
            .await;
    };
    set_access("Suspended").await;
    hub.until("the refusal", async || alice.python(ASK).await.is_err())
        .await;
    set_access("Active").await;
    bob.delete().await.unwrap();

    // Keys that the store does not know, of either side.
    let provider = format!("hsp/{}", hub.namespace);
    let wrong = "0123456789abcdef0123456789abcdef-wrong";
    secrets.add("a key that the store does not know", wrong);
    keys(hub, "hubstorage-system", "nobody", wrong).await;
    hub.until_condition(&provider, "Stalled", "True", "CredentialsRejected")
        .await;
    keys(hub, "hubstorage-vending", "nobody", wrong).await;
    hub.until_condition("hs/hub", "IsolationReady", "Unknown", "ProbeInconclusive")
        .await;
    right_keys(hub).await;
    hub.until_condition(&provider, "Ready", "True", "Ready")
        .await;
    hub.until("credentials of the right keys", async || {
        alice.python(ASK).await.is_ok()
    })
    .await;
    secrets.add_credentials(&alice).await;
    ids
}

/// The Secret of this test, with these keys in it.
async fn keys(hub: &Hub, namespace: &str, id: &str, secret: &str) {
    hub.apply(&json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": hub.namespace, "namespace": namespace},
        "stringData": {"AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": secret},
    }))
    .await;
}

async fn right_keys(hub: &Hub) {
    for (namespace, user) in OF_KEYS
        .into_iter()
        .zip([MinioUser::Manage, MinioUser::Vend])
    {
        let key = hub.platform.minio_key(user).unwrap();
        keys(hub, namespace, &key.id, &key.secret).await;
    }
}

/// Every object of every kind that can be listed, but Secrets.
async fn objects(platform: &Platform) -> Vec<(String, String)> {
    let kinds = ["api-resources", "--verbs=list", "--output=name"];
    let kinds = platform.kubectl_prints(&kinds).await.unwrap();
    let mut objects = Vec::new();
    for kind in kinds.lines().filter(|kind| *kind != "secrets") {
        let all = [
            "get",
            kind,
            "--all-namespaces",
            "--show-managed-fields",
            "-o=json",
        ];
        objects.push((
            kind.to_owned(),
            platform.kubectl_prints(&all).await.unwrap(),
        ));
    }
    objects
}

/// What stands in Secrets outside the two namespaces with keys.
async fn secrets_elsewhere(platform: &Platform) -> Vec<(String, String)> {
    let all: Api<Secret> = Api::all(platform.client().await.unwrap());
    let all = all.list(&ListParams::default()).await.unwrap();
    let elsewhere = all.items.into_iter().filter(|secret| {
        let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
        !OF_KEYS.contains(&namespace)
    });
    elsewhere
        .flat_map(|secret| {
            let name = secret.metadata.name.clone().unwrap_or_default();
            let entries = secret.data.into_iter().flatten();
            entries
                .map(move |(_, value)| {
                    (
                        format!("Secret {name}"),
                        String::from_utf8_lossy(&value.0).into_owned(),
                    )
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

#[tokio::test]
async fn no_secret_is_in_any_log_at_any_level_nor_in_the_api() {
    let hub = Hub::namespace("logs").await;
    right_keys(&hub).await;
    let mut provider = hub.provider();
    for side in ["/spec/s3/credentials", "/spec/s3/vending/credentials"] {
        provider.pointer_mut(side).unwrap()["secretRef"]["name"] = json!(hub.namespace);
    }
    hub.apply(&provider).await;
    hub.apply(&hub.storage()).await;
    let platform = &hub.platform;
    let mut secrets = Secrets::default();
    for user in [MinioUser::Manage, MinioUser::Vend] {
        let key = platform.minio_key(user).unwrap();
        secrets.add(&format!("the key of {}", key.id), &key.secret);
    }
    for process in ["controller", "serve"] {
        let token = platform.checkout.run(&format!("operator/{process}.token"));
        let token = &std::fs::read_to_string(token).unwrap();
        secrets.add_token(process, token);
    }

    let loud = async {
        restart(platform, Some("trace")).await;
        story(&hub, &mut secrets).await
    };
    let ids = giving_back(loud, restart(platform, None)).await;

    let logs = platform.checkout.run("logs");
    let (mut told, mut loud) = (String::new(), Vec::new());
    for file in std::fs::read_dir(logs).unwrap() {
        let file = file.unwrap().path();
        let log = std::fs::read(&file).unwrap();
        let log = String::from_utf8_lossy(&log);
        let name = file.file_stem().unwrap().to_str().unwrap();
        secrets.assert_absent(&format!("the log of {name}"), &log);
        if PROCESSES.contains(&name) {
            told.push_str(&log);
        }
        if log.contains(r#""level":"DEBUG""#) {
            loud.push(name.to_owned());
        }
    }
    // The controller has nothing of its own to tell at this level, and of the two replicas one probes.
    let is_loud = |process: &str| loud.iter().any(|name| name.starts_with(process));
    assert!(
        is_loud("agent") && is_loud("serve"),
        "only {loud:?} was loud"
    );
    each_vend_is_told(&told, &ids);
    for process in PROCESSES {
        let metrics = format!("{}/metrics", platform.health_endpoint(process).unwrap());
        let metrics = hubstorage_e2e::http::get(&metrics, None).await.unwrap();
        secrets.assert_absent(&format!("the metrics of {process}"), &metrics);
    }
    let elsewhere = secrets_elsewhere(platform).await;
    for (place, text) in objects(platform).await.iter().chain(&elsewhere) {
        secrets.assert_absent(place, text);
        for id in &ids {
            assert!(!text.contains(id), "an access key id is in {place}");
        }
    }
    for namespace in OF_KEYS {
        hub.kubectl(&["delete", "secret", &hub.namespace, "-n", namespace])
            .await;
    }
    hub.remove().await;
}

/// Who got which credential, in one line each.
fn each_vend_is_told(log: &str, ids: &[String]) {
    for id in ids {
        let line = log.lines().find(|line| line.contains(id));
        let line: Value = serde_json::from_str(line.unwrap()).unwrap();
        assert_eq!(line["message"], "vended", "{line}");
        for field in ["user", "prefix", "pod_uid", "policy", "expires"] {
            assert!(line[field].is_string(), "{field} in {line}");
        }
    }
}
