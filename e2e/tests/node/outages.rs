//! Parts of the operator are missing, in each of the ways in which a part can be: both hubs start
//! servers all the same, and what was missing arrives by itself.

use std::net::SocketAddr;
use std::sync::Arc;

use hubstorage_core::api::SYSTEM_NAMESPACE;
use hubstorage_e2e::components::hub::{self, HUB, OLD_HUB};
use hubstorage_e2e::extent::NODE_ADDRESS;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use rcgen::{CertificateParams, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::cluster::{Cluster, WRITE};

const SERVE: &str = "deployment/hubstorage-serve";
const AGENT: &str = "daemonset/hubstorage-agent";
const AGENTS: &str = "hubstorage-agents";
const WEBHOOK: &str = "mutatingwebhookconfiguration/hubstorage";

/// Starts a server on both hubs, as their users do, and says whether it got its environment. The hub
/// must not have made its pod twice.
async fn both_hubs_start_servers(cluster: &Cluster, user: &str, injected: bool) {
    on_both(async |hub| {
        let pod = cluster.server(&hub, user).await;

        let made = times_made(cluster, &hub, &pod).await;
        assert_eq!(made, 1, "{}: {pod}", hub.name);
        let env = variables(cluster, &hub, &pod).await;
        assert_eq!(
            env.contains("SCRATCH_BUCKET"),
            injected,
            "{}: {env}",
            hub.name
        );
    })
    .await;
}

/// The same for both hubs, at the same time.
async fn on_both(work: impl AsyncFn(hub::Hub)) {
    tokio::join!(work(HUB), work(OLD_HUB));
}

/// The names of the variables that the pod's first container was given.
async fn variables(cluster: &Cluster, hub: &hub::Hub, pod: &str) -> String {
    let names = "-o=jsonpath={.spec.containers[0].env[*].name}";
    cluster.get(&["pod", "-n", hub.namespace, pod, names]).await
}

/// How often a pod of this name was given to a node in this test.
async fn times_made(cluster: &Cluster, hub: &hub::Hub, pod: &str) -> usize {
    let of_pod = format!("--field-selector=involvedObject.name={pod},reason=Scheduled");
    let events = ["events", "-n", hub.namespace, &of_pod, "-o=name"];
    cluster.get(&events).await.lines().count()
}

/// Without events of earlier servers of the same name.
async fn forget_events(cluster: &Cluster) {
    on_both(async |hub| {
        // Some are written again while kubectl waits for them to be gone.
        let all = [
            "delete",
            "events",
            "--all",
            "--wait=false",
            "-n",
            hub.namespace,
        ];
        cluster.kubectl(&all).await;
    })
    .await;
}

/// After an outage in which pods came out without their environment: they are started anew, and
/// those from before the outage have storage without that.
async fn webhook_is_back(cluster: &Cluster, before: &str, during: &str) {
    let done = [
        "rollout",
        "status",
        "-n",
        SYSTEM_NAMESPACE,
        SERVE,
        "--timeout=120s",
    ];
    cluster.kubectl(&done).await;
    on_both(async |hub| {
        cluster.has_storage(&hub, before).await;
        cluster
            .until("a pod with its environment", async || {
                let pod = cluster.server(&hub, during).await;
                variables(cluster, &hub, &pod)
                    .await
                    .contains("SCRATCH_BUCKET")
            })
            .await;
        cluster.has_storage(&hub, during).await;
        for user in [before, during] {
            cluster.hub(&hub).stop(user).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn with_serve_scaled_to_zero_servers_start_and_running_ones_get_credentials_when_it_is_back()
{
    let cluster = Cluster::enter().await;
    forget_events(&cluster).await;
    both_hubs_start_servers(&cluster, "early", true).await;
    let scale = async |replicas: &str| {
        let replicas = format!("--replicas={replicas}");
        cluster
            .kubectl(&["scale", "-n", SYSTEM_NAMESPACE, SERVE, &replicas])
            .await;
    };

    cluster
        .without(
            async {
                scale("0").await;
                cluster
                    .until("serve to be gone", async || {
                        let pods = [
                            "pods",
                            "-n",
                            SYSTEM_NAMESPACE,
                            "-l=app.kubernetes.io/name=hubstorage-serve",
                            "-o=name",
                        ];
                        cluster.get(&pods).await.is_empty()
                    })
                    .await;
            },
            async {
                both_hubs_start_servers(&cluster, "late", false).await;
                have_no_credentials(&cluster, "early").await;
                let reasons = ["WebhookUnavailable", "NotInjected"];
                it_is_said_what_is_missing(&cluster, &reasons).await;
                pods_are_marked(&cluster, "late").await;
            },
            scale("2"),
        )
        .await;

    webhook_is_back(&cluster, "early", "late").await;
}

#[tokio::test]
async fn with_serve_in_a_black_hole_servers_start_within_the_hubs_own_time_outs() {
    let cluster = Cluster::enter().await;
    forget_events(&cluster).await;
    both_hubs_start_servers(&cluster, "early", true).await;

    cluster
        .without(
            // After the address of the Service has become that of a pod.
            nft(
                &cluster,
                "add table ip hubstorage-e2e; \
                 add chain ip hubstorage-e2e hole { type filter hook output priority 10; }; \
                 add rule ip hubstorage-e2e hole ip daddr 10.244.0.0/24 tcp dport { 8443, 8444 } drop",
            ),
            servers_are_marked(&cluster),
            nft(&cluster, "delete table ip hubstorage-e2e"),
        )
        .await;

    webhook_is_back(&cluster, "early", "late").await;
}

async fn nft(cluster: &Cluster, rules: &str) {
    let nft = cluster.platform.checkout.run("bin/nft");
    let output = Command::new(nft).arg(rules).output().await.unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn with_the_webhooks_certificate_expired_servers_start() {
    let cluster = Cluster::enter().await;
    forget_events(&cluster).await;
    both_hubs_start_servers(&cluster, "early", true).await;
    let address = serve_expired(&cluster).await;
    let registered = cluster
        .get(&[WEBHOOK, "-o=jsonpath={.webhooks[0].clientConfig.service}"])
        .await;
    let service: serde_json::Value = serde_json::from_str(&registered).unwrap();
    let patch = async |patch: serde_json::Value| {
        cluster
            .kubectl(&["patch", WEBHOOK, "--type=json", "-p", &patch.to_string()])
            .await;
    };
    let at = "/webhooks/0/clientConfig";

    cluster
        .without(
            patch(json!([
                {"op": "remove", "path": format!("{at}/service")},
                {"op": "add", "path": format!("{at}/url"), "value": format!("https://{address}/admit/pods")},
            ])),
            servers_are_marked(&cluster),
            patch(json!([
                {"op": "remove", "path": format!("{at}/url")},
                {"op": "add", "path": format!("{at}/service"), "value": service},
            ])),
        )
        .await;

    webhook_is_back(&cluster, "early", "late").await;
}

/// A server whose certificate the cluster's own authority has signed, for a year long past.
async fn serve_expired(cluster: &Cluster) -> SocketAddr {
    let client = cluster.platform.client().await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(client, SYSTEM_NAMESPACE);
    let data = secrets.get("hubstorage-ca").await.unwrap().data.unwrap();
    let text = |key: &str| {
        let ByteString(bytes) = &data[key];
        String::from_utf8(bytes.clone()).unwrap()
    };
    let authority = KeyPair::from_pem(&text("ca.key")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&text("ca.crt"), authority).unwrap();
    let mut params = CertificateParams::new([NODE_ADDRESS.to_string()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();

    let chain = vec![CertificateDer::from_pem_slice(certificate.pem().as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let config = rustls::ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((NODE_ADDRESS, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // The API server breaks off in the handshake.
            let _ = acceptor.accept(stream).await;
        }
    });
    address
}

#[tokio::test]
async fn with_no_agent_on_the_node_servers_start_and_get_credentials_when_it_is_back() {
    let cluster = Cluster::enter().await;
    forget_events(&cluster).await;
    let select = async |value: serde_json::Value| {
        let patch = json!({"spec": {"template": {"spec": {"nodeSelector": {"e2e": value}}}}});
        cluster
            .kubectl(&["patch", "-n", AGENTS, AGENT, "-p", &patch.to_string()])
            .await;
    };

    cluster
        .without(
            async {
                select(json!("nowhere")).await;
                cluster
                    .until("the agent to be gone", async || {
                        cluster
                            .get(&["pods", "-n", AGENTS, "-o=name"])
                            .await
                            .is_empty()
                    })
                    .await;
            },
            servers_wait_for_credentials(&cluster),
            select(json!(null)),
        )
        .await;

    credentials_arrive(&cluster).await;
}

#[tokio::test]
async fn with_the_agent_crashing_servers_start_and_get_credentials_when_it_is_back() {
    let cluster = Cluster::enter().await;
    forget_events(&cluster).await;
    let args = "-o=jsonpath={.spec.template.spec.containers[0].args}";
    let args = cluster.get(&[AGENT, "-n", AGENTS, args]).await;
    let args: serde_json::Value = serde_json::from_str(&args).unwrap();
    let run = async |args: serde_json::Value| {
        let patch = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": args}]);
        let patch = patch.to_string();
        cluster
            .kubectl(&["patch", "-n", AGENTS, AGENT, "--type=json", "-p", &patch])
            .await;
    };

    cluster
        .without(
            async {
                run(json!(["--no-such-flag"])).await;
                // An upgrade to a version that does not work leaves the one that does: it has to be
                // taken away by hand.
                cluster
                    .until("the new agent to crash", async || {
                        let states =
                            "-o=jsonpath={.items[*].status.containerStatuses[*].restartCount}";
                        let restarts = cluster.get(&["pods", "-n", AGENTS, states]).await;
                        restarts.split_whitespace().any(|count| count != "0")
                    })
                    .await;
                let ready = "-o=jsonpath={.status.numberReady}";
                assert_eq!(cluster.get(&[AGENT, "-n", AGENTS, ready]).await, "1");
                let all = ["delete", "pods", "--all", "-n", AGENTS, "--wait=true"];
                cluster.kubectl(&all).await;
            },
            servers_wait_for_credentials(&cluster),
            run(args),
        )
        .await;

    credentials_arrive(&cluster).await;
}

async fn servers_wait_for_credentials(cluster: &Cluster) {
    both_hubs_start_servers(cluster, "late", true).await;
    have_no_credentials(cluster, "late").await;
    it_is_said_what_is_missing(cluster, &["AgentsUnavailable"]).await;
}

/// Servers start without their environment, and that is said on them and on their hubs.
async fn servers_are_marked(cluster: &Cluster) {
    both_hubs_start_servers(cluster, "late", false).await;
    pods_are_marked(cluster, "late").await;
    it_is_said_what_is_missing(cluster, &["NotInjected"]).await;
}

/// An event on the pod of each says that it has nothing.
async fn pods_are_marked(cluster: &Cluster, user: &str) {
    let of_pod = format!("--field-selector=involvedObject.name=jupyter-{user},reason=NotInjected");
    on_both(async |hub| {
        cluster
            .until("the pod to be marked by an event", async || {
                let events = ["events", "-n", hub.namespace, &of_pod, "-o=name"];
                !cluster.get(&events).await.is_empty()
            })
            .await;
    })
    .await;
}

/// The condition of both hubs names one of these reasons.
async fn it_is_said_what_is_missing(cluster: &Cluster, reasons: &[&str]) {
    on_both(async |hub| {
        let injection = "-o=jsonpath={.status.conditions[?(@.type==\"InjectionReady\")].reason}";
        cluster
            .until("the condition to say what is missing", async || {
                let reason = cluster
                    .get(&["hs", "node", "-n", hub.namespace, injection])
                    .await;
                reasons.contains(&reason.as_str())
            })
            .await;
    })
    .await;
}

async fn have_no_credentials(cluster: &Cluster, user: &str) {
    on_both(async |hub| {
        let ran = cluster.hub(&hub).run(user, WRITE).await.unwrap();
        assert!(ran.ok().is_err(), "{}: {user} has credentials", hub.name);
    })
    .await;
}

/// In the servers that were started meanwhile, without a restart.
async fn credentials_arrive(cluster: &Cluster) {
    on_both(async |hub| {
        cluster.has_storage(&hub, "late").await;
        cluster.hub(&hub).stop("late").await.unwrap();
    })
    .await;
}
