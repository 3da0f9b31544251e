//! The one place that decides how long a call may take, how often it is tried, whom TLS trusts
//! and where connections go. No redirect is followed.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::addresses::Resolver;
use super::{Keys, S3Config};
use crate::CloudError;

/// A store that does not even accept a connection is not slow, it is away.
const CONNECT: Duration = Duration::from_secs(2);
/// One try. Every call that HubStorage makes is a small metadata call.
pub(super) const ATTEMPT: Duration = Duration::from_secs(10);
/// All tries of one call and the pauses between them. It must end before the controller's lease
/// does: a lease cannot fence a cloud.
const OPERATION: Duration = Duration::from_secs(30);
/// Tries of one call; in standard mode the pauses between them are jittered, and a budget of the
/// client ends retries altogether while most calls fail.
const ATTEMPTS: u32 = 3;
/// The first pause; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// What both services of a store are reached with.
pub(super) async fn connect(config: &S3Config) -> Result<SdkConfig, CloudError> {
    let mut sdk = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(config.region.clone()))
        .http_client(client(trust(config)?))
        .credentials_provider(credentials(&config.keys, &config.region).await?)
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(ATTEMPTS)
                .with_initial_backoff(FIRST_PAUSE),
        )
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(CONNECT)
                .operation_attempt_timeout(ATTEMPT)
                .operation_timeout(OPERATION)
                .build(),
        );
    if let Some(endpoint) = &config.endpoint {
        sdk = sdk.endpoint_url(endpoint.as_str().trim_end_matches('/'));
    }
    Ok(sdk.build())
}

fn trust(config: &S3Config) -> Result<TlsContext, CloudError> {
    let trusted = match &config.ca_bundle {
        Some(pem) => TrustStore::empty().with_pem_certificate(checked(pem)?),
        // Plain HTTP trusts nobody, so that an image without certificates can still speak it.
        None if config
            .endpoint
            .as_ref()
            .is_some_and(|url| url.scheme() == "http") =>
        {
            TrustStore::empty()
        }
        None => TrustStore::default(),
    };
    context(trusted)
}

fn context(trusted: TrustStore) -> Result<TlsContext, CloudError> {
    let context = TlsContext::builder().with_trust_store(trusted).build();
    context.map_err(|error| CloudError::InvalidCaBundle {
        cause: error.to_string(),
    })
}

/// Over rustls with ring; it follows no redirect (`tests/redirects.rs`).
fn client(context: TlsContext) -> SharedHttpClient {
    Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(context)
        .build_with_resolver(Resolver)
}

/// The same for requests that no SDK makes; it is up to the caller to give up in time.
pub(super) fn connector(config: &S3Config) -> Result<Connector, CloudError> {
    Ok(Connector::builder()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(trust(config)?)
        .build_with_resolver(Resolver))
}

/// The bundle as it was given. The HTTP client panics over one that it cannot read, at its first
/// call, so it is read here before.
fn checked(pem: &[u8]) -> Result<Vec<u8>, CloudError> {
    let invalid = |cause: String| CloudError::InvalidCaBundle { cause };
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| invalid(error.to_string()))?;
    if certificates.is_empty() {
        return Err(invalid("it holds no certificate".into()));
    }
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate)
            .map_err(|error| invalid(error.to_string()))?;
    }
    Ok(pem.to_vec())
}

async fn credentials(keys: &Keys, region: &str) -> Result<SharedCredentialsProvider, CloudError> {
    match keys {
        Keys::Static {
            access_key_id,
            secret_access_key,
            ..
        } => Ok(SharedCredentialsProvider::new(Credentials::from_keys(
            access_key_id,
            secret_access_key.expose(),
            None,
        ))),
        Keys::Ambient => {
            // The chain speaks to AWS itself (STS, the metadata services), never to the store,
            // so that it trusts the system's authorities whatever the store needs. The metadata
            // services have no names, so that they are reached all the same.
            let ambient = aws_config::defaults(BehaviorVersion::latest())
                .region(Region::new(region.to_owned()))
                .http_client(client(context(TrustStore::default())?))
                .load()
                .await;
            ambient
                .credentials_provider()
                .ok_or_else(|| CloudError::NoCredentials {
                    cause: "the process has no ambient identity".into(),
                })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::Addressing;

    fn config(ca_bundle: &[u8]) -> S3Config {
        S3Config {
            region: "us-east-1".into(),
            endpoint: None,
            addressing: Addressing::Path,
            ca_bundle: Some(ca_bundle.to_vec()),
            keys: Keys::Ambient,
        }
    }

    #[test]
    fn a_ca_bundle_that_cannot_be_read_is_an_error_that_names_the_field() {
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for bundle in [b"".as_slice(), b"not PEM", broken] {
            let error = trust(&config(bundle)).unwrap_err();
            assert!(
                matches!(error, CloudError::InvalidCaBundle { .. }),
                "{error:?}"
            );
            assert!(error.to_string().contains("spec.s3.caBundle"), "{error}");
        }
    }
}
