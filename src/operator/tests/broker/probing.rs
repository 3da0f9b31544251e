//! Whether the store holds users apart: when it is tried, and what becomes of what was found.

use std::time::Duration;

use hubstorage_cloud::Operation;
use hubstorage_cloud::memory::Behaviour;
use serde_json::{Value, json};

use crate::hub::{HANGING, HUB, Hub, SECRET, hub_of, provider};
use crate::{OUTAGE, log_everything, started};

fn verdict(hub: &Value) -> &Value {
    &hub["status"]["vending"]["buckets"][0]["verdict"]
}

/// Any change of a hub makes the prober look at what is due.
fn wake(hub: &Hub, label: &str) {
    hub.api.edit(HUB, |hub| {
        hub["metadata"]["labels"] = json!({"looked": label})
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_hold_users_apart_vends_nothing_and_status_says_which_call_got_through()
 {
    log_everything();
    let leaky = Behaviour {
        enforces_session_policies: false,
        ..Behaviour::minio()
    };
    let hub = Hub::start_with(leaky, false).await;
    let status = hub.api.wait_for(HUB, |hub| verdict(hub) == "Leaks").await;
    let message = status["status"]["vending"]["buckets"][0]["message"]
        .as_str()
        .unwrap();
    assert!(message.contains("get"), "{message}");
    let answer = hub
        .expect(&hub.bobs_token(), |answer| {
            answer.code() == "NothingVendable"
        })
        .await;
    assert_eq!(answer.status, 503);
    assert_eq!(hub.cloud.count(Operation::Assume), 1, "only the canary");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_stands_while_the_store_is_away_and_nothing_is_written() {
    let hub = started().await;
    hub.vended().await;
    hub.cloud.fail_with(Some(OUTAGE.clone()));
    let assumed = hub.cloud.count(Operation::Assume);
    let writes = hub.api.calls_to("PATCH /apis/hubstorage.io");
    hub.cloud.advance(Duration::from_secs(11 * 60));
    wake(&hub, "now");
    let probed = async {
        while hub.cloud.count(Operation::Assume) == assumed {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), probed)
        .await
        .unwrap();
    hub.vended().await;
    assert_eq!(hub.api.calls_to("PATCH /apis/hubstorage.io"), writes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_generation_of_the_provider_is_probed_before_it_vends() {
    let hub = started().await;
    hub.vended().await;
    hub.api.edit("storageproviders/minio", |provider| {
        provider["metadata"]["generation"] = json!(2)
    });
    let probed = |hub: &Value| hub["status"]["vending"]["buckets"][0]["providerGeneration"] == 2;
    let status = hub.api.wait_for(HUB, probed).await;
    assert_eq!(
        status["status"]["vending"]["buckets"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        status["status"]["observedGeneration"], 1,
        "the controller's fields are its own"
    );
    hub.vended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_keeps_no_other_provider_from_being_probed() {
    let hub = started().await;
    hub.api.put("storageproviders/hanging", provider(HANGING));
    hub.api
        .put("hubstorages/mars/mars", hub_of("mars", HANGING));
    hub.connect.was_asked(HANGING, 1).await;

    hub.api
        .put("hubstorages/venus/venus", hub_of("venus", "minio"));

    hub.api
        .wait_for("hubstorages/venus/venus", |hub| verdict(hub) == "Isolated")
        .await;
}

/// Somebody puts other keys into the Secret.
fn rotate(hub: &Hub) {
    hub.api.edit(SECRET, |secret| {
        secret["data"]["AWS_SECRET_ACCESS_KEY"] = json!("b3RoZXI=")
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn with_other_keys_nothing_is_vended_before_the_store_was_tried_with_them() {
    let hub = started().await;
    let former = hub.vended().await.credential().access_key_id;
    hub.connect.hold(true);

    rotate(&hub);

    let refused = hub.refused("NothingVendable").await;
    let message = refused.body["message"].as_str().unwrap();
    assert!(message.contains("still being tried"), "{message}");
    hub.connect.hold(false);
    let vended = hub.vended().await.credential().access_key_id;
    assert_ne!(vended, former, "sessions of former keys end with them");
    let version = hub.api.get(SECRET).unwrap()["metadata"]["resourceVersion"].clone();
    let status = hub.api.get(HUB).unwrap();
    assert_eq!(
        status["status"]["vending"]["buckets"][0]["secretVersion"],
        version
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_annotation_on_the_secret_is_enough_for_sessions_to_be_issued_anew() {
    let hub = started().await;
    let former = hub.vended().await.credential().access_key_id;

    hub.api.edit(SECRET, |secret| {
        secret["metadata"]["annotations"] = json!({"sessions-ended-at": "now"})
    });

    let version = hub.api.get(SECRET).unwrap()["metadata"]["resourceVersion"].clone();
    let tried = |hub: &Value| hub["status"]["vending"]["buckets"][0]["secretVersion"] == version;
    hub.api.wait_for(HUB, tried).await;
    assert_ne!(hub.vended().await.credential().access_key_id, former);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_keys_that_the_store_does_not_hold_apart_are_found_at_once() {
    let hub = started().await;
    hub.vended().await;
    hub.cloud
        .behave(|behaviour| behaviour.enforces_session_policies = false);

    rotate(&hub);

    hub.api.wait_for(HUB, |hub| verdict(hub) == "Leaks").await;
    hub.refused("NothingVendable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_taken_away_vend_nothing_any_more_and_do_again_when_they_are_back() {
    let hub = started().await;
    hub.vended().await;
    let secret = hub.api.get(SECRET).unwrap();

    hub.api.delete(SECRET);

    let refused = hub.refused("VendingSecretMissing").await;
    let message = refused.body["message"].as_str().unwrap();
    assert!(
        message.contains("minio-vend in namespace hubstorage-vending"),
        "{message}"
    );
    hub.api.put(SECRET, secret);
    hub.vended().await;
}

fn trial(hub: &Value) -> &Value {
    &hub["status"]["vending"]["policy"]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_leaks_is_told_although_other_grants_were_declared_while_it_was_tried() {
    let hub = started().await;
    let refused = |hub: &Value| trial(hub)["verdict"] == "Refused";
    hub.cloud
        .behave(|behaviour| behaviour.longest_session_policy = 500);
    let grant = |name: &str, subject: Value, scope: Value| {
        let mut grant = json!({"name": name, "subjects": [subject], "permission": "ReadWrite"});
        let fields = scope.as_object().unwrap().clone();
        grant.as_object_mut().unwrap().extend(fields);
        grant
    };
    let own = grant(
        "own",
        json!({"kind": "Everyone"}),
        json!({"scope": "UserPrefix"}),
    );
    let ocean = grant(
        "ocean",
        json!({"kind": "Group", "name": "ocean"}),
        json!({"scope": "Prefix", "prefix": "_ocean"}),
    );
    hub.api.edit(HUB, |hub| {
        hub["spec"]["buckets"][0]["grants"] = json!([own, ocean])
    });
    hub.api.wait_for(HUB, refused).await;
    let asked = hub.connect.asked.borrow().len();
    hub.connect.hold(true);
    hub.cloud.behave(|behaviour| {
        behaviour.longest_session_policy = 2048;
        behaviour.enforces_session_policies = false;
    });
    let is_tried = async {
        // The probe of just now may still be ending, by the clock as it then is.
        for look in 0.. {
            if hub.connect.asked.borrow().len() > asked {
                break;
            }
            hub.cloud.advance(Duration::from_secs(11 * 60));
            wake(&hub, &look.to_string());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), is_tried)
        .await
        .unwrap();

    // A bucket that is not there yet: no policy can be tried now.
    hub.api.edit(HUB, |hub| {
        hub["spec"]["buckets"] = json!([{"name": "scratch", "grants": [ocean]}, {"name": "later"}])
    });
    hub.refused("NothingVendable").await;
    hub.connect.hold(false);

    hub.api.wait_for(HUB, |hub| verdict(hub) == "Leaks").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_session_policy_is_tried_until_the_store_takes_it_and_what_it_said_is_told() {
    let hub = started().await;
    let accepted = |hub: &Value| trial(hub)["verdict"] == "Accepted";
    let status = hub.api.wait_for(HUB, accepted).await;
    let first = trial(&status)["fingerprint"].clone();
    let assumed = hub.cloud.count(Operation::Assume);
    let buckets = status["spec"]["buckets"].as_array().unwrap().len();
    assert_eq!(
        assumed,
        buckets + 1,
        "a canary of each bucket, and the policy"
    );
    hub.vended().await;

    hub.cloud
        .behave(|behaviour| behaviour.longest_session_policy = 500);
    let shared = json!({
        "name": "ocean", "subjects": [{"kind": "Group", "name": "ocean"}], "scope": "Prefix", "prefix": "_ocean",
        "permission": "ReadWrite",
    });
    hub.api.edit(HUB, |hub| {
        let own = json!({
            "name": "own", "subjects": [{"kind": "Everyone"}], "scope": "UserPrefix", "permission": "ReadWrite",
        });
        hub["spec"]["buckets"][0]["grants"] = json!([own, shared]);
    });
    let refused = |hub: &Value| trial(hub)["verdict"] == "Refused";
    let status = hub.api.wait_for(HUB, refused).await;
    assert_ne!(trial(&status)["fingerprint"], first, "it is another policy");
    let message = trial(&status)["message"].as_str().unwrap();
    assert!(message.contains("PackedPolicyTooLarge"), "{message}");
    assert_eq!(
        verdict(&status),
        "Isolated",
        "the store holds apart whom it serves"
    );

    hub.cloud
        .behave(|behaviour| behaviour.longest_session_policy = 2048);
    let tried_again = async {
        // The probe of just now may still be ending, by the clock as it then is.
        for look in 0.. {
            if accepted(&hub.api.get(HUB).unwrap()) {
                break;
            }
            hub.cloud.advance(Duration::from_secs(11 * 60));
            wake(&hub, &look.to_string());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), tried_again)
        .await
        .unwrap();
}
