//! Writes verdicts into `status.vending`.

use std::time::Duration;

use hubstorage_core::api::{
    BucketVending, HubStorage, HubVendingStatus, IsolationVerdict, PolicyTrial,
};
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, ResourceExt};

use super::schedule::Probe;
use crate::broker::FIELD_MANAGER;

/// Status may change before the watch shows it to us, mostly by the controller's hand: then it is
/// tried again with what the watch shows by then, so often and after such a pause.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// What one try has to tell.
pub(super) struct News<'n> {
    /// The entry, as it stands in status if nothing was known.
    pub(super) found: &'n BucketVending,
    /// Whether the try failed for a reason that stays until somebody changes something.
    pub(super) stays: bool,
    /// Whether there was a session to try: then no reason holds any more for which there was none.
    pub(super) issued: bool,
    /// What the store said to the longest policy, if that was tried.
    pub(super) trial: Option<&'n PolicyTrial>,
}

/// Writes what was found into the status of the hub that it was found for; nothing, if it says so
/// already.
///
/// The resource version keeps it from a younger hub of the same name: the API server ignores the
/// UID in a patch of a custom resource's status.
pub(super) async fn write(
    client: &Client,
    hubs: &Store<DeserializeGuard<HubStorage>>,
    probe: &Probe,
    news: &News<'_>,
) -> Result<(), kube::Error> {
    let api = Api::<HubStorage>::namespaced(client.clone(), &probe.namespace);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let reference = ObjectRef::new(&probe.hub).within(&probe.namespace);
    let mut tries = 0;
    loop {
        tries += 1;
        let seen = hubs.get(&reference);
        let hub = seen.as_ref().and_then(|hub| hub.0.as_ref().ok());
        let same = hub.filter(|hub| hub.uid().as_deref() == Some(&probe.target.hub_uid));
        let amended = same.and_then(|hub| Some((hub, news.amending(hub)?)));
        let Some((hub, vending)) = amended else {
            return Ok(());
        };
        let patch = serde_json::json!({
            "apiVersion": "hubstorage.io/v1alpha1",
            "kind": "HubStorage",
            "metadata": {"name": probe.hub, "resourceVersion": hub.resource_version()},
            "status": {"vending": vending},
        });
        match api
            .patch_status(&probe.hub, &params, &Patch::Apply(patch))
            .await
        {
            Err(kube::Error::Api(status)) if status.is_conflict() && tries < TRIES => {
                tokio::time::sleep(PAUSE).await;
            }
            written => return written.map(drop),
        }
    }
}

impl News<'_> {
    /// The verdicts of a hub with this one among them, and with what the store said to its policy; `None`
    /// where that changes nothing.
    ///
    /// Those on buckets, providers and keys that the hub no longer has are left out.
    fn amending(&self, hub: &HubStorage) -> Option<HubVendingStatus> {
        let status = hub.status.as_ref();
        let vending = status.and_then(|status| status.vending.clone());
        let HubVendingStatus {
            buckets: before,
            policy,
        } = vending.clone().unwrap_or_default();
        let is_of_provider = |other: &BucketVending| {
            other.provider_uid == self.found.provider_uid
                && other.provider_generation == self.found.provider_generation
                && other.secret_version == self.found.secret_version
                && other.role_id == self.found.role_id
        };
        let is_of_bucket = |other: &&BucketVending| {
            other.name == self.found.name
                && other.bucket_name == self.found.bucket_name
                && is_of_provider(other)
        };
        let new = match before.iter().find(is_of_bucket) {
            Some(known) => self.beside(known),
            None => self.found.clone(),
        };
        let is_declared = |name: &str| hub.spec.buckets.iter().any(|bucket| bucket.name == name);
        let others = before.iter().filter(|other| {
            other.name != new.name && is_of_provider(other) && is_declared(&other.name)
        });
        let mut after: Vec<BucketVending> = others.chain([&new]).cloned().collect();
        after.sort_by(|a, b| a.name.cmp(&b.name));
        let after = HubVendingStatus {
            buckets: after,
            policy: self.trial.cloned().or(policy),
        };
        (vending.as_ref() != Some(&after)).then_some(after)
    }

    /// What stands in status from now on, where this was known of the same bucket.
    ///
    /// Nothing found out takes nothing away, and another way of not finding out is no news, but for what
    /// somebody has to put right. What leaks leaks, whoever lacks keys by now.
    fn beside(&self, known: &BucketVending) -> BucketVending {
        let found = self.found;
        match (found.verdict, known.verdict) {
            (IsolationVerdict::Isolated | IsolationVerdict::Leaks, _) => found.clone(),
            (IsolationVerdict::Unknown, IsolationVerdict::Leaks) => known.clone(),
            (IsolationVerdict::Unknown, IsolationVerdict::Isolated) if self.issued => {
                BucketVending {
                    reason: None,
                    message: String::new(),
                    ..known.clone()
                }
            }
            (IsolationVerdict::Unknown, IsolationVerdict::Unknown)
                if self.issued && found.reason != known.reason =>
            {
                found.clone()
            }
            (IsolationVerdict::Unknown, _) if self.stays => BucketVending {
                verdict: known.verdict,
                ..found.clone()
            },
            (IsolationVerdict::Unknown, _) => known.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn hub(verdicts: Value) -> HubStorage {
        serde_json::from_value(json!({
            "apiVersion": "hubstorage.io/v1alpha1", "kind": "HubStorage",
            "metadata": {"name": "earth", "namespace": "earth", "uid": "hub-1"},
            "spec": {
                "providerRef": {"name": "minio"},
                "buckets": [{"name": "persistent"}, {"name": "scratch"}],
            },
            "status": {"vending": {"buckets": verdicts}},
        }))
        .unwrap()
    }

    fn entry(name: &str, verdict: &str, message: &str) -> Value {
        json!({
            "name": name, "bucketName": format!("earth-{name}"), "providerUid": "provider-1",
            "providerGeneration": 1, "secretVersion": "7", "verdict": verdict, "message": message,
        })
    }

    fn amended(
        hub: &HubStorage,
        found: &BucketVending,
        trial: Option<&PolicyTrial>,
    ) -> Option<HubVendingStatus> {
        let (stays, issued) = (false, false);
        News {
            found,
            stays,
            issued,
            trial,
        }
        .amending(hub)
    }

    /// What is written when this was found about scratch, with these verdicts in status.
    fn written(before: Value, verdict: &str, message: &str) -> Option<Value> {
        let found = serde_json::from_value(entry("scratch", verdict, message)).unwrap();
        let after = amended(&hub(before), &found, None)?;
        let text = |entry: &BucketVending| json!([entry.name, entry.verdict, entry.message]);
        Some(after.buckets.iter().map(text).collect())
    }

    #[test]
    fn the_first_verdict_is_written_beside_the_others() {
        let others = json!([entry("persistent", "Isolated", "")]);
        let both = json!([["persistent", "Isolated", ""], ["scratch", "Isolated", ""]]);
        assert_eq!(written(others, "Isolated", ""), Some(both));
    }

    #[test]
    fn a_verdict_that_stands_there_is_not_written_again() {
        for (verdict, message) in [("Isolated", ""), ("Leaks", "get"), ("Unknown", "no answer")] {
            let before = json!([entry("scratch", verdict, message)]);
            assert_eq!(written(before, verdict, message), None, "{verdict}");
        }
    }

    #[test]
    fn what_the_store_said_to_the_policy_stands_beside_until_it_says_something_else() {
        let trial = |verdict: &str| {
            serde_json::from_value::<PolicyTrial>(json!({
                "fingerprint": "f", "providerUid": "provider-1", "providerGeneration": 1, "verdict": verdict,
            }))
            .unwrap()
        };
        let (refused, accepted) = (trial("Refused"), trial("Accepted"));
        let found = serde_json::from_value(entry("scratch", "Isolated", "")).unwrap();
        let mut hub = hub(json!([entry("scratch", "Isolated", "")]));
        let first = amended(&hub, &found, Some(&refused)).unwrap();
        assert_eq!(
            (first.buckets.len(), &first.policy),
            (1, &Some(refused.clone()))
        );
        hub.status.as_mut().unwrap().vending = Some(first);
        assert_eq!(amended(&hub, &found, Some(&refused)), None);
        assert_eq!(amended(&hub, &found, None), None, "it was not tried again");
        let then = amended(&hub, &found, Some(&accepted)).unwrap();
        assert_eq!(then.policy, Some(accepted));
    }

    #[test]
    fn another_way_of_not_finding_out_is_not_written() {
        let before = json!([entry("scratch", "Unknown", "timed out")]);
        assert_eq!(written(before, "Unknown", "refused"), None);
    }

    #[test]
    fn not_finding_out_takes_no_verdict_away_but_for_other_keys() {
        for verdict in ["Isolated", "Leaks"] {
            let before = json!([entry("scratch", verdict, "")]);
            assert_eq!(written(before, "Unknown", "refused"), None);
            let mut of_other_keys = entry("scratch", verdict, "");
            of_other_keys["secretVersion"] = json!("6");
            let unknown = json!([["scratch", "Unknown", "refused"]]);
            assert_eq!(
                written(json!([of_other_keys]), "Unknown", "refused"),
                Some(unknown)
            );
        }
    }

    #[test]
    fn what_somebody_has_to_put_right_is_told_beside_the_verdict_until_a_try_goes_through() {
        let because = |verdict: &str, reason: &str| {
            let mut entry = entry("scratch", verdict, reason);
            entry["reason"] = json!(reason);
            entry
        };
        let after = |before: &Value, stays: bool, reason: &str| {
            let found = serde_json::from_value(because("Unknown", reason)).unwrap();
            let (found, trial) = (&found, None);
            let issued = reason == "ProbeInconclusive";
            let news = News {
                found,
                stays,
                issued,
                trial,
            };
            let mut written = news.amending(&hub(json!([before])))?.buckets;
            Some(serde_json::to_value(written.remove(0)).unwrap())
        };
        let isolated = entry("scratch", "Isolated", "");
        let rejected = because("Isolated", "CredentialsRejected");
        assert_eq!(
            after(&isolated, true, "CredentialsRejected"),
            Some(rejected.clone())
        );
        assert_eq!(after(&isolated, false, "EndpointUnreachable"), None);
        assert_eq!(after(&rejected, true, "CredentialsRejected"), None);
        assert_eq!(after(&rejected, false, "EndpointUnreachable"), None);
        let unknown = because("Unknown", "EndpointUnreachable");
        let then = after(&unknown, true, "AccessDenied");
        assert_eq!(then, Some(because("Unknown", "AccessDenied")));
        assert_eq!(
            after(&entry("scratch", "Leaks", "get"), true, "AccessDenied"),
            None
        );
        // There was a session: why there was none is over, whatever else kept the try from its end.
        let inconclusive = |before: &Value| after(before, false, "ProbeInconclusive");
        let mut without_reason = isolated.clone();
        without_reason.as_object_mut().unwrap().remove("message");
        assert_eq!(inconclusive(&rejected), Some(without_reason));
        assert_eq!(inconclusive(&isolated), None);
        let denied = because("Unknown", "AccessDenied");
        let known = because("Unknown", "ProbeInconclusive");
        assert_eq!(inconclusive(&denied), Some(known.clone()));
        assert_eq!(inconclusive(&known), None);
        let told = written(json!([rejected]), "Isolated", "");
        assert_eq!(told, Some(json!([["scratch", "Isolated", ""]])));
    }

    #[test]
    fn a_verdict_on_another_provider_or_other_keys_or_a_bucket_that_is_gone_is_left_out() {
        let scratch = json!([["scratch", "Leaks", "get"]]);
        for (field, former) in [
            ("providerGeneration", json!(0)),
            ("secretVersion", json!("6")),
        ] {
            let mut older = entry("persistent", "Isolated", "");
            older[field] = former;
            let before = json!([older, entry("removed", "Isolated", "")]);
            assert_eq!(
                written(before, "Leaks", "get"),
                Some(scratch.clone()),
                "{field}"
            );
        }
    }
}
