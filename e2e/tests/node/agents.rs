//! The agent under running notebooks, and whom it serves.

use hubstorage_core::api::USERNAME_ANNOTATION;
use hubstorage_e2e::components::hub::HUB;
use hubstorage_e2e::{HostPod, ServiceAccount};
use serde_json::{Value, json};

use crate::cluster::Cluster;

const AGENT: &str = "daemonset/hubstorage-agent";
const AGENTS: &str = "hubstorage-agents";

/// Reads an object again and again, each time with credentials fetched anew, until there is one
/// that says stop.
const READ_ON: &str = "
import os, time, boto3
bucket, _, prefix = os.environ['SCRATCH_BUCKET'].removeprefix('s3://').partition('/')
boto3.client('s3').put_object(Bucket=bucket, Key=prefix + '/data', Body=b'data')
reads, stop = 0, False
while not stop:
    s3 = boto3.session.Session().client('s3')
    assert s3.get_object(Bucket=bucket, Key=prefix + '/data')['Body'].read() == b'data'
    stop = s3.list_objects_v2(Bucket=bucket, Prefix=prefix + '/stop')['KeyCount'] > 0
    reads += 1
    time.sleep(0.2)
print(reads, end='')
";

const STOP: &str = "
import os, boto3
bucket, _, prefix = os.environ['SCRATCH_BUCKET'].removeprefix('s3://').partition('/')
boto3.client('s3').put_object(Bucket=bucket, Key=prefix + '/stop', Body=b'')
";

const CLEAR: &str = "
import os, boto3
bucket, _, prefix = os.environ['SCRATCH_BUCKET'].removeprefix('s3://').partition('/')
boto3.client('s3').delete_object(Bucket=bucket, Key=prefix + '/stop')
";

/// The pod's own token, as an SDK reads it.
const TOKEN: &str =
    "import os; print(open(os.environ['AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE']).read(), end='')";

#[tokio::test]
async fn agents_are_restarted_and_upgraded_under_running_notebooks_without_a_failed_read() {
    let cluster = Cluster::enter().await;
    cluster.server(&HUB, "reader").await;
    cluster.has_storage(&HUB, "reader").await;
    let hub = cluster.hub(&HUB);
    hub.run("reader", CLEAR).await.unwrap().ok().unwrap();
    let pods = async || cluster.get(&["pods", "-n", AGENTS, "-o=name"]).await;
    let before = pods().await;

    let (reads, between) = tokio::join!(hub.run("reader", READ_ON), async {
        let done = ["rollout", "status", "-n", AGENTS, AGENT, "--timeout=120s"];
        cluster
            .kubectl(&["rollout", "restart", "-n", AGENTS, AGENT])
            .await;
        cluster.kubectl(&done).await;
        let between = pods().await;
        // An upgrade is a change of the template like any other.
        let change = json!({"spec": {"template": {"metadata": {"annotations": {"e2e": between}}}}});
        cluster
            .kubectl(&["patch", "-n", AGENTS, AGENT, "-p", &change.to_string()])
            .await;
        cluster.kubectl(&done).await;
        hub.run("reader", STOP).await.unwrap().ok().unwrap();
        between
    });
    let after = pods().await;
    hub.stop("reader").await.unwrap();

    let reads: usize = reads.unwrap().ok().unwrap().parse().unwrap();
    assert!(reads > 10, "only {reads} reads: nothing was shown");
    assert_ne!(before, between, "the agent was not restarted");
    assert_ne!(between, after, "the agent was not upgraded");
}

#[tokio::test]
async fn a_token_is_refused_from_any_pod_but_its_own() {
    let cluster = Cluster::enter().await;
    let hub = cluster.hub(&HUB);
    for user in ["alice", "mallory"] {
        cluster.server(&HUB, user).await;
        cluster.has_storage(&HUB, user).await;
    }
    let of_alice = hub.run("alice", TOKEN).await.unwrap().ok().unwrap();
    let of_mallory = hub.run("mallory", TOKEN).await.unwrap().ok().unwrap();

    let own = asked(
        &hub.run("mallory", &ask(&of_mallory))
            .await
            .unwrap()
            .ok()
            .unwrap(),
    );
    let stolen = asked(
        &hub.run("mallory", &ask(&of_alice))
            .await
            .unwrap()
            .ok()
            .unwrap(),
    );
    for user in ["alice", "mallory"] {
        hub.stop(user).await.unwrap();
    }

    assert_eq!(own["status"], 200);
    assert_eq!(stolen["status"], 403, "{stolen}");
    assert_eq!(stolen["code"], "PodElsewhere", "{stolen}");
}

#[tokio::test]
async fn the_agent_of_one_node_does_not_answer_for_pods_of_another() {
    let cluster = Cluster::enter().await;
    let hub = cluster.hub(&HUB);
    cluster.server(&HUB, "mallory").await;
    cluster.has_storage(&HUB, "mallory").await;
    // Of a node that exists on paper only: its token is a good one all the same.
    let pod = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "jupyter-elsewhere",
            "labels": {"component": "singleuser-server", "hub.jupyter.org/username": "elsewhere"},
            "annotations": {USERNAME_ANNOTATION: "elsewhere"},
        },
        "spec": {"containers": [{"name": "notebook", "image": "localhost/hubstorage/none"}]},
    }))
    .unwrap();
    let creator = ServiceAccount::new(HUB.namespace, "hub");
    let elsewhere = HostPod::create(&cluster.platform, &creator, pod)
        .await
        .unwrap();
    let token = elsewhere.token_path("hubstorage.io").unwrap();
    let token = std::fs::read_to_string(token).unwrap();

    let answer = hub.run("mallory", &ask(&token)).await.unwrap();
    elsewhere.delete().await.unwrap();
    hub.stop("mallory").await.unwrap();

    let answer = asked(&answer.ok().unwrap());
    assert_eq!(answer["status"], 403, "{answer}");
    assert_eq!(answer["code"], "PodElsewhere", "{answer}");
}

/// Sends a token as an SDK does, and says what came back, but for credentials.
fn ask(token: &str) -> String {
    format!(
        "
import json, os, urllib.error, urllib.request
request = urllib.request.Request(os.environ['AWS_CONTAINER_CREDENTIALS_FULL_URI'], headers={{'Authorization': {token:?}}})
try:
    with urllib.request.urlopen(request) as answer:
        print(json.dumps({{'status': answer.status}}))
except urllib.error.HTTPError as error:
    print(json.dumps({{'status': error.code, **json.load(error)}}))
"
    )
}

fn asked(said: &str) -> Value {
    serde_json::from_str(said).unwrap()
}
