//! A store that sends its callers elsewhere: to another server, or to the node's own metadata.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hubstorage_cloud::s3::{Addressing, Keys, S3Config, S3Store, StsSource};
use hubstorage_cloud::{CloudError, CredentialSource as _, ObjectStore as _, Secret};
use hubstorage_core::names::{BucketName, Prefix};
use hubstorage_core::policies::{Access, Place, PolicyDocument, Reach};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// A server that gives every request this answer; its URL, and how many requests came.
async fn server(answer: String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
            let mut request = [0; 8192];
            _ = connection.read(&mut request).await;
            _ = connection.write_all(answer.as_bytes()).await;
        }
    });
    (url, requests)
}

fn redirect(status: &str, to: &str) -> String {
    format!("HTTP/1.1 {status}\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

fn config(endpoint: &str) -> S3Config {
    S3Config {
        region: "us-east-1".into(),
        endpoint: Some(endpoint.parse().unwrap()),
        addressing: Addressing::Path,
        ca_bundle: None,
        keys: Keys::Static {
            from: "a Secret".into(),
            access_key_id: "key".into(),
            secret_access_key: Secret::new("secret"),
        },
    }
}

/// What each kind of call says about a store at `endpoint`.
async fn answers(endpoint: &str) -> [CloudError; 3] {
    let bucket = BucketName::parse("earth-scratch").unwrap();
    let own = Reach {
        bucket: bucket.clone(),
        place: Place::Own(Prefix::escaped(b"bob")),
        access: Access::ReadWrite,
    };
    let policy = PolicyDocument::allowing(&[own]).unwrap();
    let store = S3Store::connect(&config(endpoint)).await.unwrap();
    let source = StsSource::connect(&config(endpoint)).await.unwrap();
    [
        store.check_access().await.unwrap_err(),
        store.bucket_tags(&bucket).await.unwrap_err(),
        source
            .assume(None, "bob", &policy, Duration::from_secs(900))
            .await
            .unwrap_err(),
    ]
}

#[tokio::test]
async fn no_redirect_is_followed_and_the_error_says_where_it_led() {
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let (elsewhere, followed) = server("HTTP/1.1 200 OK\r\n\r\n".to_owned()).await;
        let (endpoint, asked) = server(redirect(status, &format!("{elsewhere}/x?y"))).await;

        for error in answers(&endpoint).await {
            let told = error.to_string();
            assert!(
                told.contains(&format!("redirects to {elsewhere},")),
                "{status}: {told}"
            );
            assert!(told.contains("spec.s3.endpoint"), "{status}: {told}");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 3, "{status}");
        assert_eq!(followed.load(Ordering::Relaxed), 0, "{status}");
    }
}

#[tokio::test]
async fn a_redirect_to_a_metadata_service_is_named_as_such() {
    let metadata = "http://169.254.169.254/latest/meta-data/iam/security-credentials/";
    let (endpoint, _) = server(redirect("307 Temporary Redirect", metadata)).await;

    for error in answers(&endpoint).await {
        let told = error.to_string();
        assert!(
            told.contains("redirects to http://169.254.169.254,"),
            "{told}"
        );
    }
}

#[tokio::test]
async fn a_name_is_resolved_by_the_one_resolver_that_knows_which_addresses_no_store_has() {
    // One character more than a label may have (RFC 1035): nobody has to be asked.
    let name = "x".repeat(64);
    for error in answers(&format!("http://{name}")).await {
        let CloudError::Unreachable { cause, .. } = error else {
            panic!("{error:?}")
        };
        assert!(
            cause.contains(&format!("the name {name} cannot be resolved")),
            "{cause}"
        );
    }
}
