//! What an SDK sends, what reaches the broker, and what comes back.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod fixture;

use fixture::{
    Authority, FakeBroker, RunningAgent, SECRET, TOKEN, connect_from, directory, exchange, publish,
    read_answer, until, write_request,
};

async fn broker_and_agent(test: &str) -> (FakeBroker, RunningAgent) {
    let authority = Authority::new("ca");
    let broker = FakeBroker::start("127.0.0.1:0", &authority).await;
    let ca = directory(test).join("ca.crt");
    publish(&ca, &authority.pem());
    let agent = RunningAgent::start(broker.address, ca).await;
    (broker, agent)
}

#[tokio::test]
async fn the_broker_gets_the_token_and_the_peer_and_the_sdk_gets_the_credentials() {
    let (broker, agent) = broker_and_agent("credentials").await;

    let answer = agent.ask(TOKEN).await;

    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, broker.state().body);
    assert!(answer.head.contains("content-type: application/json"));
    assert!(answer.head.contains("cache-control: no-store"));
    let seen = broker.state().seen[0].clone();
    assert_eq!(seen.path, "/v1/credentials");
    assert_eq!(seen.authorization, format!("Bearer {TOKEN}"));
    assert_eq!(seen.peer, "127.0.0.1");
    assert_eq!(
        seen.user_agent,
        concat!("hubstorage-agent/", env!("CARGO_PKG_VERSION"))
    );
}

#[tokio::test]
async fn the_peer_is_the_connections_whatever_the_request_claims() {
    let (broker, agent) = broker_and_agent("peer").await;
    let host = agent.address.to_string();
    let mut stream = connect_from("127.0.0.2", agent.address).await;

    write_request(
        &mut stream,
        "GET /v1/credentials",
        &[
            ("Host", &host),
            ("Authorization", TOKEN),
            ("Hubstorage-Peer", "10.0.0.9"),
            ("X-Custom", "mine"),
        ],
    )
    .await;
    let answer = read_answer(&mut stream).await;

    assert_eq!(answer.status, 200);
    let seen = broker.state().seen[0].clone();
    assert_eq!(seen.peer, "127.0.0.2");
    let mut headers = seen.headers;
    headers.sort();
    assert_eq!(
        headers,
        ["authorization", "host", "hubstorage-peer", "user-agent"]
    );
}

#[tokio::test]
async fn refusals_of_the_broker_are_passed_on_with_their_status() {
    let (broker, agent) = broker_and_agent("refused").await;
    for status in [401, 403, 404, 429, 500, 503] {
        let body = format!(r#"{{"code":"Because{status}","message":"Do this."}}"#);
        {
            let mut state = broker.state();
            state.status = status;
            state.body = body.clone();
        }

        let answer = agent.ask(TOKEN).await;

        assert_eq!((answer.status, answer.body), (status, body));
        assert!(!answer.head.contains("x-broker-internal"));
    }
}

#[tokio::test]
async fn an_answer_that_no_broker_gives_is_not_passed_on() {
    let (broker, agent) = broker_and_agent("invalid").await;
    for (status, body) in [
        (302, "{}".to_owned()),
        (404, "<html>nginx</html>".to_owned()),
        (200, String::new()),
        (200, format!("{{\"x\":\"{}\"}}", "y".repeat(64 * 1024))),
    ] {
        {
            let mut state = broker.state();
            state.status = status;
            state.body = body;
        }

        let answer = agent.ask(TOKEN).await;

        assert_eq!(answer.status, 502);
        assert_eq!(answer.code(), "BrokerAnswerInvalid");
    }
}

#[tokio::test]
async fn what_no_sdk_in_a_pod_sends_never_reaches_the_broker() {
    let (broker, agent) = broker_and_agent("refusals").await;
    let host = agent.address.to_string();
    let right = [("Host", host.as_str()), ("Authorization", TOKEN)];
    let with = |name, value| [right[0], right[1], (name, value)];
    let long = format!("a.b.{}", "c".repeat(10_000));

    let answers = [
        agent
            .send(
                "GET /v1/credentials",
                &with("Origin", "https://evil.example"),
            )
            .await,
        agent
            .send("GET /v1/credentials", &with("X-Forwarded-For", "10.0.0.1"))
            .await,
        agent
            .send(
                "GET /v1/credentials",
                &with("X-Forwarded-Host", "hub.example"),
            )
            .await,
        agent
            .send("GET /v1/credentials", &with("Forwarded", "for=10.0.0.1"))
            .await,
        agent
            .send(
                "GET /v1/credentials",
                &[("Host", "rebound.evil.example"), right[1]],
            )
            .await,
        agent.send("GET /v1/secrets", &right).await,
        agent.send("POST /v1/credentials", &right).await,
        agent.send("GET /v1/credentials", &right[..1]).await,
        agent.ask("not a token").await,
        agent.ask(&long).await,
    ];

    let got: Vec<_> = answers
        .iter()
        .map(|answer| (answer.status, answer.code()))
        .collect();
    let expected = [
        (403, "FromBrowser"),
        (403, "Proxied"),
        (403, "Proxied"),
        (403, "Proxied"),
        (403, "WrongHost"),
        (404, "NotFound"),
        (405, "MethodNotAllowed"),
        (401, "TokenMissing"),
        (401, "TokenMalformed"),
        (401, "TokenTooLong"),
    ]
    .map(|(status, code)| (status, code.to_owned()));
    assert_eq!(got, expected);
    assert!(answers.iter().all(|answer| !answer.body.contains('\n')));
    assert!(
        answers[7]
            .message()
            .contains("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    );
    assert_eq!(broker.state().seen.len(), 0);
}

#[tokio::test]
async fn a_head_without_end_is_cut_off() {
    let (broker, agent) = broker_and_agent("endless").await;

    let answer = agent.ask(&"c".repeat(40_000)).await;

    assert_eq!(answer.status, 431);
    assert_eq!(broker.state().seen.len(), 0);
}

#[tokio::test]
async fn localhost_is_a_name_of_a_loopback_listener() {
    let (_broker, agent) = broker_and_agent("localhost").await;
    let host = format!("localhost:{}", agent.address.port());

    let answer = agent
        .send(
            "GET /v1/credentials",
            &[("Host", &host), ("Authorization", TOKEN)],
        )
        .await;

    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_flood_from_one_peer_leaves_another_peer_served() {
    let (broker, agent) = broker_and_agent("flood").await;
    let host = agent.address.to_string();
    let mut flood = Vec::new();
    for _ in 0..200 {
        let mut stream = connect_from("127.0.0.1", agent.address).await;
        write_request(
            &mut stream,
            "GET /v1/credentials",
            &[("Host", &host), ("Authorization", "held.held.held")],
        )
        .await;
        flood.push(stream);
    }
    until("the flood reaches the broker", || {
        broker.state().seen.len() == 8
    })
    .await;

    let mut other = connect_from("127.0.0.2", agent.address).await;
    write_request(
        &mut other,
        "GET /v1/credentials",
        &[("Host", &host), ("Authorization", TOKEN)],
    )
    .await;
    let answer = read_answer(&mut other).await;

    assert_eq!(answer.status, 200);
    let peers: Vec<_> = broker
        .state()
        .seen
        .iter()
        .map(|seen| seen.peer.clone())
        .collect();
    assert_eq!(peers[8], "127.0.0.2");
    broker.release();
}

#[tokio::test]
async fn requests_beyond_a_peers_share_are_told_to_share_sessions() {
    let (broker, agent) = broker_and_agent("share").await;

    let answers = codes_of_held(&agent, 9).await;

    let count = |code: &str| answers.iter().filter(|found| *found == code).count();
    assert_eq!(broker.state().seen.len(), 8);
    assert_eq!(
        (count("BrokerTimeout"), count("TooManyRequests")),
        (8, 1),
        "{answers:?}"
    );
}

/// Codes of `count` requests that the broker never answers.
async fn codes_of_held(agent: &RunningAgent, count: usize) -> Vec<String> {
    let address = agent.address;
    let tasks: Vec<_> = (0..count)
        .map(|_| {
            tokio::spawn(async move {
                let host = address.to_string();
                let headers = [("Host", host.as_str()), ("Authorization", "held.held.held")];
                exchange(address, "GET /v1/credentials", &headers)
                    .await
                    .code()
            })
        })
        .collect();
    let mut codes = Vec::new();
    for task in tasks {
        codes.push(task.await.unwrap());
    }
    codes
}

#[tokio::test]
async fn metrics_count_requests_by_outcome_and_hold_no_secret() {
    let (broker, agent) = broker_and_agent("metrics").await;
    agent.ask(TOKEN).await;
    agent.ask("not a token").await;
    broker.state().status = 403;
    agent.ask(TOKEN).await;

    let metrics = agent.metrics().await;

    for line in [
        "hubstorage_agent_requests_total{outcome=\"Vended\"} 1\n",
        "hubstorage_agent_requests_total{outcome=\"TokenMalformed\"} 1\n",
        "hubstorage_agent_requests_total{outcome=\"BrokerRefused\"} 1\n",
        "hubstorage_agent_request_duration_seconds_count 2\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert!(!metrics.contains(SECRET) && !metrics.contains("signature"));
}
