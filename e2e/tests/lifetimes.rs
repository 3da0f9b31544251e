//! Sessions that last as long as they do: nobody tells clients of another end here, and nobody revokes
//! anything. A look at the beginning, in `make test`; for whole lifetimes `make soak` runs it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

#[path = "control_plane/clients.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod clients;
#[path = "control_plane/hub.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod hub;

use std::time::{Duration, Instant};

use clients::{Client, all_write_and_read};
use hub::Hub;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// How often there is work to do. DuckDB asks anew only when it was refused, and so at its next work.
const WORKS_EVERY: Duration = Duration::from_secs(30);

/// As kubelets do it: when 80 % of a token's hour are over.
const TOKENS_EVERY: Duration = Duration::from_secs(48 * 60);

#[tokio::test]
async fn every_kind_of_client_works_for_as_long_as_it_is_asked_to() {
    let lifetimes = std::env::var("HUBSTORAGE_SOAK_LIFETIMES").unwrap_or_default();
    let lifetimes: usize = lifetimes.parse().unwrap_or_default();
    let hub = Hub::ready("lifetimes").await;
    let alice = hub.pod("alice", "alice").await;
    let mut clients = Client::all(&hub, &alice, SignedDuration::MAX).await;
    let mut renewed = Instant::now();
    let mut rounds = 0;

    loop {
        let outlived = clients.iter().map(outlived).min().unwrap();
        all_write_and_read(&mut clients, &format!("round {rounds}")).await;
        rounds += 1;
        if outlived >= lifetimes {
            break;
        }
        if renewed.elapsed() > TOKENS_EVERY {
            alice.renew_tokens(&hub.platform).await.unwrap();
            renewed = Instant::now();
        }
        tokio::time::sleep(WORKS_EVERY).await;
    }

    for client in &clients {
        let (name, sessions) = (client.name, client.sessions().len());
        // `make soak` puts these lines into its page.
        println!("| {name} | {rounds} | {} | {sessions} |", client.fetched());
        assert!(sessions > lifetimes, "{name} had {sessions} sessions");
    }
    drop(clients);
    hub.remove().await;
}

/// How many of its sessions have ended by now.
fn outlived(client: &Client) -> usize {
    let now = Timestamp::now();
    let sessions = client.sessions();
    sessions.iter().filter(|session| session.ends < now).count()
}
