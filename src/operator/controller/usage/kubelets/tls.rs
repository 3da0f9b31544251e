//! Which certificates of kubelets are taken.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use kube::Config;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use super::super::{Options, Trouble};

/// A node that is gone without a word costs no more than this.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// HTTPS to kubelets.
pub(super) type Connector = HttpsConnector<HttpConnector>;

/// Which certificates are taken.
pub(super) enum Trusted {
    /// Those that the cluster's authority has signed, as this process is given it: it is read again for each round,
    /// since it may be replaced.
    Cluster,
    /// Those that these have signed.
    Given(Vec<CertificateDer<'static>>),
    /// Any.
    All,
}

impl Trusted {
    /// As the options say.
    ///
    /// # Errors
    /// If the certificates of the authorities are none.
    pub(super) fn of(options: &Options) -> anyhow::Result<Self> {
        Ok(match &options.kubelet_certificate_authority {
            _ if options.kubelet_insecure_tls => Self::All,
            Some(pem) => Self::Given(certificates(pem)?),
            None => Self::Cluster,
        })
    }
}

pub(super) fn certificates(pem: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    const OPTION: &str = "--kubelet-certificate-authority";
    let read = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let certificates = read.with_context(|| format!("{OPTION} is no PEM"))?;
    if certificates.is_empty() {
        bail!("{OPTION} holds no PEM certificate");
    }
    Ok(certificates)
}

/// Connections to kubelets whose certificates are taken.
///
/// # Errors
/// If there is no authority to go by.
pub(super) async fn connector(trusted: &Trusted) -> anyhow::Result<Connector> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let config = match trusted {
        Trusted::All => config
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Whoever(provider))),
        Trusted::Given(authorities) => config.with_root_certificates(roots(authorities.clone())?),
        Trusted::Cluster => {
            let authorities = Config::infer().await?.root_cert.unwrap_or_default();
            let authorities = authorities.into_iter().map(CertificateDer::from);
            config.with_root_certificates(roots(authorities.collect())?)
        }
    };
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(Some(CONNECT_WITHIN));
    Ok(HttpsConnectorBuilder::new()
        .with_tls_config(config.with_no_client_auth())
        .https_only()
        .enable_http1()
        .wrap_connector(http))
}

fn roots(authorities: Vec<CertificateDer<'static>>) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority)?;
    }
    Ok(roots)
}

/// Why there was no answer.
pub(super) fn trouble(error: &(dyn Error + 'static)) -> Trouble {
    let mut beneath = Some(error);
    while let Some(error) = beneath {
        match error.downcast_ref() {
            // Of two authorities with one name the signature is the other's.
            Some(rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            )) => return Trouble::UnknownAuthority,
            Some(rustls::Error::InvalidCertificate(_)) => return Trouble::BadCertificate,
            _ => {}
        }
        // An error of a connection does not name as its source what it holds, such as what TLS says.
        let held = error.downcast_ref().and_then(io::Error::get_ref);
        beneath = match held {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    Trouble::Unreachable
}

/// Takes every certificate; whoever shows it has its key all the same.
#[derive(Debug)]
struct Whoever(Arc<CryptoProvider>);

impl ServerCertVerifier for Whoever {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
