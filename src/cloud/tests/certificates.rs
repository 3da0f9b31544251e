//! What is said about a store whose certificate is of no use: in a condition, so the same words at
//! every try.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::sync::Arc;

use hubstorage_cloud::s3::{Addressing, Keys, S3Config, S3Store};
use hubstorage_cloud::{CloudError, ObjectStore as _, Secret};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// First and last year of a certificate.
type Years = (i32, i32);

/// An authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new([]).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = parameters.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(parameters, key),
            pem,
        }
    }

    /// A store that gets no further than the handshake; its address.
    async fn store(&self, name: &str, (first, last): Years) -> String {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new([name.to_owned()]).unwrap();
        parameters.not_before = date_time_ymd(first, 1, 1);
        parameters.not_after = date_time_ymd(last, 1, 1);
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                drop(acceptor.accept(connection).await);
            }
        });
        format!("https://{address}")
    }
}

async fn unreachable(endpoint: &str, trusted: &Authority) -> String {
    let config = S3Config {
        region: "us-east-1".into(),
        endpoint: Some(endpoint.parse().unwrap()),
        addressing: Addressing::Path,
        ca_bundle: Some(trusted.pem.clone().into_bytes()),
        keys: Keys::Static {
            from: "a Secret".into(),
            access_key_id: "key".into(),
            secret_access_key: Secret::new("secret"),
        },
    };
    let store = S3Store::connect(&config).await.unwrap();
    match store.check_access().await.unwrap_err() {
        CloudError::Unreachable { cause, .. } => cause,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn each_fault_of_a_certificate_is_told_in_fixed_words() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let renewed = Authority::new("ours");
    let (past, now, future) = ((2001, 2002), (2001, 2090), (2089, 2090));
    let host = "127.0.0.1";
    let untrusted =
        "is signed by an authority that is not trusted; put that authority into spec.s3.caBundle";
    let cases = [
        (&ours, host, past, "has expired; renew it"),
        (
            &ours,
            host,
            future,
            "is not valid yet; set the clocks of both sides right",
        ),
        (
            &ours,
            "store.example.org",
            now,
            "is for another name; use one of the certificate's names in spec.s3.endpoint",
        ),
        (&theirs, host, now, untrusted),
        (&renewed, host, now, untrusted),
    ];
    for (authority, name, years, told) in cases {
        let endpoint = authority.store(name, years).await;

        let cause = unreachable(&endpoint, &ours).await;

        assert_eq!(cause, format!("its certificate {told}"));
    }
}
