//! The brokers of both replicas of `serve`, asked one by one and without an agent between, as whoever
//! reaches their ports can ask.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use hubstorage_e2e::Platform;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The address of every pod on paper.
pub const POD: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Where who asks here is, as the brokers see it: not where the agent is, which is not to be stopped for
/// what is tried here.
const ASKING: Ipv4Addr = Ipv4Addr::new(127, 0, 4, 1);

/// One of the two.
pub struct Replica {
    /// Its component.
    pub name: &'static str,
    pub broker: SocketAddr,
    tls: Arc<ClientConfig>,
}

/// Both.
pub fn replicas(platform: &Platform) -> [Replica; 2] {
    let tls = Arc::new(trusting(&platform.checkout.run("broker-ca.crt")));
    ["serve-1", "serve-2"].map(|name| Replica {
        name,
        broker: platform.ports.address(&format!("{name}-broker")).unwrap(),
        tls: tls.clone(),
    })
}

fn trusting(authority: &Path) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = rustls::crypto::ring::default_provider();
    ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// What a broker said.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    /// `Vended`, or the code of the refusal.
    pub fn outcome(&self) -> &str {
        match self.status {
            200 => "Vended",
            _ => self.code(),
        }
    }

    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}

impl Replica {
    /// One request for a pod, on a connection of its own.
    pub async fn ask(&self, token: &str, pod: Ipv4Addr) -> Answer {
        let connection = self.connect(ASKING).await;
        connection.unwrap().ask(token, pod).await.unwrap()
    }

    /// A connection from this address.
    pub async fn connect(&self, from: Ipv4Addr) -> std::io::Result<Connection> {
        let stream = tcp(from, self.broker).await?;
        let name = ServerName::from(self.broker.ip());
        let connector = TlsConnector::from(self.tls.clone());
        let stream = connector.connect(name, stream).await?;
        Ok(Connection(BufReader::new(stream)))
    }
}

/// A connection whose other end sees `from`.
pub async fn tcp(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(IpAddr::V4(from), 0))?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One connection, for as many requests as wanted.
pub struct Connection(BufReader<TlsStream<TcpStream>>);

impl Connection {
    /// One request for a pod. An error is a connection that the broker has closed.
    pub async fn ask(&mut self, token: &str, pod: Ipv4Addr) -> std::io::Result<Answer> {
        let head = format!(
            "GET /v1/credentials HTTP/1.1\r\nHost: broker\r\nAuthorization: Bearer {}\r\nHubstorage-Peer: {pod}\r\n\r\n",
            token.trim()
        );
        self.0.write_all(head.as_bytes()).await?;
        self.0.flush().await?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        let head = head.to_ascii_lowercase();
        let status = head[9..12].parse().unwrap();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await?;
        let body = serde_json::from_slice(&body).unwrap_or_default();
        Ok(Answer { status, body })
    }
}
