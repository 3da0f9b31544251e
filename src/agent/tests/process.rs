//! The program itself: flags, logs, signals.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod fixture;

use std::process::Output;

use fixture::process::{agent, broker_and_process, broker_and_process_at};
use fixture::{
    SECRET, TOKEN, connect_from, directory, exchange, read_answer, until, write_request,
};

async fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = agent(arguments).output().await.unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[tokio::test]
async fn neither_tokens_nor_credentials_are_in_the_log_at_any_level() {
    let (broker, process) = broker_and_process_at("trace", "log").await;
    let host = process.address.to_string();
    let headers = [("Host", host.as_str()), ("Authorization", TOKEN)];

    let vended = exchange(process.address, "GET /v1/credentials", &headers).await;
    let malformed = [
        ("Host", host.as_str()),
        ("Authorization", "signatureofthetoken alone"),
    ];
    exchange(process.address, "GET /v1/credentials", &malformed).await;
    broker.stop().await;
    exchange(process.address, "GET /v1/credentials", &headers).await;
    process.terminate().await;
    let (_, log) = process.end().await;

    assert_eq!(vended.status, 200);
    assert!(log.contains("BrokerUnreachable"), "{log}");
    assert!(log.contains("TokenMalformed"), "{log}");
    for secret in ["signatureofthetoken", "payloadofthetoken", SECRET] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
    for line in log.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok());
    }
}

#[tokio::test]
async fn sigterm_lets_requests_in_flight_end_and_exits_with_0() {
    let (broker, process) = broker_and_process("sigterm").await;
    let host = process.address.to_string();
    let mut stream = connect_from("127.0.0.1", process.address).await;
    write_request(
        &mut stream,
        "GET /v1/credentials",
        &[("Host", &host), ("Authorization", "held.held.held")],
    )
    .await;
    until("the request reaches the broker", || {
        broker.state().seen.len() == 1
    })
    .await;

    process.terminate().await;
    let refused = async {
        while tokio::net::TcpStream::connect(process.address)
            .await
            .is_ok()
        {
            tokio::task::yield_now().await;
        }
    };
    refused.await;
    broker.release();
    let answer = read_answer(&mut stream).await;
    let (code, _) = process.end().await;

    assert_eq!(answer.status, 200);
    assert_eq!(code, Some(0));
}

#[tokio::test]
async fn a_broker_url_without_tls_is_refused_at_start() {
    let (code, stderr) = run(&["--broker-url=http://broker", "--broker-ca=ca.crt"]).await;

    assert_eq!(code, Some(2));
    assert!(stderr.contains("is not https"), "{stderr}");
}

#[tokio::test]
async fn an_address_that_the_node_does_not_have_is_named_with_the_way_out() {
    let (code, stderr) = run(&[
        "--listen=192.0.2.1:8180",
        "--broker-url=https://broker",
        "--broker-ca=ca.crt",
    ])
    .await;

    assert_eq!(code, Some(1));
    assert!(
        stderr.contains("add-address --address 192.0.2.1"),
        "{stderr}"
    );
}

#[tokio::test]
async fn every_flag_has_a_twin_in_the_environment() {
    let Output { status, stderr, .. } = agent(&[])
        .env("HUBSTORAGE_LISTEN", "192.0.2.1:8180")
        .env("HUBSTORAGE_BROKER_URL", "https://broker")
        .env("HUBSTORAGE_BROKER_CA", "ca.crt")
        .env("HUBSTORAGE_METRICS_LISTEN", "127.0.0.1:0")
        .env("HUBSTORAGE_SHARE_PORT", "true")
        .env("HUBSTORAGE_PROBE_SOCKET", directory("twin").join("agent"))
        .env("HUBSTORAGE_LOG_LEVEL", "error")
        .output()
        .await
        .unwrap();

    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(
        stderr.contains("cannot listen on 192.0.2.1:8180"),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}
