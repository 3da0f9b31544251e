//! One GET, to ask a component for its health.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Longer than a healthy component ever takes to say that it is.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// Whom to trust, and as whom to ask.
pub struct Tls(rustls::ClientConfig);

impl Tls {
    /// Trusts `ca.crt` in `folder`, and presents `NAME.crt` with `NAME.key`.
    pub fn load(folder: &Path, name: &str) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(folder.join("ca.crt"))?)?;
        let certificate = CertificateDer::from_pem_file(folder.join(format!("{name}.crt")))?;
        let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key")))?;
        let provider = rustls::crypto::ring::default_provider();
        let config = rustls::ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)?;
        Ok(Self(config))
    }
}

/// The body of `url`, which must answer 200; `tls` is for https.
pub async fn get(url: &str, tls: Option<Tls>) -> Result<String> {
    let roots = rustls::RootCertStore::empty();
    let provider = rustls::crypto::ring::default_provider();
    let config = match tls {
        Some(Tls(config)) => config,
        None => rustls::ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth(),
    };
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .build();
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let ask = async {
        let response = client.get(url.parse()?).await.context("no answer")?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        if status != http::StatusCode::OK {
            bail!("{status}: {}", body.trim());
        }
        Ok(body)
    };
    match tokio::time::timeout(ANSWERS_WITHIN, ask).await {
        Ok(answer) => answer.with_context(|| format!("GET {url}")),
        Err(_) => bail!("GET {url}: no answer within {} s", ANSWERS_WITHIN.as_secs()),
    }
}

/// Whether something accepts connections at `address`.
pub async fn accepts(address: std::net::SocketAddr) -> Result<()> {
    let connect = tokio::net::TcpStream::connect(address);
    match tokio::time::timeout(ANSWERS_WITHIN, connect).await {
        Ok(connected) => connected
            .map(drop)
            .with_context(|| format!("connecting to {address}")),
        Err(_) => bail!("connecting to {address}: no answer"),
    }
}
