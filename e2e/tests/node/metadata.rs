//! A cloud's metadata service, tried from a real pod on the node: what answers there is this test's own.

use hubstorage_e2e::components::hub::HUB;
use hubstorage_e2e::giving_back;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::cluster::Cluster;

/// Where pods ask. On the node's loopback interface, so that nothing leaves the machine.
const SERVICE: &str = "169.254.169.254";

const TRIAL: &str = "hubstorage-metadata-trial";

const ROLES: &str = "GET /latest/meta-data/iam/security-credentials/ ";

#[tokio::test]
async fn credentials_of_the_node_that_pods_can_have_are_told_and_without_them_users_are_isolated() {
    let cluster = Cluster::enter().await;
    cluster.server(&HUB, "tried").await;
    cluster.has_storage(&HUB, "tried").await;

    giving_back(tried(&cluster), async {
        _ = address("delete").await;
        let all = ["rolebinding,pod", TRIAL, "-n", HUB.namespace];
        cluster
            .kubectl(&[&["delete", "--ignore-not-found"], &all[..]].concat())
            .await;
        cluster.hub(&HUB).stop("tried").await.unwrap();
    })
    .await;
}

async fn tried(cluster: &Cluster) {
    assert!(address("add").await, "{SERVICE} is on another interface");
    let binding = [
        "create",
        "rolebinding",
        TRIAL,
        "-n",
        HUB.namespace,
        "--clusterrole=hubstorage-metadata-trial",
        "--serviceaccount=hubstorage-system:hubstorage-controller",
    ];
    cluster.kubectl(&binding).await;

    let listener = TcpListener::bind((SERVICE, 80)).await.unwrap();
    let service = tokio::spawn(answer_as_amazon(listener));
    check(cluster, "with a service").await;
    let told = until(cluster, "False", "MetadataServiceReachable").await;
    service.abort();
    _ = service.await;
    assert!(told.contains("the credentials of role node-role"), "{told}");

    check(cluster, "without one").await;
    let told = until(cluster, "True", "Isolated").await;
    assert!(told.contains("nothing answers"), "{told}");
    cluster.is_ready(HUB.namespace).await;
}

/// Adds the address to the loopback interface, or takes it away; whether that could be done.
async fn address(what: &str) -> bool {
    let address = format!("{SERVICE}/32");
    let ip = Command::new("ip")
        .args(["address", what, &address, "dev", "lo"])
        .output();
    ip.await.unwrap().status.success()
}

/// Asks for another look, and so for another trial.
async fn check(cluster: &Cluster, why: &str) {
    let asked = format!("hubstorage.io/check-requested-at={why}");
    cluster
        .kubectl(&[
            "annotate",
            "--overwrite",
            "-n",
            HUB.namespace,
            "hs/node",
            &asked,
        ])
        .await;
}

/// Waits until `IsolationReady` is this; gives its message.
async fn until(cluster: &Cluster, status: &str, reason: &str) -> String {
    let condition = async || {
        let hub = cluster
            .get(&["hs", "node", "-n", HUB.namespace, "-o=json"])
            .await;
        let hub: Value = serde_json::from_str(&hub).unwrap();
        let conditions = hub["status"]["conditions"].as_array().cloned();
        let mut conditions = conditions.unwrap_or_default().into_iter();
        conditions
            .find(|condition| condition["type"] == "IsolationReady")
            .unwrap_or_default()
    };
    let what = format!("IsolationReady to be {status} ({reason})");
    cluster
        .until(&what, async || {
            let condition = condition().await;
            condition["status"] == status && condition["reason"] == reason
        })
        .await;
    condition().await["message"].as_str().unwrap().to_owned()
}

/// IMDSv1: lists the role of the node, and knows nothing else.
async fn answer_as_amazon(listener: TcpListener) {
    while let Ok((connection, _)) = listener.accept().await {
        tokio::spawn(answer(connection));
    }
}

async fn answer(mut connection: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if connection.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let answer: &[u8] = match request.starts_with(ROLES.as_bytes()) {
        true => b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nnode-role",
        false => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    };
    connection.write_all(answer).await
}
