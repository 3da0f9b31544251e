//! Reviews that are sent to one replica directly, as the API server sends them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::Full;
use kube::api::PostParams;
use serde_json::{Value, json};

use super::super::Bench;
use super::super::broker::endpoint;
use super::super::load::{creator_of, of_hub, request_of_hub, user_pod};
use super::super::observe::{Histogram, processor_time};
use super::super::traffic::{Caller, Endpoint, Outcome, Pace, get, send};
use super::{Options, Webhook};

/// Of the pod that is reviewed, as the budget has it.
const CONTAINERS: usize = 20;
const VARIABLES: usize = 10;
const MOUNTS: usize = 2;

/// Connections: what an API server has to a webhook while two of its cores are busy.
const CONNECTIONS: usize = 8;

/// The replica that is asked.
const REPLICA: &str = "serve-1";

/// What was measured.
pub struct Handled {
    /// One after the other.
    pub alone: Outcome,
    /// The bound of the handler's own histogram, for 99 of 100 of these.
    pub own: Option<Duration>,
    /// As fast as they are answered.
    pub saturated: Outcome,
    /// Processor time that the process used for these.
    pub used: Duration,
    /// Bytes of the review.
    pub bytes: usize,
    /// Variables that the answer adds.
    pub adds: usize,
    /// Patch for an ordinary pod of a user, in base64 as in an answer.
    pub patch: String,
}

/// Sends reviews of a big pod.
pub async fn measure(bench: &Bench, options: Options) -> Result<Handled> {
    let Bench {
        platform,
        client,
        progress,
    } = bench;
    let webhook = endpoint(platform, client, "serve-1-webhook").await?;
    let mut caller = webhook.caller(None);
    let trial = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let plain = Webhook::None.namespace();
    // As the API server has it, with its defaults.
    let made = request_of_hub(&plain, &of_hub(0), &big_pod(), &trial)?;
    let big = review(client.request(made).await?)?;
    let adds = variables(&answer(&mut caller, &webhook, &big).await?)?;
    let made = request_of_hub(&plain, &of_hub(0), &user_pod("user-0"), &trial)?;
    let small = review(client.request(made).await?)?;
    let patch = answer(&mut caller, &webhook, &small).await?;

    let step = progress.step("reviews", "");
    let ask = {
        let (webhook, big) = (webhook.clone(), big.clone());
        move |_| request(&webhook, &big)
    };
    let histogram = "hubstorage_admission_duration_seconds";
    let before = Histogram::of(platform, REPLICA, histogram).await?;
    let alone = options.reviews / 10;
    let alone = send(&step, &mut [caller], Pace::AsAnswered, alone, ask.clone()).await?;
    let own = Histogram::of(platform, REPLICA, histogram)
        .await?
        .bound(&before, 0.99);

    let mut callers: Vec<Caller> = (0..CONNECTIONS).map(|_| webhook.caller(None)).collect();
    let pid = platform.pid(REPLICA)?;
    let before = processor_time(pid)?;
    let saturated = send(&step, &mut callers, Pace::AsAnswered, options.reviews, ask).await?;
    let used = processor_time(pid)?.saturating_sub(before);
    step.done(&format!("{} answered", saturated.latencies.len()));
    Ok(Handled {
        alone,
        own,
        saturated,
        used,
        bytes: big.len(),
        adds,
        patch,
    })
}

/// A user's pod with many containers.
fn big_pod() -> Value {
    let mut pod = user_pod("user-0");
    let container = |number: usize| {
        let name = match number {
            0 => "notebook".to_owned(),
            other => format!("sidecar-{other}"),
        };
        let env = (0..VARIABLES)
            .map(|n| json!({"name": format!("VARIABLE_{n}"), "value": format!("value {n}")}));
        let mounts = (0..MOUNTS)
            .map(|n| json!({"name": format!("volume-{n}"), "mountPath": format!("/mnt/{n}")}));
        json!({
            "name": name, "image": "notebook",
            "env": env.collect::<Vec<_>>(), "volumeMounts": mounts.collect::<Vec<_>>(),
        })
    };
    let volumes = (0..MOUNTS).map(|n| json!({"name": format!("volume-{n}"), "emptyDir": {}}));
    pod["spec"]["containers"] = (0..CONTAINERS).map(container).collect();
    pod["spec"]["volumes"] = volumes.collect();
    pod
}

/// What the API server would ask about the pod, in the namespace of the hub.
fn review(pod: Value) -> Result<Bytes> {
    let namespace = of_hub(0);
    let kind = json!({"group": "", "version": "v1", "kind": "Pod"});
    let resource = json!({"group": "", "version": "v1", "resource": "pods"});
    let review = json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": kind, "resource": resource, "requestKind": kind, "requestResource": resource,
            "name": pod["metadata"]["name"],
            "namespace": namespace,
            "operation": "CREATE",
            "userInfo": {"username": creator_of(&namespace), "groups": ["system:authenticated"]},
            "object": pod,
            "oldObject": null,
            "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    });
    Ok(serde_json::to_vec(&review)?.into())
}

fn request(webhook: &Endpoint, review: &Bytes) -> Request<Full<Bytes>> {
    let mut request = get(webhook, "/admit/pods?timeout=1s");
    *request.method_mut() = Method::POST;
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::CONTENT_TYPE, json);
    request.map(|_| Full::new(review.clone()))
}

/// The patch of the answer to a review, in base64.
async fn answer(caller: &mut Caller, webhook: &Endpoint, review: &Bytes) -> Result<String> {
    let answer = caller.ask(request(webhook, review)).await?;
    ensure!(
        answer.status.is_success(),
        "the webhook answers {}",
        answer.told()
    );
    let review: Value = serde_json::from_slice(&answer.body)?;
    let patch = review["response"]["patch"].as_str();
    Ok(patch
        .context("the webhook answers without a patch")?
        .to_owned())
}

/// How many variables a patch adds.
fn variables(patch: &str) -> Result<usize> {
    let k8s_openapi::ByteString(patch) = serde_json::from_value(json!(patch))?;
    let operations: Vec<Value> = serde_json::from_slice(&patch)?;
    let paths = operations
        .iter()
        .filter_map(|operation| operation["path"].as_str());
    Ok(paths.filter(|path| path.contains("/env")).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_is_that_of_the_budget() {
        let pod = big_pod();
        let containers = pod["spec"]["containers"].as_array().unwrap();
        assert_eq!(containers.len(), 20);
        for container in containers {
            assert_eq!(container["env"].as_array().unwrap().len(), 10);
            assert_eq!(container["volumeMounts"].as_array().unwrap().len(), 2);
        }
    }

    #[test]
    fn variables_are_counted_in_the_patch() {
        // [{"op":"add","path":"/spec/containers/0/env/-"},{"op":"add","path":"/spec/volumes/-"}]
        let patch = k8s_openapi::ByteString(
            br#"[{"op":"add","path":"/spec/containers/0/env/-"},{"op":"add","path":"/spec/volumes/-"}]"#
                .to_vec(),
        );
        let patch = json!(patch);
        assert_eq!(variables(patch.as_str().unwrap()).unwrap(), 1);
    }
}
