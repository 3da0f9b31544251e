//! Whoever reaches the broker's port without being an agent.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::hub::{BOBS_ADDRESS, Hub};
use crate::started;

/// Requests on one connection: their answers fit into what the kernel holds until they are read.
const AT_ONCE: usize = 100;

/// Requests with garbage, each in the name of another pod, until one of them is not even looked at.
async fn flood_until_stopped(hub: &Hub, from: Ipv4Addr) {
    let mut pods = (0x0a02_0000..).map(Ipv4Addr::from);
    loop {
        let requests: String = pods
            .by_ref()
            .take(AT_ONCE)
            .enumerate()
            .map(|(number, pod)| {
                let is_last = number + 1 == AT_ONCE;
                let connection = if is_last { "close" } else { "keep-alive" };
                format!(
                    "GET /v1/credentials HTTP/1.1\r\nHost: broker\r\nConnection: {connection}\r\n\
                     Authorization: Bearer garbage\r\nHubstorage-Peer: {pod}\r\n\r\n"
                )
            })
            .collect();
        let answers = hub.send_from(from, requests).await;
        assert_eq!(answers.matches("HTTP/1.1 4").count(), AT_ONCE);
        if answers.contains("TooManyStrangers") {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_speaks_for_another_pod_each_time_is_stopped_and_agents_are_not() {
    let hub = started().await;
    hub.vended().await;
    let reviews = hub.api.calls_to("tokenreviews");

    let flood = flood_until_stopped(&hub, Ipv4Addr::new(127, 0, 0, 9));
    let stopped = tokio::time::timeout(Duration::from_secs(60), flood);
    stopped.await.unwrap();

    assert_eq!(hub.api.calls_to("tokenreviews"), reviews);
    let answer = hub.ask(&hub.bobs_token(), BOBS_ADDRESS).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}
