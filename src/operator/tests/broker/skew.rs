//! A broker before agents of other releases: `src/agent/tests/wire` holds what each of them sends, and
//! what each of them has to be answered.

use serde_json::Value;

use crate::hub::{Answer, BOBS_ADDRESS, Hub};
use crate::started;

const REQUESTS: [&str; 2] = [
    include_str!("../../../agent/tests/wire/0.1/request.http"),
    include_str!("../../../agent/tests/wire/later/request.http"),
];
const CREDENTIALS: &str = include_str!("../../../agent/tests/wire/0.1/credentials.http");
const REFUSAL: &str = include_str!("../../../agent/tests/wire/0.1/refusal.http");

/// Sends what is recorded, with this token, and without one line of it.
async fn send(hub: &Hub, request: &str, token: &str, without: Option<&str>) -> Answer {
    let lines = request
        .trim_end()
        .lines()
        .filter(|line| without.is_none_or(|name| !line.starts_with(name)));
    let head: String = lines.map(|line| format!("{line}\r\n")).collect();
    let head = head
        .replace("{token}", token)
        .replace("{broker}", "hubstorage-serve.hubstorage-system.svc:8444")
        .replace("{peer}", BOBS_ADDRESS)
        .replace("{version}", "7.0.0");
    hub.send(format!("{head}connection: close\r\n\r\n")).await
}

/// Checks that an answer is the recorded one, but for its values.
#[track_caller]
fn is_as_recorded(answer: &Answer, recorded: &str) {
    let (head, body) = recorded.split_once("\n\n").unwrap();
    let (status, headers) = head.split_once('\n').unwrap();
    assert_eq!(status.split(' ').nth(1), Some(&*answer.status.to_string()));
    for header in headers.lines() {
        assert!(answer.head.contains(header), "{header} in {answer:?}");
    }
    let fields = |body: &Value| -> Vec<String> {
        let fields = body.as_object().unwrap().iter();
        fields
            .inspect(|(name, value)| assert!(value.is_string(), "{name} in {answer:?}"))
            .map(|(name, _)| name.clone())
            .collect()
    };
    let recorded: Value = serde_json::from_str(body).unwrap();
    assert_eq!(fields(&answer.body), fields(&recorded));
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_of_other_releases_are_served_whatever_else_they_send() {
    let hub = started().await;
    hub.vended().await;
    for request in REQUESTS {
        let answer = send(&hub, request, &hub.bobs_token(), None).await;
        is_as_recorded(&answer, CREDENTIALS);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_of_other_releases_are_refused_in_words_that_they_can_pass_on() {
    let hub = started().await;
    for request in REQUESTS {
        is_as_recorded(&send(&hub, request, "hunter2", None).await, REFUSAL);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_sends_less_is_served_or_told_what_is_missing() {
    let hub = started().await;
    hub.vended().await;
    let token = hub.bobs_token();
    let [request, _] = REQUESTS;
    let without = async |name| send(&hub, request, &token, Some(name)).await;

    assert_eq!(without("user-agent").await.status, 200);
    let missing = without("hubstorage-peer").await;
    assert_eq!((missing.status, missing.code()), (400, "PeerMissing"));
    let missing = without("authorization").await;
    assert_eq!((missing.status, missing.code()), (401, "TokenMissing"));
}
