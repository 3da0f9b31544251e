//! Every way in which the agent itself says no: code, status, and a message for a person.
//!
//! botocore puts the body of a refusal into its traceback, so the reader is a scientist in a notebook:
//! each message says what happened and what to do, or that nothing needs to be done.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Bytes;
use strum::{IntoStaticStr, VariantNames};
use thiserror::Error;

/// A request that the agent answers itself.
#[derive(Clone, Debug, Error, PartialEq, Eq, IntoStaticStr, VariantNames)]
pub enum Refusal {
    /// A browser sent it: no SDK sets `Origin`.
    #[error(
        "Storage credentials are not given to web pages: the request carries an Origin header. Use an AWS SDK (boto3, s3fs, …) inside the notebook server."
    )]
    FromBrowser,

    /// A proxy passed it on, such as jupyter-server-proxy, which publishes ports of a pod to others.
    #[error(
        "Storage credentials are not given through a proxy: the request carries the header {header}. Ask from inside the pod, with no proxy between: add {host} to the environment variable NO_PROXY."
    )]
    Proxied {
        /// The header that gave it away.
        header: &'static str,
        /// The agent's own address, without the port.
        host: String,
    },

    /// `Host` is not the agent's own address: DNS rebinding, or a wrong URL.
    #[error(
        "The request is addressed to {found}, but this is http://{expected}. Set AWS_CONTAINER_CREDENTIALS_FULL_URI to http://{expected}/v1/credentials, as HubStorage does in new pods."
    )]
    WrongHost {
        /// What the request said.
        found: String,
        /// The address that the connection was made to.
        expected: String,
    },

    /// Some other path.
    #[error(
        "There is nothing at this path. Set AWS_CONTAINER_CREDENTIALS_FULL_URI to http://{expected}/v1/credentials, as HubStorage does in new pods."
    )]
    NotFound {
        /// The address that the connection was made to.
        expected: String,
    },

    /// The right path, but another method.
    #[error("Credentials are fetched with GET; no other method is known here.")]
    MethodNotAllowed,

    /// No `Authorization`, or an empty one.
    #[error(
        "The request carries no token. AWS SDKs send the content of the file that AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE names: restart your server if that variable is not set, and update the SDK if it is (botocore knows it from 1.33 on)."
    )]
    TokenMissing,

    /// Longer than any service account token.
    #[error(
        "The token is {length} bytes long, and {limit} is the limit. AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE must name the token file that HubStorage mounts; restart your server to get it back."
    )]
    TokenTooLong {
        /// Bytes received.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },

    /// Not a JSON Web Token, or more than one header.
    #[error(
        "The Authorization header is not a service account token. AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE must name the token file that HubStorage mounts, and AWS_CONTAINER_AUTHORIZATION_TOKEN must not be set; restart your server to get both right."
    )]
    TokenMalformed,

    /// The pod has more requests under way than its share, and they did not end in time.
    #[error(
        "This pod has too many requests for credentials under way ({limit} at a time are served). SDKs keep credentials and ask about once an hour: share one session or client between threads, and retry in a second."
    )]
    TooManyRequests {
        /// Requests of one pod that are served at a time.
        limit: usize,
    },

    /// All slots to the broker were taken for the whole time.
    #[error(
        "Too many pods on this node ask for credentials at once. Nothing needs to be changed: retry in a few seconds."
    )]
    AgentBusy,

    /// There is no usable bundle of authorities yet.
    #[error(
        "HubStorage is still being set up on this node: the file {} with the broker's certificate authority {problem}. Credentials will arrive by themselves once it is there; if this lasts for minutes, tell the administrators of the hub.",
        .file.display()
    )]
    BrokerCaMissing {
        /// The file of `--broker-ca`.
        file: PathBuf,
        /// What is wrong with it, as the end of a sentence.
        problem: String,
    },

    /// The broker's certificate was not accepted.
    #[error(
        "The HubStorage broker could not prove who it is ({problem}). Nothing was sent to it. Credentials will arrive by themselves when its certificate and the agent's --broker-ca file agree again; if this lasts for minutes, tell the administrators of the hub."
    )]
    BrokerUntrusted {
        /// What rustls said.
        problem: String,
    },

    /// No connection, twice.
    #[error(
        "The HubStorage broker cannot be reached from this node ({problem}). Credentials will arrive by themselves when it is back: SDKs ask again, and running work goes on with the credentials it has. If this lasts for minutes, tell the administrators of the hub."
    )]
    BrokerUnreachable {
        /// The error of the connection.
        problem: String,
    },

    /// A connection, but no answer in time.
    #[error(
        "The HubStorage broker did not answer within {} ms. Retry: credentials will arrive by themselves when it answers again. If this lasts for minutes, tell the administrators of the hub.",
        .after.as_millis()
    )]
    BrokerTimeout {
        /// How long the agent waited.
        after: Duration,
    },

    /// An answer, but not one of a HubStorage broker.
    #[error(
        "What answers at the agent's --broker-url is not a HubStorage broker ({problem}). Tell the administrators of the hub."
    )]
    BrokerAnswerInvalid {
        /// What is wrong with the answer.
        problem: String,
    },
}

impl Refusal {
    /// Every code that an answer of the agent's own may have; `docs/refusals.md` has a row for each.
    pub const CODES: &'static [&'static str] = Self::VARIANTS;

    /// The `code` of the body, and the outcome in the metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.into()
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::FromBrowser | Self::Proxied { .. } | Self::WrongHost { .. } => {
                StatusCode::FORBIDDEN
            }
            Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::TokenMissing | Self::TokenTooLong { .. } | Self::TokenMalformed => {
                StatusCode::UNAUTHORIZED
            }
            Self::TooManyRequests { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::AgentBusy
            | Self::BrokerCaMissing { .. }
            | Self::BrokerUntrusted { .. }
            | Self::BrokerUnreachable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::BrokerTimeout { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::BrokerAnswerInvalid { .. } => StatusCode::BAD_GATEWAY,
        }
    }

    /// The whole answer: one line of JSON, in the broker's own form.
    #[must_use]
    pub fn response(&self) -> Response<Full<Bytes>> {
        let body = serde_json::json!({"code": self.code(), "message": self.to_string()});
        let mut response = json(self.status(), Bytes::from(body.to_string()));
        if *self == Self::MethodNotAllowed {
            response
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("GET"));
        }
        response
    }
}

/// An answer that nobody may keep.
pub(crate) fn json(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
