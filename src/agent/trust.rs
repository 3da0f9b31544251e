//! The authorities that may sign the broker's certificate, and the HTTPS client that trusts them.
//!
//! The file is looked at before every request: a `stat` costs about a microsecond, so a rotation takes
//! effect at once and needs no watcher. A changed bundle gets a new client, and with it new connections:
//! none that an older authority vouched for is used again.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::broker::REQUESTS_AT_A_TIME;
use crate::refusal::Refusal;

/// A replica that is gone without a word must cost less than half of the time that an answer may take,
/// so that the retry reaches another one.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// The same for a connection that is already open: how long sent data may stay unacknowledged (tcp(7),
/// `TCP_USER_TIMEOUT`). A slow broker acknowledges; a dead node does not.
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_millis(700);

/// Idle connections are kept for the burst of a hub's morning, not for the hour between refreshes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// HTTPS to the broker. Cloning is cheap, clones share their connections.
pub(crate) type BrokerClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// A PEM bundle on disk, and what was last read from it.
#[derive(Debug)]
pub(crate) struct TrustBundle {
    file: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    seen: Option<Result<Version, io::ErrorKind>>,
    client: Option<BrokerClient>,
    problem: String,
}

/// Tells one content of a file from the next: Kubernetes swaps a symbolic link (another inode), an
/// editor writes in place (another time or size).
#[derive(Debug, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<&Metadata> for Version {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl TrustBundle {
    pub(crate) fn new(file: PathBuf) -> Self {
        Self {
            file,
            state: Mutex::default(),
        }
    }

    /// A client that trusts what the file holds now; or, when the file has since been removed or broken,
    /// what it last held.
    ///
    /// # Errors
    /// `BrokerCaMissing` while the file has never held a usable certificate.
    pub(crate) fn client(&self) -> Result<BrokerClient, Refusal> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = fs::metadata(&self.file)
            .map(|metadata| Version::from(&metadata))
            .map_err(|error| error.kind());
        if state.seen.as_ref() != Some(&now) {
            state.seen = Some(now);
            match load(&self.file) {
                Ok((client, authorities)) => {
                    tracing::info!(file = %self.file.display(), authorities, "broker CA loaded");
                    state.client = Some(client);
                }
                Err(problem) => {
                    let action = if state.client.is_some() {
                        "the authorities read before stay trusted"
                    } else {
                        "credentials are answered with 503 until it is there"
                    };
                    tracing::warn!(file = %self.file.display(), problem, action, "broker CA not loaded");
                    state.problem = problem;
                }
            }
        }
        state
            .client
            .clone()
            .ok_or_else(|| Refusal::BrokerCaMissing {
                file: self.file.clone(),
                problem: state.problem.clone(),
            })
    }
}

/// The client, and the number of authorities it trusts; or what is wrong with the file.
fn load(file: &Path) -> Result<(BrokerClient, usize), String> {
    let pem = fs::read(file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "does not exist yet".to_owned(),
        _ => format!("cannot be read: {error}"),
    })?;
    let roots = roots(&pem)?;
    let authorities = roots.len();
    let tls =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("cannot be used: {error}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
    Ok((client(tls), authorities))
}

fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        certificate
            .map_err(|error| format!("is not a PEM bundle: {error}"))
            .and_then(|certificate| {
                roots
                    .add(certificate)
                    .map_err(|error| format!("holds a certificate that cannot be used: {error}"))
            })?;
    }
    if roots.is_empty() {
        return Err("holds no certificate".to_owned());
    }
    Ok(roots)
}

fn client(tls: ClientConfig) -> BrokerClient {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED_TIMEOUT));
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_only()
        .enable_http1()
        .wrap_connector(tcp);
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(REQUESTS_AT_A_TIME)
        .build(https)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(name: &str) -> String {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn a_bundle_may_hold_the_old_authority_and_the_new_one() {
        let pem = format!("# old\n{}# new\n{}", authority("old"), authority("new"));

        assert_eq!(roots(pem.as_bytes()).unwrap().len(), 2);
    }

    #[test]
    fn a_file_without_certificates_is_not_a_bundle() {
        assert_eq!(roots(b"").unwrap_err(), "holds no certificate");
        assert_eq!(roots(b"soon\n").unwrap_err(), "holds no certificate");
    }

    #[test]
    fn a_half_written_certificate_is_not_half_trusted() {
        let whole = authority("old");
        let half = &whole[..whole.len() / 2];
        let garbled = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

        assert!(roots(half.as_bytes()).is_err());
        assert!(roots(format!("{whole}{garbled}").as_bytes()).is_err());
    }
}
