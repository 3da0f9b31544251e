//! Tokens that are no good, one of each kind and thousands of them a second. Alone in its binary:
//! cargo runs test binaries one after the other, so whatever the API server is asked meanwhile is
//! asked because of what is done here.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests"
)]

#[path = "control_plane/forge.rs"]
mod forge;
#[path = "control_plane/hub.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod hub;
#[path = "control_plane/replicas.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod replicas;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use forge::{Forge, claims};
use hub::{Hub, said, token_of};
use hubstorage_e2e::Platform;
use replicas::{POD, Replica, replicas, tcp};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;

/// The API server's calls are counted here, and both replicas are flooded: one at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Asks for credentials; ends well if there are some.
const ASK: &str = "import boto3; boto3.Session().get_credentials().get_frozen_credentials()";

/// As many addresses flood in each of the two ways.
const SOURCES: u8 = 2;

/// How many tokens the API server was asked about since it started.
async fn reviews(platform: &Platform) -> u64 {
    let metrics = platform.kubectl_prints(&["get", "--raw", "/metrics"]).await;
    let metrics = metrics.unwrap();
    let of_reviews = metrics.lines().filter(|line| {
        line.starts_with("apiserver_request_total{") && line.contains("\"tokenreviews\"")
    });
    of_reviews
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

/// Memory of a process that is in RAM, in MiB.
fn resident(platform: &Platform, component: &str) -> u64 {
    let status = format!("/proc/{}/status", platform.pid(component).unwrap());
    let status = std::fs::read_to_string(status).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.unwrap().parse::<u64>().unwrap() / 1024
}

fn with(claims: &Value, edit: impl FnOnce(&mut Value)) -> Value {
    let mut claims = claims.clone();
    edit(&mut claims);
    claims
}

/// One of each kind that is refused without asking anybody, and as what.
fn bad_tokens(forge: &Forge, good: &str) -> Vec<(String, &'static str)> {
    let claims = &claims(good);
    let now = claims["iat"].as_i64().unwrap();
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = message.split_once('.').unwrap();
    let others = forge.sign(&with(claims, |claims| claims["sub"] = json!("eve")));
    let others_claims = others.split('.').nth(1).unwrap();
    let sign = |edit: fn(&mut Value)| forge.sign(&with(claims, edit));
    vec![
        (
            sign(|claims| claims["aud"] = json!(["vault"])),
            "TokenAudience",
        ),
        (
            sign(|claims| claims["aud"] = json!("hubstorage.io.evil")),
            "TokenAudience",
        ),
        (
            forge.sign(&with(claims, |claims| claims["exp"] = json!(now - 3600))),
            "TokenExpired",
        ),
        (
            forge.sign(&with(claims, |claims| claims["nbf"] = json!(now + 3600))),
            "TokenNotYetValid",
        ),
        (
            sign(|claims| claims["iss"] = json!("https://kubernetes.example")),
            "TokenIssuer",
        ),
        (
            sign(|claims| claims["kubernetes.io"]["pod"] = Value::Null),
            "TokenUnbound",
        ),
        (forge.with_another_key().sign(claims), "TokenForged"),
        (
            format!("{header}.{others_claims}.{signature}"),
            "TokenForged",
        ),
        (forge.under_another_name().sign(claims), "TokenKeyUnknown"),
        (forge.unsigned(claims), "TokenAlgorithm"),
        (forge.signed_with_the_public_key(claims), "TokenAlgorithm"),
        (format!("{message}."), "TokenForged"),
        ("garbage".to_owned(), "TokenMalformed"),
        ("x".repeat(8 * 1024 + 1), "TokenTooLong"),
    ]
}

#[tokio::test]
async fn a_bad_token_of_each_kind_is_refused_by_its_name_and_the_api_server_hears_of_none() {
    let _alone = ALONE.lock().await;
    let hub = Hub::ready("kinds").await;
    let alice = hub.pod("alice", "alice").await;
    let good = token_of(&alice);
    let forge = Forge::of_the_api_server(&hub.platform).await;
    for replica in replicas(&hub.platform) {
        let from = Ipv4Addr::new(127, 0, 3, 1);
        let answer = replica.connect(from).await.unwrap().ask(&good, POD).await;
        assert_eq!(answer.unwrap().status, 200, "{}", replica.name);

        let before = reviews(&hub.platform).await;
        for (number, (bad, code)) in bad_tokens(&forge, &good).into_iter().enumerate() {
            // Each from an address of its own: none of them is stopped for what another one did.
            let from = Ipv4Addr::new(127, 0, 3, 2 + u8::try_from(number).unwrap());
            let mut connection = replica.connect(from).await.unwrap();
            let answer = connection.ask(&bad, POD).await.unwrap();
            assert_eq!((answer.status, answer.code()), (401, code), "{answer:?}");
        }
        // Not even taken in: the connection is closed, or told that the head is too long.
        let mut connection = replica.connect(from).await.unwrap();
        let huge = connection.ask(&"x".repeat(1 << 20), POD).await;
        assert!(huge.is_err() || huge.unwrap().status == 431);
        assert_eq!(reviews(&hub.platform).await, before, "{}", replica.name);

        // What only the API server knows: this pod never was, though the signature is right.
        let nobody = with(&claims(&good), |claims| {
            claims["kubernetes.io"]["pod"]["uid"] = json!("00000000-0000-4000-8000-000000000000");
        });
        let answer = replica.ask(&forge.sign(&nobody), POD).await;
        assert_eq!((answer.status, answer.code()), (401, "TokenRevoked"));
        assert_eq!(reviews(&hub.platform).await, before + 1, "{}", replica.name);
    }
    hub.remove().await;
}

/// In whose name bad tokens are sent.
#[derive(Clone, Copy)]
enum Claimed {
    /// One pod's, as by whoever is in it.
    One,
    /// Another pod's each time, as no agent would say: nobody is stopped for one pod's sake.
    Another,
}

/// Sends bad tokens to a replica until told to stop; gives how often each answer came.
async fn flood(
    replica: &Replica,
    source: u8,
    claimed: Claimed,
    tokens: &[(String, &'static str)],
    stop: &AtomicBool,
) -> BTreeMap<String, u64> {
    let from = Ipv4Addr::new(127, 0, 1, source);
    let mut answers = BTreeMap::new();
    let mut pods = (0x0a03_0000 + u32::from(source)..).map(Ipv4Addr::from);
    let mut pod = pods.next().unwrap();
    let mut connection = replica.connect(from).await.unwrap();
    for (token, _) in tokens.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if let Claimed::Another = claimed {
            pod = pods.next().unwrap();
        }
        match connection.ask(token, pod).await {
            Ok(answer) => {
                *answers.entry(answer.code().to_owned()).or_default() += 1;
                assert!(matches!(answer.status, 401 | 429), "{answer:?}");
            }
            // A head that is too long may cost the connection.
            Err(_) => connection = replica.connect(from).await.unwrap(),
        }
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn while_bad_tokens_pour_in_good_users_are_served_and_pods_admitted() {
    let _alone = ALONE.lock().await;
    let hub = Hub::ready("flood").await;
    let alice = hub.pod("alice", "alice").await;
    let good = token_of(&alice);
    said(&alice, ASK).await;
    let forge = Forge::of_the_api_server(&hub.platform).await;
    let tokens = Arc::new(bad_tokens(&forge, &good));
    let both = replicas(&hub.platform).map(Arc::new);
    let before = both
        .each_ref()
        .map(|replica| resident(&hub.platform, replica.name));
    let reviewed = reviews(&hub.platform).await;

    let stop = Arc::new(AtomicBool::new(false));
    let mut floods = tokio::task::JoinSet::new();
    let ways = (1..=SOURCES)
        .flat_map(|source| [(source, Claimed::One), (source + SOURCES, Claimed::Another)]);
    for (source, claimed) in ways {
        for replica in &both {
            let (replica, tokens, stop) = (replica.clone(), tokens.clone(), stop.clone());
            floods.spawn(async move { flood(&replica, source, claimed, &tokens, &stop).await });
        }
    }

    // Requests of good users: straight to each replica, and through the agent by an SDK.
    let mut asked = 0;
    for number in 0..3 {
        for replica in &both {
            for _ in 0..10 {
                let answer = replica.ask(&good, POD).await;
                assert_eq!(answer.status, 200, "{}: {answer:?}", replica.name);
                asked += 1;
            }
        }
        let pod = hub.pod(&format!("bob-{number}"), "bob").await;
        assert!(pod.environment().unwrap().contains_key("SCRATCH_BUCKET"));
        said(&pod, ASK).await;
        asked += 1;
    }

    stop.store(true, Ordering::Relaxed);
    let mut answers: BTreeMap<String, u64> = BTreeMap::new();
    while let Some(flood) = floods.join_next().await {
        for (code, count) in flood.unwrap() {
            *answers.entry(code).or_default() += count;
        }
    }
    println!("{asked} good ones were answered among {answers:?}");
    // Who keeps failing in one name is not listened to any more.
    assert!(answers.contains_key("TooManyFailures"), "{answers:?}");
    assert!(reviews(&hub.platform).await - reviewed <= asked);
    for (replica, before) in both.iter().zip(before) {
        let after = resident(&hub.platform, replica.name);
        println!("{}: {before} MiB before, {after} MiB after", replica.name);
        assert!(after < before + 64, "{}: {before}, {after}", replica.name);
    }
    hub.remove().await;
}

#[tokio::test]
async fn whoever_holds_connections_or_speaks_no_tls_is_in_nobodys_way() {
    let _alone = ALONE.lock().await;
    let hub = Hub::ready("holding").await;
    let alice = hub.pod("alice", "alice").await;
    let good = token_of(&alice);
    for replica in replicas(&hub.platform) {
        let mut plain = tcp(POD, replica.broker).await.unwrap();
        let request = format!(
            "GET /v1/credentials HTTP/1.1\r\nHost: broker\r\nAuthorization: Bearer {good}\r\n\
             Hubstorage-Peer: {POD}\r\n\r\n"
        );
        plain.write_all(request.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        _ = plain.read_to_end(&mut said).await;
        let said = String::from_utf8_lossy(&said);
        assert!(!said.contains("HTTP") && !said.contains("Token"), "{said}");

        let from = Ipv4Addr::new(127, 0, 2, 1);
        let mut held = Vec::new();
        for _ in 0..1100 {
            held.push(tcp(from, replica.broker).await.unwrap());
        }
        let answer = replica.ask(&good, POD).await;
        assert_eq!(answer.status, 200, "{}: {answer:?}", replica.name);
        // It is what the first ones hold that keeps the next one out.
        assert!(replica.connect(from).await.is_err(), "{}", replica.name);
    }
    said(&alice, ASK).await;
    hub.remove().await;
}
