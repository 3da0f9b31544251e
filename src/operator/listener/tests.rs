//! A server on a real socket, with limits so small that each is met at once.

use std::net::{IpAddr, SocketAddr};

use axum::routing::get;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};

use super::*;

const AT_ONCE: Duration = Duration::from_millis(100);
const NEVER: Duration = Duration::from_secs(3600);

/// Nothing ends by itself.
const PATIENT: Limits = Limits {
    connections: Connections {
        total: 16,
        of_one_address: 16,
        when_crowded: 16,
    },
    handshake: NEVER,
    head_bytes: 16 * 1024,
    first_head: NEVER,
    idle: NEVER,
    drain: AT_ONCE,
};

struct Server {
    address: SocketAddr,
    client: Arc<ClientConfig>,
    _end: tokio_util::sync::DropGuard,
}

impl Server {
    fn start(limits: Limits) -> Self {
        let issued = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = issued.cert.der().clone();
        let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ending = Ending::default();
        let end = ending.closing.clone().drop_guard();
        let app = Router::new().route("/", get(async || "answered"));
        tokio::spawn(serve(app, listener, Arc::new(server), limits, ending));
        Self {
            address,
            client: Arc::new(client),
            _end: end,
        }
    }

    /// A connection that is made and not used yet.
    async fn connect(&self, from: &str) -> tokio::net::TcpStream {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        let from: IpAddr = from.parse().unwrap();
        socket.bind(SocketAddr::new(from, 0)).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    /// What the server says over TLS to these bytes, until it closes the connection.
    async fn says(&self, stream: tokio::net::TcpStream, bytes: &'static str) -> String {
        let name = ServerName::from("127.0.0.1".parse::<IpAddr>().unwrap());
        let tls = ClientConnection::new(self.client.clone(), name).unwrap();
        let stream = stream.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        let mut stream = StreamOwned::new(tls, stream);
        let exchange = move || {
            // What was not taken is not answered.
            _ = stream
                .write_all(bytes.as_bytes())
                .and_then(|()| stream.flush());
            let mut said = Vec::new();
            _ = stream.read_to_end(&mut said);
            String::from_utf8_lossy(&said).into_owned()
        };
        tokio::task::spawn_blocking(exchange).await.unwrap()
    }
}

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: server\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn who_does_not_speak_tls_is_told_nothing() {
    let server = Server::start(PATIENT);
    let mut plain = server.connect("127.0.0.1").await.into_std().unwrap();
    plain.set_nonblocking(false).unwrap();
    let exchange = move || {
        plain.write_all(REQUEST.as_bytes()).unwrap();
        let mut said = Vec::new();
        _ = plain.read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    };
    let said = tokio::task::spawn_blocking(exchange).await.unwrap();
    assert!(!said.contains("HTTP"), "{said}");

    let stream = server.connect("127.0.0.1").await;
    let said = server.says(stream, REQUEST).await;
    assert!(said.ends_with("answered"), "{said}");
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_not_waited_for() {
    let server = Server::start(Limits {
        handshake: AT_ONCE,
        ..PATIENT
    });
    let mut silent = server.connect("127.0.0.1").await.into_std().unwrap();
    silent.set_nonblocking(false).unwrap();
    let closed = move || silent.read_to_end(&mut Vec::new());
    let closed = tokio::task::spawn_blocking(closed).await.unwrap();
    assert_eq!(closed.unwrap_or_default(), 0);
}

#[tokio::test]
async fn a_head_that_does_not_end_is_not_waited_for() {
    let server = Server::start(Limits {
        first_head: AT_ONCE,
        ..PATIENT
    });
    let stream = server.connect("127.0.0.1").await;
    let said = server.says(stream, "GET / HTTP/1.1\r\nHost: ser").await;
    assert!(!said.contains("answered"), "{said}");
}

#[tokio::test]
async fn a_head_after_the_first_that_does_not_end_is_not_waited_for_either() {
    let server = Server::start(Limits {
        idle: AT_ONCE,
        ..PATIENT
    });
    let stream = server.connect("127.0.0.1").await;
    let requests = "GET / HTTP/1.1\r\nHost: server\r\n\r\nGET / HTTP/1.1\r\nHost: ser";
    let said = server.says(stream, requests).await;
    assert_eq!(said.matches("answered").count(), 1, "{said}");
}

#[tokio::test]
async fn a_head_of_more_bytes_than_the_limit_is_refused() {
    let server = Server::start(Limits {
        head_bytes: 8 * 1024,
        ..PATIENT
    });
    let long = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(1 << 20));
    let stream = server.connect("127.0.0.1").await;
    let said = server.says(stream, long.leak()).await;
    assert!(!said.contains("answered"), "{said}");
}

#[tokio::test]
async fn an_address_that_holds_all_its_connections_leaves_others_served() {
    let server = Server::start(Limits {
        connections: Connections {
            total: 16,
            of_one_address: 8,
            when_crowded: 1,
        },
        ..PATIENT
    });
    let mut held = Vec::new();
    for _ in 0..32 {
        held.push(server.connect("127.0.0.2").await);
    }

    let other = server.connect("127.0.0.3").await;
    let said = server.says(other, REQUEST).await;
    assert!(said.ends_with("answered"), "{said}");

    // It is what the first ones hold that keeps the next one out.
    let one_more = server.connect("127.0.0.2").await;
    assert_eq!(server.says(one_more, REQUEST).await, "");
    drop(held);
}
