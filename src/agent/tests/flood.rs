//! The program itself, when one pod wants all of it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod fixture;

use std::net::SocketAddr;

use fixture::process::broker_and_process;
use fixture::{TOKEN, connect_from, read_answer, until, write_request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Each loopback address is another pod to the agent.
const FLOODER: &str = "127.0.0.2";
const OTHER: &str = "127.0.0.3";

/// Statuses of as many answers to a pod that asks as it should, each on a connection of its own.
async fn statuses(address: SocketAddr, requests: usize) -> Vec<u16> {
    let host = address.to_string();
    let headers = [("Host", host.as_str()), ("Authorization", TOKEN)];
    let mut statuses = Vec::new();
    for _ in 0..requests {
        let mut stream = connect_from(OTHER, address).await;
        write_request(&mut stream, "GET /v1/credentials", &headers).await;
        statuses.push(read_answer(&mut stream).await.status);
    }
    statuses
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_holds_all_its_connections_leaves_another_served() {
    let (_broker, process) = broker_and_process("holding").await;
    let mut held = Vec::new();
    for _ in 0..300 {
        let mut stream = connect_from(FLOODER, process.address).await;
        // A head that does not end; connections beyond the share are closed already.
        _ = stream.write_all(b"GET /v1/credentials HTTP/1.1\r\n").await;
        held.push(stream);
    }

    assert_eq!(statuses(process.address, 20).await, [200; 20]);

    // It is what the first ones hold that keeps the next one out.
    let mut one_more = connect_from(FLOODER, process.address).await;
    let said = one_more.read_to_end(&mut Vec::new()).await;
    assert_eq!(said.unwrap_or_default(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_asks_without_end_leaves_another_served_and_the_agent_small() {
    let (broker, process) = broker_and_process("asking").await;
    let address = process.address;
    // Few of them wait for the broker: that would slow the others down.
    let tokens = ["a.b.c", "garbage", "a.b.c", "", "a.b.c", "garbage", "a.b.c"];
    let flood: Vec<_> = tokens
        .into_iter()
        .chain(["held.held.held"])
        .cycle()
        .take(64)
        .map(|token| {
            tokio::spawn(async move {
                let host = address.to_string();
                let headers = [("Host", host.as_str()), ("Authorization", token)];
                loop {
                    let mut stream = connect_from(FLOODER, address).await;
                    write_request(&mut stream, "GET /v1/credentials", &headers).await;
                    read_answer(&mut stream).await;
                }
            })
        })
        .collect();
    until("the flood reaches the broker", || {
        broker.state().seen.len() > 100
    })
    .await;

    let others = statuses(address, 20).await;

    for task in &flood {
        assert!(!task.is_finished(), "the flood ended by itself");
        task.abort();
    }
    assert_eq!(others, [200; 20]);
    let resident = process.resident_kib();
    // `CONNECTIONS` in limits.rs.
    assert!(resident < 80 * 1024, "{resident} KiB");
    broker.release();
}
