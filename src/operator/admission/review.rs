//! `AdmissionReview` of `admission.k8s.io/v1`: the question and the answer.
//!
//! Only what decides is read, from where it lies: unknown fields pass through untouched.

use std::borrow::Cow;

use hubstorage_core::api::INJECTED_ANNOTATION;
use hubstorage_core::injection::{Admission, Decision, SentPod, admit};
use k8s_openapi::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::injections::ByNamespace;
use super::metrics::Outcome;

/// What goes back to the API server.
pub(super) struct Answer {
    /// An AdmissionReview.
    pub(super) body: Vec<u8>,
    pub(super) outcome: Outcome,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound = "O: Deserialize<'de>")]
struct Review<'b, O> {
    #[serde(borrow)]
    api_version: Cow<'b, str>,
    request: Request<'b, O>,
}

/// The question about an object `O`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound = "O: Deserialize<'de>")]
pub(super) struct Request<'b, O> {
    #[serde(borrow)]
    pub(super) uid: Cow<'b, str>,
    #[serde(borrow)]
    operation: Cow<'b, str>,
    #[serde(borrow)]
    resource: Resource<'b>,
    #[serde(borrow, default)]
    sub_resource: Cow<'b, str>,
    #[serde(borrow)]
    pub(super) namespace: Cow<'b, str>,
    #[serde(borrow)]
    user_info: UserInfo<'b>,
    pub(super) object: O,
}

#[derive(Deserialize)]
struct Resource<'b> {
    #[serde(borrow, default)]
    group: Cow<'b, str>,
    #[serde(borrow)]
    version: Cow<'b, str>,
    #[serde(borrow)]
    resource: Cow<'b, str>,
}

#[derive(Deserialize)]
struct UserInfo<'b> {
    #[serde(borrow)]
    username: Cow<'b, str>,
}

const API_VERSION: &str = "admission.k8s.io/v1";

/// What a review asks, where it is about the creation of a `resource` of the core group.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn question<'b, O: Deserialize<'b>>(
    body: &'b [u8],
    resource: &str,
) -> Result<Request<'b, O>, String> {
    let review: Review<'b, O> = serde_json::from_slice(body)
        .map_err(|error| format!("no AdmissionReview of {API_VERSION}: {error}"))?;
    if review.api_version != API_VERSION {
        return Err(format!(
            "apiVersion is {}; only {API_VERSION} is understood",
            review.api_version
        ));
    }
    review.request.is_about_a_new(resource)?;
    Ok(review.request)
}

/// The answer: the object is let in, with this JSON patch and these warnings.
///
/// # Errors
/// None in practice: all of it can be written.
pub(super) fn response(
    uid: &str,
    patch: Option<&impl Serialize>,
    warnings: &[String],
) -> Result<Vec<u8>, String> {
    let mut response = json!({"uid": uid, "allowed": true});
    if let Some(patch) = patch {
        let patch = serde_json::to_vec(patch)
            .map_err(|error| format!("the patch cannot be written: {error}"))?;
        response["patchType"] = json!("JSONPatch");
        response["patch"] = json!(ByteString(patch));
    }
    if !warnings.is_empty() {
        response["warnings"] = json!(warnings);
    }
    let review =
        json!({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response});
    serde_json::to_vec(&review).map_err(|error| format!("the answer cannot be written: {error}"))
}

/// Answers a review of a pod.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn answer(body: &[u8], injections: &ByNamespace) -> Result<Answer, String> {
    let request: Request<'_, SentPod<'_>> = question(body, "pods")?;
    let hub = injections.get(request.namespace.as_ref());
    let creator = &request.user_info.username;
    let Admission { decision, patch } = admit(request.object, creator, hub.map(AsRef::as_ref));
    let mut warnings = Vec::new();
    let outcome = match decision {
        Decision::NotAUser => Outcome::NotAUser,
        Decision::Injected(report) => {
            if !report.kept.is_empty() {
                warnings.push(format!(
                    "HubStorage leaves {} of the pod's variables as they are; its annotation {INJECTED_ANNOTATION} names them",
                    report.kept.len()
                ));
            }
            if !report.kept_mounts.is_empty() {
                warnings.push(format!(
                    "HubStorage mounts no shared folder at {}: the pod has something else there, below it, or read-only around \
                     it, or only a read-only volume of the claim",
                    report.kept_mounts.join(", ")
                ));
            }
            Outcome::Injected
        }
        Decision::StampedOnly(why) => {
            tracing::info!(
                namespace = request.namespace.as_ref(),
                creator = creator.as_ref(),
                why,
                "a user pod is given nothing"
            );
            warnings.push(format!("HubStorage gives this pod no storage: {why}"));
            Outcome::StampedOnly
        }
    };
    let patch = Some(&patch).filter(|patch| !patch.0.is_empty());
    let body = response(&request.uid, patch, &warnings)?;
    Ok(Answer { body, outcome })
}

impl<O> Request<'_, O> {
    fn is_about_a_new(&self, wanted: &str) -> Result<(), String> {
        let Resource {
            group,
            version,
            resource,
        } = &self.resource;
        let is_it = (group.as_ref(), version.as_ref(), resource.as_ref()) == ("", "v1", wanted);
        if is_it && self.sub_resource.is_empty() && self.operation == "CREATE" {
            return Ok(());
        }
        Err(format!(
            "{} of {group}/{version} {resource}/{}: only CREATE of v1 {wanted} is answered here; the webhook's registration asks for more",
            self.operation, self.sub_resource
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubstorage_core::api::{
        HubStorage, S3Provider, STAMP_ANNOTATION, USERNAME_ANNOTATION, USERNAME_LABEL,
    };
    use hubstorage_core::injection::{AGENT_URL, HubInjection};
    use hubstorage_core::names::BucketName;
    use serde_json::Value;
    use std::sync::Arc;

    const HUB: &str = "system:serviceaccount:earth:hub";

    fn pod(username: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "jupyter-bob",
                "labels": {"component": "singleuser-server", USERNAME_LABEL: "bob---7a1b2c3d"},
                "annotations": {USERNAME_ANNOTATION: username},
            },
            "spec": {"containers": [{"name": "notebook", "image": "x", "fieldOfTheFuture": {"a": [1]}}]},
        })
    }

    fn review(pod: Value) -> Value {
        json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
                "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "resource": {"group": "", "version": "v1", "resource": "pods"},
                "operation": "CREATE",
                "namespace": "earth",
                "userInfo": {"username": HUB, "groups": ["system:serviceaccounts"]},
                "object": pod,
                "dryRun": false,
            },
        })
    }

    fn injections() -> ByNamespace {
        let hub: HubStorage = serde_json::from_value(json!({
            "apiVersion": "hubstorage.io/v1alpha1",
            "kind": "HubStorage",
            "metadata": {"namespace": "earth", "name": "earth", "generation": 3},
            "spec": {
                "providerRef": {"name": "minio"},
                "buckets": [{"name": "scratch", "env": [{"name": "SCRATCH_BUCKET"}]}],
            },
        }))
        .unwrap();
        let s3: S3Provider = serde_json::from_value(json!({
            "region": "us-east-1",
            "endpoint": "http://127.0.0.1:9000",
            "credentials": {"type": "Ambient"},
            "vending": {"credentials": {"type": "Ambient"}},
        }))
        .unwrap();
        let buckets = [(
            hub.spec.buckets[0].clone(),
            BucketName::parse("earth-scratch").unwrap(),
        )];
        [(
            "earth".to_owned(),
            Arc::new(HubInjection::new(&hub, &buckets, &s3, AGENT_URL).unwrap()),
        )]
        .into()
    }

    /// The response, and the pod as the API server goes on with it.
    fn admitted(review: &Value, injections: &ByNamespace) -> (Value, Value, Outcome) {
        let answer = answer(&serde_json::to_vec(review).unwrap(), injections).unwrap();
        let written: Value = serde_json::from_slice(&answer.body).unwrap();
        let response = written["response"].clone();
        let mut pod = review["request"]["object"].clone();
        if let Some(patch) = response.get("patch") {
            let ByteString(patch) = serde_json::from_value(patch.clone()).unwrap();
            json_patch::patch(
                &mut pod,
                &serde_json::from_slice::<json_patch::Patch>(&patch).unwrap(),
            )
            .unwrap();
        }
        (response, pod, answer.outcome)
    }

    #[test]
    fn a_user_pod_is_stamped_and_given_its_location() {
        let review = review(pod("bob"));
        let (response, pod, outcome) = admitted(&review, &injections());
        assert_eq!(outcome, Outcome::Injected);
        assert_eq!(response["uid"], review["request"]["uid"]);
        assert_eq!(
            (&response["allowed"], &response["patchType"]),
            (&json!(true), &json!("JSONPatch"))
        );
        assert_eq!(pod["metadata"]["annotations"][STAMP_ANNOTATION], HUB);
        assert_eq!(
            pod["spec"]["containers"][0]["fieldOfTheFuture"],
            json!({"a": [1]})
        );
        let env = pod["spec"]["containers"][0]["env"].as_array().unwrap();
        assert!(
            env.contains(&json!({"name": "SCRATCH_BUCKET", "value": "s3://earth-scratch/bob"})),
            "{env:?}"
        );
    }

    #[test]
    fn a_pod_of_a_namespace_without_a_hub_is_stamped_and_warned_about() {
        let (response, pod, outcome) = admitted(&review(pod("bob")), &ByNamespace::new());
        assert_eq!(outcome, Outcome::StampedOnly);
        assert_eq!(pod["metadata"]["annotations"][STAMP_ANNOTATION], HUB);
        let warning = response["warnings"][0].as_str().unwrap();
        assert!(warning.contains("no HubStorage"), "{warning}");
    }

    #[test]
    fn a_forged_stamp_is_overwritten() {
        let mut pod = pod("bob");
        pod["metadata"]["annotations"][STAMP_ANNOTATION] = json!(HUB);
        let mut review = review(pod);
        review["request"]["userInfo"]["username"] = json!("eve");
        let (_, pod, outcome) = admitted(&review, &injections());
        assert_eq!(outcome, Outcome::StampedOnly);
        assert_eq!(pod["metadata"]["annotations"][STAMP_ANNOTATION], "eve");
    }

    #[test]
    fn a_pod_that_is_nobodys_is_let_in_as_it_is() {
        let bare = json!({"metadata": {"name": "a"}, "spec": {"containers": []}});
        let (response, pod, outcome) = admitted(&review(bare.clone()), &injections());
        assert_eq!((outcome, pod), (Outcome::NotAUser, bare));
        assert_eq!(response.get("patch"), None);
        assert_eq!(response["allowed"], true);
    }

    #[test]
    fn a_dry_run_has_the_same_answer() {
        let mut dry = review(pod("bob"));
        dry["request"]["dryRun"] = json!(true);
        assert_eq!(
            admitted(&dry, &injections()).1,
            admitted(&review(pod("bob")), &injections()).1
        );
    }

    #[test]
    fn whoever_makes_a_pod_is_told_which_of_its_values_stand_before_the_hubs() {
        let mut pod = pod("bob");
        pod["spec"]["containers"][0]["env"] =
            json!([{"name": "SCRATCH_BUCKET", "value": "s3://mine"}]);
        let (response, pod, outcome) = admitted(&review(pod), &injections());
        assert_eq!(outcome, Outcome::Injected);
        assert_eq!(
            response["warnings"],
            json!([
                "HubStorage leaves 1 of the pod's variables as they are; its annotation hubstorage.io/injected names them"
            ])
        );
        let report = pod["metadata"]["annotations"]["hubstorage.io/injected"].as_str();
        assert!(
            report.unwrap().contains(r#""kept":["SCRATCH_BUCKET"]"#),
            "{report:?}"
        );
    }

    #[test]
    fn a_pod_that_names_nobody_is_let_in_whatever_it_lacks() {
        for object in [
            json!({}),
            json!({"metadata": {}, "spec": {}}),
            json!({"metadata": {"labels": null, "annotations": null}, "spec": {"containers": null, "volumes": null}}),
            json!({"metadata": {"labels": {}, "annotations": {}}, "spec": {"containers": [{}], "volumes": [{}]}}),
        ] {
            let (response, _, outcome) = admitted(&review(object.clone()), &injections());
            assert_eq!(response["allowed"], true, "{object}");
            assert_eq!(outcome, Outcome::NotAUser, "{object}");
        }
    }

    /// An API server sends what it has decoded into its own types. The registration lets a pod in
    /// about which nothing could be said (`failurePolicy: Ignore`).
    #[test]
    fn what_is_no_pod_at_all_is_answered_with_what_is_wrong() {
        for (object, wrong) in [
            (json!(null), "null"),
            (json!("pod"), "string"),
            (
                json!({"metadata": {"labels": {USERNAME_LABEL: "bob"}}, "spec": {"containers": 1}}),
                "integer",
            ),
            (
                json!({"metadata": {"annotations": {USERNAME_ANNOTATION: 7}}}),
                "integer",
            ),
        ] {
            let sent = serde_json::to_vec(&review(object)).unwrap();
            let why = answer(&sent, &injections()).err().unwrap();
            assert!(
                why.starts_with("no AdmissionReview of admission.k8s.io/v1: "),
                "{why}"
            );
            assert!(why.contains(wrong), "{why}");
        }
    }

    #[test]
    fn a_review_that_cannot_be_read_says_which_field_is_wrong() {
        for field in [
            "uid",
            "userInfo",
            "namespace",
            "object",
            "operation",
            "resource",
        ] {
            let mut review = review(pod("bob"));
            review["request"].as_object_mut().unwrap().remove(field);
            let why = answer(&serde_json::to_vec(&review).unwrap(), &injections())
                .err()
                .unwrap();
            assert!(why.contains(&format!("`{field}`")), "{why}");
        }
        let mut beta = review(pod("bob"));
        beta["apiVersion"] = json!("admission.k8s.io/v1beta1");
        let why = answer(&serde_json::to_vec(&beta).unwrap(), &injections())
            .err()
            .unwrap();
        assert!(why.contains("v1beta1"), "{why}");
    }

    #[test]
    fn only_the_creation_of_a_pod_is_answered() {
        for (pointer, value) in [
            ("/request/operation", json!("UPDATE")),
            ("/request/resource/resource", json!("deployments")),
            ("/request/resource/group", json!("apps")),
        ] {
            let mut review = review(pod("bob"));
            *review.pointer_mut(pointer).unwrap() = value;
            let why = answer(&serde_json::to_vec(&review).unwrap(), &injections())
                .err()
                .unwrap();
            assert!(why.contains("only CREATE of v1 pods"), "{why}");
        }
    }
}
