//! Credentials come and go while a user's code runs on, and it does not notice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use hubstorage_e2e::between::{Between, Passing};
use serde_json::json;

use crate::clients::{AT_ONCE, Client, Revocable, Session, all_write_and_read};
use crate::hub::{Hub, failed, said, token_of};

const ASK: &str =
    "import boto3; print(boto3.Session().get_credentials().get_frozen_credentials().access_key)";

/// How often sessions are replaced under the clients' feet.
const ROTATIONS: usize = 3;

#[tokio::test]
async fn every_kind_of_client_works_on_while_its_sessions_are_replaced_and_the_former_ones_revoked()
{
    let rotated = Revocable::ready("refresh").await;
    let alice = rotated.hub.pod("alice", "alice").await;
    let mut clients = Client::all(&rotated.hub, &alice, AT_ONCE).await;
    all_write_and_read(&mut clients, "at the start").await;

    let mut revoked: Vec<Session> = Vec::new();
    for rotation in 1..=ROTATIONS {
        let fetched: Vec<usize> = clients.iter().map(Client::fetched).collect();
        let in_use = sessions_beside(&clients, &revoked);
        for session in &in_use {
            assert_eq!(session.is_told(&alice).await, "done");
        }
        rotated.revoke_sessions().await;
        for session in &in_use {
            assert_eq!(session.is_told(&alice).await, "InvalidAccessKeyId");
        }
        revoked.extend(in_use);
        // As a kubelet does after 48 minutes: clients read the token anew, too.
        alice.renew_tokens(&rotated.hub.platform).await.unwrap();
        rotated.grant_more(&format!("rotation-{rotation}")).await;
        rotated
            .until_both_replicas_issue_others(&alice, &revoked)
            .await;

        all_write_and_read(&mut clients, &format!("after rotation {rotation}")).await;

        for (client, fetched) in clients.iter().zip(fetched) {
            let name = client.name;
            assert!(client.fetched() > fetched, "{name} has asked for nothing");
            assert_eq!(client.refused(), 0, "{name}");
        }
    }
    drop(clients);
    rotated.remove().await;
}

/// The sessions that clients were given, but for these.
fn sessions_beside(clients: &[Client], known: &[Session]) -> Vec<Session> {
    let mut found: Vec<Session> = Vec::new();
    for session in clients.iter().flat_map(Client::sessions) {
        if !known.contains(&session) && !found.contains(&session) {
            found.push(session);
        }
    }
    found
}

/// The store, whose token service can be out.
#[derive(Default)]
struct Store {
    sts_is_out: AtomicBool,
}

impl Passing for Store {
    fn request(&self, request: &mut Request<Bytes>) -> Option<Response<Bytes>> {
        // Nothing else is posted to the root.
        let is_sts = request.method() == Method::POST && request.uri().path() == "/";
        if !is_sts || !self.sts_is_out.load(Ordering::Relaxed) {
            return None;
        }
        let mut out = Response::new(Bytes::new());
        *out.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        Some(out)
    }
}

#[tokio::test]
async fn while_the_stores_token_service_is_out_work_goes_on_and_new_users_are_served_once_it_is_back()
 {
    let hub = Hub::namespace("sts-out").await;
    let minio: SocketAddr = hub.platform.ports.address("minio").unwrap();
    let store = Arc::new(Store::default());
    let between = Between::start(minio, store.clone()).await.unwrap();
    let mut provider = hub.provider();
    provider["spec"]["s3"]["endpoint"] = json!(between.url());
    hub.apply(&provider).await;
    hub.apply(&hub.storage()).await;
    hub.until_probed().await;
    let (alice, bob) = (hub.pod("alice", "alice").await, hub.pod("bob", "bob").await);
    let mut clients = Client::all(&hub, &alice, AT_ONCE).await;
    all_write_and_read(&mut clients, "before").await;
    // Which of them is asked during the outage is not for the clients to say.
    hub.until_everywhere(&token_of(&alice), "Vended").await;

    store.sts_is_out.store(true, Ordering::Relaxed);
    all_write_and_read(&mut clients, "during").await;
    let told = failed(&bob, ASK).await;
    store.sts_is_out.store(false, Ordering::Relaxed);

    assert!(
        told.contains("StoreFailed") || told.contains("StoreSlow"),
        "{told}"
    );
    hub.until("bob's first credentials", async || {
        bob.python(ASK).await.is_ok()
    })
    .await;
    all_write_and_read(&mut clients, "afterwards").await;
    said(&bob, ASK).await;
    drop(clients);
    hub.remove().await;
}
