//! Claims: a home asks for what its hub lets it.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::injections::Homes;
use super::metrics::Outcome;
use super::review::{Answer, Request, question, response};

/// Answers a review of a claim.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn answer(body: &[u8], homes: &Homes) -> Result<Answer, String> {
    let request: Request<'_, PersistentVolumeClaim> = question(body, "persistentvolumeclaims")?;
    let admission = homes.get(request.namespace.as_ref());
    let resized = admission.and_then(|admission| admission.admit(&request.object));
    let Some(resized) = resized else {
        let body = response(&request.uid, None::<&()>, &[])?;
        let outcome = Outcome::ClaimKept;
        return Ok(Answer { body, outcome });
    };
    let (from, to, hub) = (&resized.from, &resized.to, &resized.hub);
    // Not louder: KubeSpawner asks for a claim that is there at every start.
    tracing::debug!(
        namespace = request.namespace.as_ref(),
        claim = request.object.metadata.name,
        hub,
        %from,
        %to,
        "a home would be given another size than it asks for"
    );
    let warning = format!(
        "HubStorage {hub} gives this home {to} instead of {from}: spec.home says how large homes are"
    );
    let body = response(&request.uid, Some(&resized.patch()), &[warning])?;
    let outcome = Outcome::ClaimResized;
    Ok(Answer { body, outcome })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hubstorage_core::api::HubStorage;
    use hubstorage_core::homes::HomeAdmission;
    use k8s_openapi::ByteString;
    use serde_json::{Value, json};

    use super::*;

    fn homes() -> Homes {
        let hub: HubStorage = serde_json::from_value(json!({
            "metadata": {"namespace": "earth", "name": "earth"},
            "spec": {
                "providerRef": {"name": "minio"}, "buckets": [{"name": "scratch"}],
                "home": {"type": "Claim", "size": "10Gi"},
            },
        }))
        .unwrap();
        let admission = HomeAdmission::of(&hub).unwrap();
        [("earth".to_owned(), Arc::new(admission))].into()
    }

    fn review(namespace: &str, size: &str) -> Value {
        json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "1-2-3", "operation": "CREATE", "namespace": namespace,
                "resource": {"group": "", "version": "v1", "resource": "persistentvolumeclaims"},
                "userInfo": {"username": "system:serviceaccount:earth:hub"},
                "object": {
                    "metadata": {
                        "name": "claim-bob", "labels": {"component": "singleuser-storage"},
                        "annotations": {"hub.jupyter.org/username": "bob"},
                    },
                    "spec": {"resources": {"requests": {"storage": size}}},
                },
            },
        })
    }

    fn answered(review: &Value) -> (Value, Outcome) {
        let answer = answer(&serde_json::to_vec(review).unwrap(), &homes()).unwrap();
        let answered: Value = serde_json::from_slice(&answer.body).unwrap();
        (answered["response"].clone(), answer.outcome)
    }

    #[test]
    fn a_claim_that_asks_for_too_much_is_let_in_with_what_it_may_have_and_a_warning() {
        let (response, outcome) = answered(&review("earth", "100Gi"));
        assert_eq!(outcome, Outcome::ClaimResized);
        assert_eq!(
            (&response["uid"], &response["allowed"]),
            (&json!("1-2-3"), &json!(true))
        );
        let ByteString(patch) = serde_json::from_value(response["patch"].clone()).unwrap();
        let patch: Value = serde_json::from_slice(&patch).unwrap();
        let path = "/spec/resources/requests/storage";
        assert_eq!(
            patch,
            json!([{"op": "replace", "path": path, "value": "10Gi"}])
        );
        let warning = response["warnings"][0].as_str().unwrap();
        assert!(warning.contains("10Gi instead of 100Gi"), "{warning}");
    }

    #[test]
    fn a_claim_of_the_right_size_or_of_another_namespace_is_let_in_as_it_is() {
        for review in [review("earth", "10Gi"), review("mars", "100Gi")] {
            let (response, outcome) = answered(&review);
            assert_eq!(outcome, Outcome::ClaimKept);
            assert_eq!(response, json!({"uid": "1-2-3", "allowed": true}));
        }
    }

    #[test]
    fn a_pod_is_no_claim() {
        let mut review = review("earth", "10Gi");
        review["request"]["resource"]["resource"] = json!("pods");
        let why = answer(&serde_json::to_vec(&review).unwrap(), &homes()).err();
        assert!(why.unwrap().contains("persistentvolumeclaims"));
    }
}
