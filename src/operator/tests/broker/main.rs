//! The broker over real TLS, before an API server and a cloud that are made for the test.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod api_server;
mod hub;
mod probing;
mod skew;
mod strangers;
mod watches;

use std::io;
use std::sync::{LazyLock, Mutex, OnceLock};
use std::time::Duration;

use hubstorage::guard::GuardState;
use hubstorage_cloud::CloudError;
use hubstorage_cloud::Operation;
use hubstorage_cloud::memory::{Behaviour, Refusal};
use serde_json::json;

use hub::{BOBS_ADDRESS, BOBS_POD, HUB, Hub, Issuer, bucket, hub_user, pod};

/// Every line that was logged in this process.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Logged;

impl io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts a hub, with everything logged that can be.
async fn started() -> Hub {
    log_everything();
    Hub::start().await
}

fn log_everything() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        hubstorage::telemetry::start_with("trace".parse().unwrap(), false, || Logged);
    });
}

fn logged() -> String {
    String::from_utf8(LOG.lock().unwrap().clone()).unwrap()
}

static OUTAGE: LazyLock<CloudError> = LazyLock::new(|| CloudError::Unreachable {
    endpoint: "https://sts".into(),
    cause: "connection refused".into(),
});

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_about_to_stop_ends_the_connections_on_which_it_answers() {
    let hub = started().await;
    hub.vended().await;
    let kept_open = format!(
        "GET /v1/credentials HTTP/1.1\r\nHost: broker\r\nAuthorization: Bearer {}\r\nHubstorage-Peer: {BOBS_ADDRESS}\r\n\r\n",
        hub.bobs_token()
    );

    hub.leaving.cancel();
    let answer = hub.send(kept_open).await;

    assert_eq!(answer.status, 200);
    assert!(answer.closes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_gets_a_credential_that_reaches_its_users_prefix_and_nothing_else() {
    let hub = started().await;
    let session = hub.cloud.session(&hub.vended().await.credential());
    session
        .put(&bucket(), "bob/rasm.zarr/.zgroup", b"{}")
        .unwrap();
    assert_eq!(
        session.list(&bucket(), "bob/").unwrap(),
        ["bob/rasm.zarr/.zgroup"]
    );
    for key in ["bobby/x", "eve/x", "bob", "_hubstorage-canary-a/x"] {
        assert_eq!(
            session.get(&bucket(), key),
            Err(Refusal::AccessDenied),
            "{key}"
        );
        assert_eq!(
            session.put(&bucket(), key, b""),
            Err(Refusal::AccessDenied),
            "{key}"
        );
    }
    assert_eq!(session.list(&bucket(), "bob"), Err(Refusal::AccessDenied));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_for_us_never_reaches_the_api_server() {
    let hub = started().await;
    let mut audience = hub.claims();
    audience["aud"] = json!(["https://kubernetes.default.svc"]);
    let mut expired = hub.claims();
    expired["exp"] = json!(hub.cloud.now().as_second() - 60);
    let mut issuer = hub.claims();
    issuer["iss"] = json!("https://other.cluster");
    let mut unbound = hub.claims();
    unbound["kubernetes.io"] = json!({"namespace": "earth", "serviceaccount": {"name": "default"}});
    for (token, code) in [
        (hub.issue(&audience), "TokenAudience"),
        (hub.issue(&expired), "TokenExpired"),
        (hub.issuer.sign(&issuer), "TokenIssuer"),
        (hub.issuer.sign(&unbound), "TokenUnbound"),
        (Issuer::new().sign(&hub.claims()), "TokenForged"),
        ("hunter2".to_owned(), "TokenMalformed"),
        ("x".repeat(9000), "TokenTooLong"),
    ] {
        let answer = hub.ask(&token, BOBS_ADDRESS).await;
        assert_eq!((answer.status, answer.code()), (401, code), "{answer:?}");
    }
    assert_eq!(hub.api.calls_to("tokenreviews"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_one_megabyte_is_refused_without_a_call() {
    let hub = started().await;
    hub.vended().await;
    let calls = |hub: &Hub| {
        hub.api
            .calls()
            .iter()
            .filter(|call| !call.contains("watch=true"))
            .count()
    };
    let before = calls(&hub);
    let answer = hub.ask(&"a".repeat(1 << 20), BOBS_ADDRESS).await;
    assert!(
        answer.status != 200 && answer.body["Token"].is_null(),
        "{answer:?}"
    );
    assert_eq!(calls(&hub), before);
    hub.vended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_deleted_pod_is_refused() {
    let hub = started().await;
    let token = hub.bobs_token();
    hub.expect(&token, |answer| answer.status == 200).await;
    hub.api.delete(BOBS_POD);
    // The API server's word is kept for a moment; the watch has seen more.
    hub.expect(&token, |answer| answer.code() == "PodGone")
        .await;
    // Another token of the pod, of which nothing is remembered.
    let mut claims = hub.claims();
    claims["jti"] = json!("another");
    hub.expect(&hub.issue(&claims), |answer| {
        answer.code() == "TokenRevoked"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_pod_that_was_replaced_or_is_going_or_has_ended_is_refused() {
    let hub = started().await;
    let token = hub.bobs_token();
    hub.expect(&token, |answer| answer.status == 200).await;
    hub.api
        .edit(BOBS_POD, |pod| pod["status"]["phase"] = json!("Failed"));
    hub.expect(&token, |answer| answer.code() == "PodFinished")
        .await;
    hub.api.edit(BOBS_POD, |pod| {
        pod["status"]["phase"] = json!("Running");
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    hub.expect(&token, |answer| answer.code() == "PodTerminating")
        .await;
    hub.api.put(
        BOBS_POD,
        pod(
            "earth",
            "jupyter-bob",
            "uid-of-another",
            "bob",
            BOBS_ADDRESS,
        ),
    );
    hub.expect(&token, |answer| answer.code() == "PodReplaced")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_namespace_is_refused() {
    let hub = started().await;
    hub.api.put(
        "pods/mars/jupyter-bob",
        pod("mars", "jupyter-bob", "uid-mars", "bob", BOBS_ADDRESS),
    );
    let mut claims = hub.claims();
    claims["kubernetes.io"]["namespace"] = json!("mars");
    claims["kubernetes.io"]["pod"]["uid"] = json!("uid-mars");
    let answer = hub.ask(&hub.issue(&claims), BOBS_ADDRESS).await;
    assert_eq!((answer.status, answer.code()), (404, "NoHubStorage"));
    assert!(
        answer.body["message"].as_str().unwrap().contains("mars"),
        "{answer:?}"
    );
    assert_eq!(hub.api.calls_to("tokenreviews"), 0, "it costs nothing");
    assert_eq!(hub.api.calls_to("/namespaces/mars/pods/"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_carried_to_another_pod_is_worth_nothing_there() {
    let hub = started().await;
    hub.vended().await;
    let answer = hub.ask(&hub.bobs_token(), "10.1.0.8").await;
    assert_eq!((answer.status, answer.code()), (403, "PodElsewhere"));
    let mapped = hub.ask(&hub.bobs_token(), "::ffff:10.1.0.7").await;
    assert_eq!(mapped.status, 200, "{mapped:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_stamp_and_a_missing_or_empty_username_get_nothing() {
    let hub = started().await;
    hub.vended().await;
    let annotate = |key: &str, value: serde_json::Value| {
        hub.api
            .edit(BOBS_POD, |pod| pod["metadata"]["annotations"][key] = value);
    };
    let stamp = "hubstorage.io/created-by";
    annotate(stamp, json!("system:serviceaccount:earth:default"));
    hub.refused("StampUntrusted").await;
    annotate(stamp, json!("system:serviceaccount:earth:hub"));
    annotate("hub.jupyter.org/username", json!(""));
    hub.refused("UsernameInvalid").await;
    hub.api.edit(BOBS_POD, |pod| {
        pod["metadata"]["annotations"] = json!({stamp: "system:serviceaccount:earth:hub"})
    });
    hub.refused("UsernameMissing").await;
    hub.api.edit(BOBS_POD, |pod| {
        pod["metadata"]["annotations"] = json!({"hub.jupyter.org/username": "bob"})
    });
    hub.refused("StampMissing").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_depends_on_a_server_is_served_while_that_runs() {
    let hub = started().await;
    let server = "pods/earth/jupyter-server";
    hub.api.edit(HUB, |hub| {
        hub["spec"]["users"]["sources"] = json!([
            {"name": "notebook", "podSelector": {"matchLabels": {"component": "singleuser-server"}},
             "creators": [{"serviceAccount": {"name": "hub"}}]},
            {"name": "dask", "podSelector": {"matchLabels": {"component": "dask"}},
             "creators": [{"serviceAccount": {"name": "hub"}}], "dependsOn": {"name": "notebook"}},
        ]);
    });
    hub.api.edit(BOBS_POD, |pod| {
        pod["metadata"]["labels"]["component"] = json!("dask")
    });
    hub.refused("ServerNotRunning").await;
    hub.api.put(
        server,
        pod("earth", "jupyter-server", "uid-server", "bob", "10.1.0.9"),
    );
    hub.vended().await;
    hub.vended().await;
    assert_eq!(
        hub.api.calls_to("/namespaces/earth/pods/jupyter-server"),
        1,
        "and remembered"
    );
    // What has ended stays until the hub deletes it, and metadata do not tell.
    hub.api
        .edit(server, |pod| pod["status"]["phase"] = json!("Succeeded"));
    hub.refused("ServerNotRunning").await;
    hub.api
        .edit(server, |pod| pod["status"]["phase"] = json!("Running"));
    hub.vended().await;
    hub.api.edit(server, |pod| {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")
    });
    hub.refused("ServerNotRunning").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_vended_without_the_guard_nor_for_pods_older_than_it() {
    let hub = started().await;
    hub.vended().await;
    hub.guard.send_replace(GuardState::Missing {
        why: "no policy".into(),
    });
    let answer = hub.ask(&hub.bobs_token(), BOBS_ADDRESS).await;
    assert_eq!((answer.status, answer.code()), (503, "GuardMissing"));
    hub.guard.send_replace(GuardState::InForce {
        since: "2025-12-24T00:00:00Z".parse().unwrap(),
    });
    assert_eq!(
        hub.ask(&hub.bobs_token(), BOBS_ADDRESS).await.code(),
        "PodOlderThanGuard"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_user_gets_nothing_though_the_credential_is_in_the_cache() {
    let hub = started().await;
    hub.vended().await;
    let (key, suspended) = hub_user("Suspended");
    hub.api.put(&key, suspended);
    hub.refused("UserSuspended").await;
    hub.api
        .edit(&key, |user| user["spec"]["access"] = json!("Active"));
    hub.vended().await;
    // The probe's canary, the policy that is tried, and bob.
    assert_eq!(hub.cloud.count(Operation::Assume), 3);

    // By hand, without knowing the name that the operator would have given it.
    let (_, mut by_hand) = hub_user("Suspended");
    by_hand["metadata"]["name"] = json!("locked-out");
    hub.api.put("hubusers/earth/locked-out", by_hand);
    let answer = hub.refused("UserSuspended").await;
    let message = answer.body["message"].as_str().unwrap();
    assert!(message.contains("HubUser locked-out"), "{message}");
    hub.api.delete("hubusers/earth/locked-out");
    hub.vended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_the_watch_does_not_know_is_read() {
    let hub = started().await;
    hub.api
        .edit(BOBS_POD, |pod| pod["status"]["podIPs"] = json!([]));
    hub.refused("PodWithoutAddress").await;
    hub.api.edit(BOBS_POD, |pod| {
        pod["status"]["podIPs"] = json!([{"ip": BOBS_ADDRESS}, {"ip": "fd00::7"}])
    });
    let reads = || hub.api.calls_to("/namespaces/earth/pods/");
    // Until the watch has seen the last edit, what was read is not known to be the newest.
    let caught_up = async {
        loop {
            let before = reads();
            hub.vended().await;
            if reads() == before {
                break;
            }
        }
    };
    let caught_up = tokio::time::timeout(Duration::from_secs(30), caught_up);
    caught_up.await.unwrap();
    let before = reads();
    for _ in 0..3 {
        hub.vended().await;
    }
    assert_eq!(reads(), before, "an idle pod is not read again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_store_is_not_noticed_until_the_credential_ends() {
    let hub = started().await;
    let first = hub.vended().await.credential();
    hub.cloud.fail_with(Some(OUTAGE.clone()));
    hub.cloud.advance(Duration::from_secs(50 * 60));
    let served = hub.ask(&hub.bobs_token(), BOBS_ADDRESS).await;
    assert_eq!(served.credential(), first);
    hub.cloud.advance(Duration::from_secs(9 * 60 + 1));
    let answer = hub.ask(&hub.bobs_token(), BOBS_ADDRESS).await;
    assert_eq!((answer.status, answer.code()), (503, "StoreFailed"));
    hub.cloud.fail_with(None);
    hub.cloud.advance(Duration::from_secs(2));
    hub.vended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_vend_is_written_once_an_hour() {
    let hub = started().await;
    let (key, user) = hub_user("Active");
    hub.api.put(&key, user);
    let first = hub.vended().await;
    let now = hub.cloud.now().to_string();
    // The watch may not have seen the user at the first vend: the next one notes it.
    let noted = async {
        while hub.api.get(&key).unwrap()["status"]["lastVendTime"] != json!(now) {
            hub.vended().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), noted)
        .await
        .unwrap();
    for _ in 0..5 {
        assert_eq!(hub.vended().await.body, first.body);
    }
    assert_eq!(
        hub.api
            .calls_to("PATCH /apis/hubstorage.io/v1alpha1/namespaces/earth/hubusers"),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_vended_before_everything_was_seen() {
    log_everything();
    let hub = Hub::start_with(Behaviour::minio(), true).await;
    let answer = hub.ask(&hub.bobs_token(), BOBS_ADDRESS).await;
    assert_eq!((answer.status, answer.code()), (503, "NotReady"));
    assert!(hub.readiness.check().is_err());
    hub.api.hold_lists(false);
    hub.vended().await;
    assert_eq!(hub.readiness.check(), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_sends_garbage_in_a_loop_is_stopped_and_others_are_not() {
    let hub = started().await;
    hub.vended().await;
    let stopped = async { while hub.ask("garbage", "10.1.0.99").await.status != 429 {} };
    tokio::time::timeout(Duration::from_secs(30), stopped)
        .await
        .unwrap();
    hub.vended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_asks_in_a_loop_is_told_to_wait_and_others_are_not() {
    let hub = started().await;
    let eves = pod("earth", "jupyter-eve", "uid-eve", "eve", "10.1.0.8");
    hub.api.put("pods/earth/jupyter-eve", eves);
    let mut claims = hub.claims();
    claims["kubernetes.io"]["pod"] = json!({"name": "jupyter-eve", "uid": "uid-eve"});
    let eves_token = hub.issue(&claims);
    let token = hub.bobs_token();
    let in_a_loop = async {
        loop {
            let many = (0..16).map(|_| hub.ask(&token, BOBS_ADDRESS));
            let mut answers = futures::future::join_all(many).await.into_iter();
            if let Some(refused) = answers.find(|answer| answer.code() == "TooManyRequests") {
                return refused;
            }
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(60), in_a_loop).await;
    assert_eq!(refused.unwrap().status, 429);
    let eve = hub.ask(&eves_token, "10.1.0.8").await;
    assert_eq!(eve.status, 200, "{eve:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_paths_methods_and_senders_are_told_what_to_do() {
    let hub = started().await;
    for (head, status, code) in [
        ("GET / HTTP/1.1", 404, "NotFound"),
        ("PUT /v1/credentials HTTP/1.1", 405, "MethodNotAllowed"),
        ("GET /v1/credentials HTTP/1.1", 400, "PeerMissing"),
    ] {
        let answer = hub
            .send(format!(
                "{head}\r\nHost: broker\r\nConnection: close\r\n\r\n"
            ))
            .await;
        assert_eq!((answer.status, answer.code()), (status, code));
    }
    let answer = hub
        .send(format!(
            "GET /v1/credentials HTTP/1.1\r\nHost: broker\r\nConnection: close\r\nHubstorage-Peer: {BOBS_ADDRESS}\r\n\r\n"
        ))
        .await;
    assert_eq!((answer.status, answer.code()), (401, "TokenMissing"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_vend_is_logged_with_everything_but_secrets() {
    let hub = started().await;
    let token = hub.bobs_token();
    let credential = hub
        .expect(&token, |answer| answer.status == 200)
        .await
        .credential();
    hub.ask(&token, "10.1.0.8").await;
    hub.cloud.fail_with(Some(OUTAGE.clone()));
    hub.cloud.advance(Duration::from_secs(3600));
    hub.refused("StoreFailed").await;

    let log = logged();
    let vend = log
        .lines()
        .find(|line| line.contains("\"vended\""))
        .unwrap();
    let vend: serde_json::Value = serde_json::from_str(vend).unwrap();
    for field in [
        "user",
        "prefix",
        "namespace",
        "pod",
        "pod_uid",
        "policy",
        "access_key_id",
        "expires",
        "cached",
    ] {
        assert!(!vend[field].is_null(), "{field} in {vend}");
    }
    let signature = token.rsplit('.').next().unwrap();
    let secrets = [
        token.as_str(),
        signature,
        credential.secret_access_key.expose(),
        credential.session_token.expose(),
    ];
    for secret in secrets {
        assert!(!log.contains(secret), "a secret stands in the log");
    }
}
