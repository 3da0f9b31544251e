//! Tier 4: the Helm chart on the API server of the platform, without installing it: what it
//! renders is taken, and its pods are admitted where they are to run.

#![allow(clippy::unwrap_used, reason = "these are tests")]

#[path = "chart/helm.rs"]
mod helm;

use helm::{CHART, helm};
use hubstorage_core::api::{AGENTS_NAMESPACE, SYSTEM_NAMESPACE};
use hubstorage_e2e::{Platform, files};
use serde::Deserialize as _;
use serde_json::{Value, json};

fn objects(yaml: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(yaml)
        .map(|document| Value::deserialize(document).unwrap())
        .filter(|object| !object.is_null())
        .collect()
}

async fn rendered(arguments: &[&str]) -> Vec<Value> {
    let platform = Platform::load().unwrap();
    let rendered = helm(&platform, &[&["template"], &CHART, arguments]).await;
    objects(&rendered.unwrap())
}

fn find<'o>(objects: &'o [Value], kind: &str, name: &str) -> &'o Value {
    let is_it = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects.iter().find(is_it).unwrap()
}

/// The pod that a Deployment or a DaemonSet makes, as an object of its own.
fn pod_of(workload: &Value) -> Value {
    let template = &workload["spec"]["template"];
    let mut metadata = template["metadata"].clone();
    metadata["name"] = workload["metadata"]["name"].clone();
    metadata["namespace"] = workload["metadata"]["namespace"].clone();
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
}

/// Asks the API server what it would do; `Err` is what it says.
async fn dry_run(objects: &[Value]) -> Result<(), String> {
    let mut objects = objects.to_vec();
    for object in &mut objects {
        // The platform's own has a URL, beside which no Service may be named.
        if object["kind"] == "MutatingWebhookConfiguration" {
            object["metadata"]["name"] = json!("hubstorage-rendered");
        }
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let apply = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "--validate=strict",
        "--field-manager=helm",
        "-f",
        "-",
    ];
    let platform = Platform::load().unwrap();
    let output = platform.kubectl_with_input(apply, &list.to_string()).await;
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(()).ok_or(said)
}

#[tokio::test]
async fn the_linter_finds_nothing() {
    let platform = Platform::load().unwrap();

    let report = helm(&platform, &[&["lint", "--strict"], &CHART[1..]]).await;

    let report = report.unwrap();
    assert!(report.contains("0 chart(s) failed"), "{report}");
}

#[tokio::test]
async fn the_api_server_takes_everything_that_is_rendered() {
    dry_run(&rendered(&[]).await).await.unwrap();
}

#[tokio::test]
async fn the_api_server_takes_everything_that_values_can_add() {
    let everything = "
imagePullSecrets: [registry]
controller:
  installationID: here
  env: [{name: RUST_LOG, value: debug}]
  podLabels: {team: storage}
  podAnnotations: {example.org/note: 'yes'}
  tolerations: [{key: storage, operator: Exists}]
  affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [
    {weight: 1, preference: {matchExpressions: [{key: storage, operator: Exists}]}}]}}
  priorityClassName: system-cluster-critical
serve: {env: [{name: RUST_LOG, value: debug}], podLabels: {team: storage}}
agent:
  address: fd00:ec2::23
  metrics: {address: 127.0.0.1}
  maxSurge: 1
  podLabels: {team: storage}
  affinity: {nodeAffinity: {}}
  priorityClassName: system-node-critical
";
    let values = Platform::load().unwrap().checkout.run("chart-values.yaml");
    files::write_private(&values, everything).unwrap();
    let objects = rendered(&["--values", values.to_str().unwrap()]).await;

    dry_run(&objects).await.unwrap();

    let agent = find(&objects, "DaemonSet", "hubstorage-agent").to_string();
    assert!(agent.contains("--listen=[fd00:ec2::23]:8180"), "{agent}");
    let serve = find(&objects, "Deployment", "hubstorage-serve").to_string();
    assert!(
        serve.contains("http://[fd00:ec2::23]:8180/v1/credentials"),
        "{serve}"
    );
}

#[tokio::test]
async fn every_pod_is_admitted_in_its_own_namespace_and_the_agent_in_no_other() {
    let objects = rendered(&[]).await;
    let pods = [
        ("Deployment", "hubstorage-controller"),
        ("Deployment", "hubstorage-serve"),
        ("DaemonSet", "hubstorage-agent"),
    ]
    .map(|(kind, name)| pod_of(find(&objects, kind, name)));
    dry_run(&pods).await.unwrap();

    let mut elsewhere = pods[2].clone();
    elsewhere["metadata"]["namespace"] = json!(SYSTEM_NAMESPACE);
    elsewhere["spec"]["serviceAccountName"] = json!("default");
    let refused = dry_run(&[elsewhere]).await.unwrap_err();
    assert!(
        refused.contains("violates PodSecurity \"restricted"),
        "{refused}"
    );
}

#[tokio::test]
async fn the_agent_has_one_right_and_only_while_it_adds_the_address() {
    let objects = rendered(&[]).await;
    let agent = find(&objects, "DaemonSet", "hubstorage-agent");
    assert_eq!(agent["metadata"]["namespace"], AGENTS_NAMESPACE);
    let spec = &agent["spec"]["template"]["spec"];

    let capabilities = |container: &Value| container["securityContext"]["capabilities"].clone();
    assert_eq!(
        capabilities(&spec["initContainers"][0]),
        json!({"drop": ["ALL"], "add": ["NET_ADMIN"]})
    );
    assert_eq!(
        capabilities(&spec["containers"][0]),
        json!({"drop": ["ALL"]})
    );
    assert_eq!(spec["containers"][0]["securityContext"]["runAsUser"], 18180);
    assert_eq!(spec["automountServiceAccountToken"], false);
}

#[tokio::test]
async fn what_is_registered_leads_to_ports_that_serve_listens_on() {
    let objects = rendered(&[]).await;
    let registration = find(&objects, "MutatingWebhookConfiguration", "hubstorage");
    let called = &registration["webhooks"][0]["clientConfig"]["service"];
    let service = find(&objects, "Service", called["name"].as_str().unwrap());
    assert_eq!(service["metadata"]["namespace"], called["namespace"]);
    let serve = find(&objects, "Deployment", "hubstorage-serve");
    let pod = &serve["spec"]["template"];
    assert_eq!(
        service["spec"]["selector"],
        serve["spec"]["selector"]["matchLabels"]
    );

    let listens_on = |port: &Value| {
        let ports = service["spec"]["ports"].as_array().unwrap();
        let target = &ports.iter().find(|one| one["port"] == *port).unwrap()["targetPort"];
        let ports = pod["spec"]["containers"][0]["ports"].as_array().unwrap();
        ports.iter().find(|one| one["name"] == *target).unwrap()["containerPort"].clone()
    };
    // The defaults of `hubstorage serve` and of the agent's --broker-url.
    assert_eq!(listens_on(&called["port"]), 8443);
    assert_eq!(listens_on(&json!(8444)), 8444);
}

#[tokio::test]
async fn another_namespace_is_refused_with_the_way_out() {
    let platform = Platform::load().unwrap();

    let refused = helm(&platform, &[&["template", "--namespace=storage"], &CHART]).await;

    let said = refused.unwrap_err();
    assert!(
        said.contains("\"storage\": add -n hubstorage-system"),
        "{said}"
    );
}

#[tokio::test]
async fn a_value_that_there_is_not_is_refused_by_name() {
    let platform = Platform::load().unwrap();
    for (set, named) in [
        ("serve.replica=3", "'replica'"),
        ("replicas=3", "'replicas'"),
        ("agent.address=10.0.0.1", "/agent/address"),
        ("agent.maxSurge=0", "/agent/maxSurge"),
    ] {
        let refused = helm(&platform, &[&["template", "--set", set], &CHART]).await;

        let said = refused.unwrap_err();
        assert!(said.contains(named), "{set}: {said}");
    }
}
