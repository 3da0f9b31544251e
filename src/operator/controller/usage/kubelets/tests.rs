use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::get;
use kube::client::Body;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tower::service_fn;

use super::*;
use crate::listener::{Connections, Ending, Limits, serve};

const PATIENCE: Duration = Duration::from_secs(60);

/// A kubelet on loopback that has signed its own certificate, and takes one token.
struct Stand {
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    _end: tokio_util::sync::DropGuard,
}

impl Stand {
    fn start(token: &'static str, status: StatusCode, body: &'static str) -> Self {
        let issued = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = issued.cert.der().clone();
        let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ending = Ending::default();
        let end = ending.closing.clone().drop_guard();
        let answer = async move |headers: HeaderMap| {
            let expected = format!("Bearer {token}");
            match headers
                .get(AUTHORIZATION)
                .is_some_and(|sent| *sent == expected)
            {
                true => (status, body),
                false => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            }
        };
        let app = Router::new().route("/stats/summary", get(answer));
        let limits = Limits {
            connections: Connections {
                total: 16,
                of_one_address: 16,
                when_crowded: 16,
            },
            handshake: PATIENCE,
            head_bytes: 16 * 1024,
            first_head: PATIENCE,
            idle: PATIENCE,
            drain: Duration::ZERO,
        };
        tokio::spawn(serve(app, listener, Arc::new(tls), limits, ending));
        Self {
            address,
            certificate,
            _end: end,
        }
    }

    fn kubelet(&self) -> Kubelet {
        Kubelet {
            name: "worker".to_owned(),
            address: self.address.to_string(),
        }
    }

    fn trusting(&self) -> Trusted {
        Trusted::Given(vec![self.certificate.clone()])
    }
}

/// Kubelets of a cluster whose API server gives the token `given`, so often.
fn kubelets(trusted: Trusted) -> (Kubelets, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let api_server = service_fn(move |request: Request<Body>| {
        let expected =
            "/api/v1/namespaces/hubstorage-system/serviceaccounts/hubstorage-usage/token";
        assert_eq!(request.uri().path(), expected);
        count.fetch_add(1, Ordering::Relaxed);
        let answer = json!({
            "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "metadata": {},
            "spec": {"audiences": []},
            "status": {"token": "given", "expirationTimestamp": "2026-01-01T00:10:00Z"},
        });
        async move {
            Ok::<_, std::convert::Infallible>(http::Response::new(Body::from(
                answer.to_string().into_bytes(),
            )))
        }
    });
    let kubelets = Kubelets {
        client: Client::new(api_server, "default"),
        clock: Arc::new(|| "2026-01-01T00:00:00Z".parse().unwrap()),
        trusted,
        token: Mutex::default(),
    };
    (kubelets, asked)
}

const SUMMARY: &str = r#"{"node": {}, "pods": [{"podRef": {"uid": "1"}, "volume": [
    {"pvcRef": {"name": "claim-bob", "namespace": "earth"}, "usedBytes": 1, "availableBytes": 1, "capacityBytes": 2}
]}]}"#;

async fn summary(kubelets: &Kubelets, kubelet: &Kubelet) -> Result<NodeSummary, Trouble> {
    kubelets.asking().await.unwrap().summary(kubelet).await
}

#[tokio::test]
async fn a_kubelet_is_asked_with_the_token_of_an_account_of_its_own_that_is_asked_for_once() {
    let stand = Stand::start("given", StatusCode::OK, SUMMARY);
    let (kubelets, asked) = kubelets(stand.trusting());
    for _ in 0..2 {
        let summary = summary(&kubelets, &stand.kubelet()).await.unwrap();
        let claims: Vec<_> = summary.claims().map(|(_, _, claim, _)| claim).collect();
        assert_eq!(claims, ["claim-bob"]);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_token_that_ends_soon_is_not_used_any_more() {
    let (mut kubelets, asked) = kubelets(Trusted::All);
    kubelets.clock = Arc::new(|| "2026-01-01T00:09:00Z".parse().unwrap());
    for _ in 0..2 {
        kubelets.token().await.unwrap();
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_certificate_that_the_kubelet_has_signed_itself_is_refused_unless_somebody_says_so() {
    let stand = Stand::start("given", StatusCode::OK, SUMMARY);
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (strict, _) = kubelets(Trusted::Given(vec![other.cert.der().clone()]));
    let refused = summary(&strict, &stand.kubelet()).await;
    assert_eq!(refused, Err(Trouble::UnknownAuthority));
    let (lenient, _) = kubelets(Trusted::All);
    summary(&lenient, &stand.kubelet()).await.unwrap();
}

#[tokio::test]
async fn a_certificate_of_another_name_is_told_as_that() {
    let stand = Stand::start("given", StatusCode::OK, SUMMARY);
    let (kubelets, _) = kubelets(stand.trusting());
    let elsewhere = Kubelet {
        address: format!("localhost:{}", stand.address.port()),
        ..stand.kubelet()
    };
    let refused = summary(&kubelets, &elsewhere).await;
    assert_eq!(refused, Err(Trouble::BadCertificate));
}

#[tokio::test]
async fn what_a_kubelet_refuses_is_told_with_what_it_means() {
    for (token, status, trouble) in [
        ("another", StatusCode::OK, Trouble::Unauthorized),
        ("given", StatusCode::FORBIDDEN, Trouble::Forbidden),
        ("given", StatusCode::BAD_GATEWAY, Trouble::Refused),
        ("given", StatusCode::OK, Trouble::Unreadable),
    ] {
        let stand = Stand::start(token, status, "no JSON");
        let (kubelets, _) = kubelets(stand.trusting());
        assert_eq!(summary(&kubelets, &stand.kubelet()).await, Err(trouble));
    }
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    let endless = "[".repeat(LONGEST_ANSWER + 1).leak();
    let stand = Stand::start("given", StatusCode::OK, endless);
    let (kubelets, _) = kubelets(stand.trusting());
    let answer = summary(&kubelets, &stand.kubelet()).await;
    assert_eq!(answer, Err(Trouble::Unreadable));
}

#[tokio::test]
async fn a_node_that_nobody_reaches_or_that_says_nothing_is_told_as_that() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let (kubelets, _) = kubelets(Trusted::All);
    let nobody = Kubelet {
        name: "worker".to_owned(),
        address: free.local_addr().unwrap().to_string(),
    };
    // It listens, and does not answer.
    let silent = summary(&kubelets, &nobody).await;
    assert_eq!(silent, Err(Trouble::Unreachable));
    drop(free);
    let refused = summary(&kubelets, &nobody).await;
    assert_eq!(refused, Err(Trouble::Unreachable));
}

fn node(ready: &str, addresses: Value) -> Node {
    serde_json::from_value(json!({
        "metadata": {"name": "worker"},
        "status": {
            "conditions": [{"type": "Ready", "status": ready}],
            "addresses": addresses,
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        },
    }))
    .unwrap()
}

#[test]
fn a_kubelet_is_where_its_node_says_and_nowhere_while_that_is_not_ready() {
    let addresses = json!([
        {"type": "Hostname", "address": "worker"},
        {"type": "InternalIP", "address": "10.0.0.7"},
    ]);
    let of = |node: &Node| kubelet(node).map(|kubelet| kubelet.address);
    assert_eq!(
        of(&node("True", addresses.clone())).unwrap(),
        "10.0.0.7:10250"
    );
    for ready in ["False", "Unknown"] {
        assert_eq!(of(&node(ready, addresses.clone())), None);
    }
    let six = json!([{"type": "InternalIP", "address": "fd00::7"}]);
    assert_eq!(of(&node("True", six)).unwrap(), "[fd00::7]:10250");
    assert_eq!(of(&node("True", json!([]))), None);
}

#[test]
fn what_is_no_certificate_is_refused_at_the_start() {
    let issued = rcgen::generate_simple_self_signed(vec!["worker".to_owned()]).unwrap();
    let two = format!("{0}\n{0}", issued.cert.pem());
    assert_eq!(tls::certificates(&two).unwrap().len(), 2);
    for text in [
        "",
        "no PEM",
        "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n",
    ] {
        let error = tls::certificates(text).unwrap_err().to_string();
        assert!(error.contains("--kubelet-certificate-authority"), "{error}");
    }
}
