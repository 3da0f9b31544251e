//! From `spec.s3` to what a client is made of.

use std::net::IpAddr;

use hubstorage_cloud::CloudError;
use hubstorage_cloud::s3::{self, Keys, S3Config};
use hubstorage_core::api::{self, S3Provider, StorageProvider};
use kube::ResourceExt as _;
use url::{Host, Url};

use super::ConnectError;

/// The provider's `spec.s3`.
pub(super) fn s3_of(provider: &StorageProvider) -> Result<&S3Provider, ConnectError> {
    provider
        .spec
        .s3
        .as_ref()
        .ok_or_else(|| ConnectError::Unsupported {
            provider: provider.name_any(),
        })
}

/// The CRD's own rules know the usual spellings; `http://2852039166` is 169.254.169.254 too.
fn endpoint(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("endpoint is no URL: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("endpoint holds a user name or password; put keys into the Secrets".into());
    }
    let address = match url.host() {
        Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        // What a name stands for is seen when it is connected to.
        Some(Host::Domain(_)) | None => None,
    };
    if address.is_some_and(s3::is_link_local) {
        return Err("endpoint is a link-local address; those belong to metadata services".into());
    }
    Ok(url)
}

/// How to reach the store with these keys.
pub(super) fn config(
    provider: &StorageProvider,
    s3: &S3Provider,
    keys: Keys,
) -> Result<S3Config, ConnectError> {
    let endpoint = s3.endpoint.as_deref().map(endpoint).transpose();
    let endpoint = endpoint.map_err(|problem| ConnectError::Invalid {
        provider: provider.name_any(),
        problem,
    })?;
    Ok(S3Config {
        region: s3.region.clone(),
        endpoint,
        addressing: match s3.addressing {
            api::Addressing::Path => s3::Addressing::Path,
            api::Addressing::VirtualHost => s3::Addressing::VirtualHost,
        },
        ca_bundle: s3.ca_bundle.as_ref().map(|pem| pem.0.clone()),
        keys,
    })
}

/// Why no client could be made.
pub(super) fn invalid(provider: &StorageProvider, error: &CloudError) -> ConnectError {
    ConnectError::Invalid {
        provider: provider.name_any(),
        problem: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_with_keys_or_at_a_metadata_service_is_refused_however_it_is_spelled() {
        for (text, problem) in [
            ("http://user:secret@store", "user name or password"),
            ("http://169.254.169.254", "link-local"),
            ("http://2852039166", "link-local"),
            ("http://0xa9fea9fe/", "link-local"),
            ("http://[fe80::1]:9000", "link-local"),
            ("http://[fd00:ec2::254]", "link-local"),
            ("http://[0:0:0:0:0:ffff:a9fe:a9fe]", "link-local"),
        ] {
            let error = endpoint(text).unwrap_err();
            assert!(
                error.contains(problem) && !error.contains("secret"),
                "{text}: {error}"
            );
        }
        for text in [
            "http://minio.minio.svc:9000",
            "https://10.0.0.1",
            "http://[fd00::1]:9000",
        ] {
            assert!(endpoint(text).is_ok(), "{text}");
        }
    }
}
