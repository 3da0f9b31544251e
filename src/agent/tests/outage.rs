//! A broker or an authority that is missing, late, or replaced.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod fixture;

use std::fs;

use fixture::{Authority, FakeBroker, RunningAgent, TOKEN, directory, exchange, publish};

#[tokio::test]
async fn without_a_broker_the_answer_is_503_and_credentials_arrive_when_it_is_back() {
    let authority = Authority::new("ca");
    let ca = directory("down").join("ca.crt");
    publish(&ca, &authority.pem());
    // A loopback address of this test alone: nobody else takes the port meanwhile.
    let address = "127.0.3.1:8443";
    let agent = RunningAgent::start(address.parse().unwrap(), ca).await;

    let down = agent.ask(TOKEN).await;
    let broker = FakeBroker::start(address, &authority).await;
    let up = agent.ask(TOKEN).await;
    broker.stop().await;
    let down_again = agent.ask(TOKEN).await;
    let _broker = FakeBroker::start(address, &authority).await;
    let up_again = agent.ask(TOKEN).await;

    assert_eq!(
        (down.status, down.code()),
        (503, "BrokerUnreachable".to_owned())
    );
    assert!(down.message().contains("arrive by themselves"));
    assert_eq!(up.status, 200);
    assert_eq!(down_again.code(), "BrokerUnreachable");
    assert_eq!(up_again.status, 200);
}

#[tokio::test]
async fn one_replica_that_goes_away_is_not_noticed() {
    let authority = Authority::new("ca");
    let ca = directory("replica").join("ca.crt");
    publish(&ca, &authority.pem());
    let broker = FakeBroker::start("127.0.0.1:0", &authority).await;
    broker.state().drop_connections = 1;
    let agent = RunningAgent::start(broker.address, ca).await;

    let answer = agent.ask(TOKEN).await;

    assert_eq!(answer.status, 200);
    assert_eq!(broker.state().connections, 2);
}

#[tokio::test]
async fn the_connection_is_tried_twice_and_no_more() {
    let authority = Authority::new("ca");
    let ca = directory("twice").join("ca.crt");
    publish(&ca, &authority.pem());
    let broker = FakeBroker::start("127.0.0.1:0", &authority).await;
    broker.state().drop_connections = 2;
    let agent = RunningAgent::start(broker.address, ca).await;

    let answer = agent.ask(TOKEN).await;

    assert_eq!(answer.code(), "BrokerUnreachable");
    assert_eq!(broker.state().connections, 2);
}

#[tokio::test]
async fn a_broker_that_does_not_answer_is_given_up_while_the_sdk_still_listens() {
    let authority = Authority::new("ca");
    let ca = directory("silent").join("ca.crt");
    publish(&ca, &authority.pem());
    let broker = FakeBroker::start("127.0.0.1:0", &authority).await;
    let agent = RunningAgent::start(broker.address, ca).await;

    let answer = agent.ask("held.held.held").await;

    assert_eq!(
        (answer.status, answer.code()),
        (504, "BrokerTimeout".to_owned())
    );
    assert_eq!(broker.state().seen.len(), 1);
}

#[tokio::test]
async fn without_a_ca_file_the_reason_is_given_and_credentials_arrive_when_it_appears() {
    let authority = Authority::new("ca");
    let ca = directory("absent").join("ca.crt");
    let broker = FakeBroker::start("127.0.0.1:0", &authority).await;
    let agent = RunningAgent::start(broker.address, ca.clone()).await;

    let absent = agent.ask(TOKEN).await;
    let not_ready = exchange(agent.metrics_address, "GET /readyz", &[]).await;
    let healthy = exchange(agent.metrics_address, "GET /healthz", &[]).await;
    publish(&ca, &authority.pem());
    let present = agent.ask(TOKEN).await;
    let ready = exchange(agent.metrics_address, "GET /readyz", &[]).await;

    assert_eq!(
        (absent.status, absent.code()),
        (503, "BrokerCaMissing".to_owned())
    );
    assert!(absent.message().contains("does not exist yet"));
    assert_eq!((healthy.status, not_ready.status), (200, 503));
    assert_eq!((present.status, ready.status), (200, 200));
}

#[tokio::test]
async fn a_rotated_authority_is_trusted_without_a_restart() {
    let old = Authority::new("old");
    let new = Authority::new("new");
    let ca = directory("rotated").join("ca.crt");
    let address = "127.0.3.2:8443";
    publish(&ca, &old.pem());
    let agent = RunningAgent::start(address.parse().unwrap(), ca.clone()).await;
    let broker = FakeBroker::start(address, &old).await;

    let before = agent.ask(TOKEN).await;
    broker.stop().await;
    let broker = FakeBroker::start(address, &new).await;
    let unknown = agent.ask(TOKEN).await;
    let told = broker.state().seen.len();
    publish(&ca, &format!("{}{}", old.pem(), new.pem()));
    let after = agent.ask(TOKEN).await;

    assert_eq!(before.status, 200);
    assert_eq!(
        (unknown.status, unknown.code()),
        (503, "BrokerUntrusted".to_owned())
    );
    assert_eq!(told, 0, "the token was sent to a stranger");
    assert_eq!(after.status, 200);
}

#[tokio::test]
async fn an_authority_that_was_taken_out_is_trusted_no_more_not_even_on_open_connections() {
    let old = Authority::new("old");
    let ca = directory("distrusted").join("ca.crt");
    publish(&ca, &old.pem());
    let broker = FakeBroker::start("127.0.0.1:0", &old).await;
    let agent = RunningAgent::start(broker.address, ca.clone()).await;

    let before = agent.ask(TOKEN).await;
    publish(&ca, &Authority::new("new").pem());
    let after = agent.ask(TOKEN).await;

    assert_eq!(before.status, 200);
    assert_eq!(after.code(), "BrokerUntrusted");
    assert_eq!(broker.state().seen.len(), 1);
}

#[tokio::test]
async fn a_ca_file_that_is_removed_or_broken_later_changes_nothing() {
    let authority = Authority::new("ca");
    let ca = directory("removed").join("ca.crt");
    publish(&ca, &authority.pem());
    let broker = FakeBroker::start("127.0.0.1:0", &authority).await;
    let agent = RunningAgent::start(broker.address, ca.clone()).await;

    fs::remove_file(&ca).unwrap();
    let removed = agent.ask(TOKEN).await;
    publish(&ca, "not a certificate");
    let broken = agent.ask(TOKEN).await;

    assert_eq!((removed.status, broken.status), (200, 200));
}
