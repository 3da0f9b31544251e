//! The release under load: upgraded, rolled back, removed and back, and an API server that starts
//! anew with the policies in place.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hubstorage_core::api::{STAMP_ANNOTATION, SYSTEM_NAMESPACE, USERNAME_ANNOTATION};
use hubstorage_e2e::ServiceAccount;
use hubstorage_e2e::components::hub::HUB;
use hubstorage_e2e::components::release::helm;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use crate::cluster::{Cluster, WRITE};

const RELEASE: [&str; 4] = ["hubstorage", "charts/hubstorage", "-n", SYSTEM_NAMESPACE];

/// A user pod that no node ever runs.
fn pod(name: &str) -> Pod {
    let pod: Value = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {"component": "singleuser-server", "hub.jupyter.org/username": "load"},
            "annotations": {USERNAME_ANNOTATION: "load"},
        },
        "spec": {
            "nodeSelector": {"e2e": "nowhere"},
            "containers": [{"name": "notebook", "image": "localhost/hubstorage/none"}],
        },
    });
    serde_json::from_value(pod).unwrap()
}

async fn pods_as_the_hub(cluster: &Cluster) -> Api<Pod> {
    let hub = ServiceAccount::new(HUB.namespace, "hub");
    let client = cluster
        .platform
        .client_as_service_account(&hub)
        .await
        .unwrap();
    Api::namespaced(client, HUB.namespace)
}

async fn is_stamped(pods: &Api<Pod>, name: &str) -> bool {
    let made = pods
        .create(&PostParams::default(), &pod(name))
        .await
        .unwrap();
    pods.delete(name, &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    made.metadata
        .annotations
        .unwrap()
        .contains_key(STAMP_ANNOTATION)
}

/// Makes pods as the hub, one after the other, until `done`. Returns how many there were, and how
/// many of them had not passed the webhook.
async fn make_pods(pods: Api<Pod>, done: Arc<AtomicBool>) -> (usize, usize) {
    let (mut made, mut missed) = (0, 0);
    while !done.load(Ordering::Relaxed) {
        made += 1;
        if !is_stamped(&pods, &format!("load-{made}")).await {
            missed += 1;
        }
    }
    (made, missed)
}

async fn helm_does(cluster: &Cluster, arguments: &[&str]) {
    helm(&cluster.platform.checkout, arguments).await.unwrap();
}

#[tokio::test]
async fn an_upgrade_and_a_rollback_lose_no_admission() {
    let cluster = Cluster::enter().await;
    let done = Arc::new(AtomicBool::new(false));
    let pods = pods_as_the_hub(&cluster).await;
    let change = [
        "--reuse-values",
        "--set-string=serve.podAnnotations.e2e=upgraded",
        "--wait",
        "--timeout=120s",
    ];
    let serve = "-o=jsonpath={.items[*].metadata.annotations.e2e}";
    let serve = [
        "pods",
        "-n",
        SYSTEM_NAMESPACE,
        "-l=app.kubernetes.io/name=hubstorage-serve",
        serve,
    ];

    let (counts, upgraded) = tokio::join!(make_pods(pods, done.clone()), async {
        helm_does(
            &cluster,
            &[&["upgrade"], RELEASE.as_slice(), &change].concat(),
        )
        .await;
        let upgraded = cluster.get(&serve).await;
        helm_does(
            &cluster,
            &[
                "rollback",
                "hubstorage",
                "-n",
                SYSTEM_NAMESPACE,
                "--wait",
                "--timeout=120s",
            ],
        )
        .await;
        done.store(true, Ordering::Relaxed);
        upgraded
    });

    let (made, missed) = counts;
    assert!(
        upgraded.contains("upgraded"),
        "no replica was replaced: {upgraded}"
    );
    assert!(made > 20, "only {made} pods: nothing was shown");
    assert_eq!(missed, 0, "of {made} pods made meanwhile");
}

#[tokio::test]
async fn uninstalling_blocks_no_pod_and_loses_no_data_and_installing_again_finds_all() {
    let cluster = Cluster::enter().await;
    cluster.server(&HUB, "keeper").await;
    cluster.has_storage(&HUB, "keeper").await;
    let bucket = "-o=jsonpath={.status.buckets[0].bucketName}";
    let bucket = cluster
        .get(&["hs", "node", "-n", HUB.namespace, bucket])
        .await;
    let pods = pods_as_the_hub(&cluster).await;

    cluster
        .without(
            helm_does(
                &cluster,
                &["uninstall", "hubstorage", "-n", SYSTEM_NAMESPACE, "--wait"],
            ),
            async {
                assert!(
                    !is_stamped(&pods, "free").await,
                    "the webhook is still there"
                );
                let kept = cluster.keys(&bucket).await;
                assert!(kept.contains("keeper/hello"), "{kept}");
                let hub = cluster
                    .get(&["hs", "node", "-n", HUB.namespace, "-o=name"])
                    .await;
                assert_eq!(hub.trim(), "hubstorage.hubstorage.io/node");
            },
            async {
                let e2e = env!("CARGO_BIN_EXE_e2e");
                cluster.platform.start(e2e, "operator").await.unwrap();
            },
        )
        .await;

    cluster.is_ready(HUB.namespace).await;
    let again = "-o=jsonpath={.status.buckets[0].bucketName}";
    assert_eq!(
        cluster
            .get(&["hs", "node", "-n", HUB.namespace, again])
            .await,
        bucket
    );
    // The guard is a new one: only pods made since are vended for.
    cluster
        .until("a pod with its stamp", async || {
            is_stamped(&pods, "stamped").await
        })
        .await;
    cluster.server(&HUB, "keeper").await;
    cluster.has_storage(&HUB, "keeper").await;
    cluster.hub(&HUB).stop("keeper").await.unwrap();
}

#[tokio::test]
async fn an_api_server_that_starts_anew_admits_pods_and_holds_the_guard() {
    let cluster = Cluster::enter().await;
    cluster.server(&HUB, "steady").await;
    cluster.has_storage(&HUB, "steady").await;
    cluster.platform.stop("kube-apiserver").await.unwrap();
    let e2e = env!("CARGO_BIN_EXE_e2e");
    cluster.platform.start(e2e, "kube-apiserver").await.unwrap();

    let pods = pods_as_the_hub(&cluster).await;
    assert!(
        is_stamped(&pods, "first").await,
        "the first pod has no stamp"
    );
    let mut forged = pod("forged");
    let stamp = (
        STAMP_ANNOTATION.to_owned(),
        "system:serviceaccount:earth:other".to_owned(),
    );
    forged
        .metadata
        .annotations
        .get_or_insert_default()
        .extend([stamp]);
    let made = pods.create(&PostParams::default(), &forged).await.unwrap();
    pods.delete("forged", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    let stamped = &made.metadata.annotations.unwrap()[STAMP_ANNOTATION];
    assert_eq!(
        stamped, "system:serviceaccount:earth:hub",
        "the forged stamp came through"
    );
    let hub = cluster.hub(&HUB);
    assert_eq!(
        hub.run("steady", WRITE).await.unwrap().ok().unwrap(),
        "here"
    );
    hub.stop("steady").await.unwrap();
}
