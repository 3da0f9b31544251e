//! An agent before brokers of other releases: what it sends is recorded for them, and what they answer
//! for it (`wire/`).

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod fixture;

use fixture::{Authority, FakeBroker, RunningAgent, SECRET, TOKEN, directory, publish};

async fn broker_and_agent(test: &str) -> (FakeBroker, RunningAgent) {
    let authority = Authority::new("ca");
    let broker = FakeBroker::start("127.0.0.1:0", &authority).await;
    let ca = directory(test).join("ca.crt");
    publish(&ca, &authority.pem());
    let agent = RunningAgent::start(broker.address, ca).await;
    (broker, agent)
}

/// Status, headers and body of a recorded answer.
fn recorded(answer: &str) -> (u16, Vec<(String, String)>, String) {
    let (head, body) = answer.split_once("\n\n").unwrap();
    let (status, headers) = head.split_once('\n').unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_owned(), value.to_owned())
    };
    let body = body
        .trim_end()
        .replace("{id}", "AKIA")
        .replace("{secret}", SECRET)
        .replace("{session}", "session")
        .replace("{expiration}", "2030-01-01T00:00:00Z")
        .replace("{message}", "Do this.");
    let status = status.split(' ').nth(1).unwrap().parse().unwrap();
    (status, headers.lines().map(header).collect(), body)
}

#[tokio::test]
async fn what_is_sent_is_what_is_recorded_for_brokers_of_other_releases() {
    let (broker, agent) = broker_and_agent("recorded").await;

    agent.ask(TOKEN).await;

    let expected = include_str!("wire/0.1/request.http")
        .replace("{token}", TOKEN)
        .replace("{broker}", &broker.address.to_string())
        .replace("{peer}", "127.0.0.1")
        .replace("{version}", env!("CARGO_PKG_VERSION"));
    assert_eq!(broker.state().seen[0].head, expected);
}

#[tokio::test]
async fn credentials_of_a_broker_of_any_release_reach_the_sdk() {
    let (broker, agent) = broker_and_agent("skewed-credentials").await;
    for answer in [
        include_str!("wire/0.1/credentials.http"),
        include_str!("wire/later/credentials.http"),
    ] {
        let (status, headers, body) = recorded(answer);
        broker.answers(status, headers, &body);

        let answer = agent.ask(TOKEN).await;

        assert_eq!((answer.status, &answer.body), (200, &body));
        assert!(answer.head.contains("content-type: application/json"));
        assert!(answer.head.contains("cache-control: no-store"));
        assert!(!answer.head.contains("hubstorage-release"));
    }
}

#[tokio::test]
async fn a_refusal_that_this_release_does_not_know_reaches_the_sdk_in_its_own_words() {
    let (broker, agent) = broker_and_agent("skewed-refusal").await;
    for (answer, code) in [
        (include_str!("wire/0.1/refusal.http"), "TokenMalformed"),
        (
            include_str!("wire/later/refusal.http"),
            "NobodyKnowsThisCode",
        ),
    ] {
        let (status, headers, body) = recorded(answer);
        broker.answers(status, headers, &body);

        let answer = agent.ask(TOKEN).await;

        assert_eq!((answer.status, answer.code()), (status, code.to_owned()));
        assert_eq!(answer.message(), "Do this.");
    }
}

#[tokio::test]
async fn an_answer_that_this_release_cannot_pass_on_is_told_of_with_the_way_out() {
    let (broker, agent) = broker_and_agent("skewed-status").await;
    broker.answers(308, Vec::new(), r#"{"location":"/v2/credentials"}"#);

    let answer = agent.ask(TOKEN).await;

    assert_eq!(
        (answer.status, answer.code()),
        (502, "BrokerAnswerInvalid".to_owned())
    );
    assert!(answer.message().contains("status 308"));
    assert!(
        answer
            .message()
            .contains("Tell the administrators of the hub")
    );
}
