//! Requests signed and sent as they are, without an SDK that would tidy them up.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sdk_s3::config::endpoint::{
    DefaultResolver as S3Endpoints, Params as S3Params, ResolveEndpoint as _,
};
use aws_sdk_sts::config::endpoint::{
    DefaultResolver as StsEndpoints, Params as StsParams, ResolveEndpoint as _,
};
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::Connector;
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::base64;
use aws_smithy_types::body::SdkBody;
use http_body_util::{BodyExt, Limited};
use hubstorage_core::names::BucketName;
use ring::digest;

use super::answer::Answer;
use crate::s3::errors::no_answer;
use crate::s3::{Addressing, S3Config, transport};
use crate::{CloudError, Credential};

/// Answers are errors and empty listings; what is longer is not read.
const MAX_ANSWER: usize = 64 * 1024;

/// Whom a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Service {
    Bucket(BucketName),
    Sts,
    MinioAdmin,
}

/// A request before it is signed.
#[derive(Debug, Clone)]
pub(super) struct Request {
    service: Service,
    method: &'static str,
    /// As it goes onto the wire.
    path: String,
    query: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Request {
    /// A request for `key` in `bucket`; an empty key is the bucket itself. The key may hold
    /// percent escapes, and goes as it is.
    pub fn new(method: &'static str, bucket: &BucketName, key: &str) -> Self {
        // `@` is the one character of prefixes that S3's canonical paths escape.
        Self::to(
            Service::Bucket(bucket.clone()),
            method,
            &format!("/{}", key.replace('@', "%40")),
        )
    }

    pub fn to(service: Service, method: &'static str, path: &str) -> Self {
        Self {
            service,
            method,
            path: path.into(),
            query: String::new(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    pub fn query(mut self, query: &str) -> Self {
        self.query = query.into();
        self
    }

    pub fn header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    pub fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }

    /// A body with the checksum that some calls demand before they look at permissions.
    pub fn checked_body(self, body: String) -> Self {
        let checksum = base64::encode(digest::digest(&digest::SHA256, body.as_bytes()));
        self.header("x-amz-checksum-sha256", checksum)
            .body(body.into_bytes())
    }

    /// The path as it is sent.
    pub fn signed_path(&self) -> String {
        self.path.clone()
    }

    /// The path as a server sees it that decodes first; `None` if that is no different.
    pub fn decoded_path(&self) -> Option<String> {
        self.path
            .contains("%2e")
            .then(|| self.path.replace("%2e", "."))
    }
}

/// Where the store is and how it is reached.
#[derive(Debug)]
pub(super) struct Wire {
    connector: Connector,
    region: String,
    endpoint: Option<String>,
    path_style: bool,
}

impl Wire {
    pub fn new(config: &S3Config) -> Result<Self, CloudError> {
        Ok(Self {
            connector: transport::connector(config)?,
            region: config.region.clone(),
            endpoint: config
                .endpoint
                .as_ref()
                .map(|url| url.as_str().trim_end_matches('/').to_owned()),
            path_style: config.addressing == Addressing::Path,
        })
    }

    /// Signs `request` over `signed_path`, sends it once, and reads the answer.
    pub async fn send(
        &self,
        request: &Request,
        session: &Credential,
        signed_path: String,
    ) -> Result<Answer, String> {
        let base = self.base(&request.service).await?;
        let query = if request.query.is_empty() {
            String::new()
        } else {
            format!("?{}", request.query)
        };
        let url = |path: &str| format!("{base}{path}{query}");

        let mut headers = request.headers.clone();
        let host = http::Uri::try_from(&base)
            .ok()
            .and_then(|uri| uri.authority().map(ToString::to_string));
        headers.push(("host", host.ok_or_else(|| format!("{base} is no URL"))?));
        let mut sent = http::Request::builder()
            .method(request.method)
            .uri(url(&request.path));
        for (name, value) in &headers {
            sent = sent.header(*name, value);
        }
        // Ceph RGW refuses to write without a length, and the client says none of an empty body.
        if request.body.is_empty() && ["PUT", "POST"].contains(&request.method) {
            sent = sent.header("content-length", "0");
        }
        let mut sent = sent
            .body(SdkBody::from(request.body.clone()))
            .map_err(|error| error.to_string())?;

        let identity = Credentials::new(
            &session.access_key_id,
            session.secret_access_key.expose(),
            Some(session.session_token.expose().to_owned()),
            None,
            "canary",
        )
        .into();
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(if request.service == Service::Sts {
                "sts"
            } else {
                "s3"
            })
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .map_err(|error| error.to_string())?
            .into();
        let signed_headers = headers.iter().map(|(name, value)| (*name, value.as_str()));
        let body = SignableBody::Bytes(&request.body);
        let signable =
            SignableRequest::new(request.method, url(&signed_path), signed_headers, body)
                .map_err(|error| error.to_string())?;
        let (instructions, _) = sign(signable, &parameters)
            .map_err(|error| error.to_string())?
            .into_parts();
        instructions.apply_to_request_http1x(&mut sent);

        let sent = HttpRequest::try_from(sent).map_err(|error| error.to_string())?;
        let answered = async {
            let answer = self
                .connector
                .call(sent)
                .await
                .map_err(|error| no_answer(&error))?;
            let status = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            Ok(Answer::new(
                status,
                String::from_utf8_lossy(&body).into_owned(),
            ))
        };
        tokio::time::timeout(transport::ATTEMPT, answered)
            .await
            .map_err(|_| "no answer in time".to_owned())?
    }

    /// What a path is appended to. The SDK's own rules decide, so that the probe goes where the
    /// store's calls go.
    async fn base(&self, service: &Service) -> Result<String, String> {
        let endpoint = match service {
            Service::Bucket(bucket) => {
                let parameters = S3Params::builder()
                    .region(&self.region)
                    .set_endpoint(self.endpoint.clone())
                    .force_path_style(self.path_style)
                    .bucket(bucket.as_str())
                    .build()
                    .map_err(|error| error.to_string())?;
                S3Endpoints::new().resolve_endpoint(&parameters).await
            }
            Service::Sts | Service::MinioAdmin => {
                let parameters = StsParams::builder()
                    .region(&self.region)
                    .set_endpoint(self.endpoint.clone())
                    .build()
                    .map_err(|error| error.to_string())?;
                StsEndpoints::new().resolve_endpoint(&parameters).await
            }
        };
        let endpoint = endpoint.map_err(|error| error.to_string())?;
        Ok(endpoint.url().trim_end_matches('/').to_owned())
    }
}
