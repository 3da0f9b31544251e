//! Asking the broker: one deadline, one retry, and what may come back.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

use crate::refusal::Refusal;
use crate::request::{CREDENTIALS_PATH, Token};
use crate::trust::{BrokerClient, TrustBundle};

/// SDKs give up after 2 s (botocore: `ContainerMetadataFetcher.TIMEOUT_SECONDS`); with this the whole
/// answer leaves within 1.8 s.
pub(crate) const DEADLINE: Duration = Duration::from_millis(1600);

/// How long a request may wait for its turn; the rest of [`DEADLINE`] is the broker's.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// Long enough for a Service to drop a replica that refuses connections, or for a restarted one to listen.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Requests to the broker at a time, and so TLS connections (about 50 KiB each). Enough for thousands of
/// answers a second while the broker has credentials in its cache, and for 300 a second when each of them
/// costs it 100 ms at the cloud.
pub(crate) const REQUESTS_AT_A_TIME: usize = 32;

/// Largest body taken from the broker, in bytes. Credentials are about 2 KiB.
pub const ANSWER_LIMIT: usize = 64 * 1024;

/// Carries the address of the pod's connection, which only the agent sees.
pub const PEER_HEADER: &str = "hubstorage-peer";

const USER_AGENT: &str = concat!("hubstorage-agent/", env!("CARGO_PKG_VERSION"));

/// `https://host[:port][/base]`, checked once at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerUrl {
    text: String,
    credentials: Uri,
}

/// Why a `--broker-url` is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BrokerUrlError {
    /// Not a URL at all.
    #[error("{0:?} is not a URL; give https://HOST[:PORT]")]
    Invalid(String),
    /// A URL, but tokens would travel unprotected.
    #[error(
        "{0:?} is not https: tokens and credentials never travel without TLS; give https://HOST[:PORT]"
    )]
    NotHttps(String),
    /// A part that has no place in a base URL.
    #[error("the URL holds a user name, a query or a fragment; give https://HOST[:PORT] alone")]
    Superfluous,
}

impl FromStr for BrokerUrl {
    type Err = BrokerUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Before anything that echoes the text: it could hold a password.
        if text.contains(['@', '?', '#']) {
            return Err(BrokerUrlError::Superfluous);
        }
        let invalid = || BrokerUrlError::Invalid(text.to_owned());
        let text = text.trim_end_matches('/');
        let base: Uri = text.parse().map_err(|_| invalid())?;
        match base.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => {}
            Some(_) => return Err(BrokerUrlError::NotHttps(text.to_owned())),
            None => return Err(invalid()),
        }
        if base.host().is_none_or(str::is_empty) {
            return Err(invalid());
        }
        let credentials = format!("{text}{CREDENTIALS_PATH}")
            .parse()
            .map_err(|_| invalid())?;
        Ok(Self {
            text: text.to_owned(),
            credentials,
        })
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What the broker said, to be passed on. `Debug` leaves the body out.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// The way to the broker.
#[derive(Debug)]
pub(crate) struct Broker {
    credentials: Uri,
    trust: TrustBundle,
    slots: Semaphore,
    failing: AtomicBool,
}

impl Broker {
    pub(crate) fn new(url: &BrokerUrl, ca: PathBuf) -> Self {
        Self {
            credentials: url.credentials.clone(),
            trust: TrustBundle::new(ca),
            slots: Semaphore::new(REQUESTS_AT_A_TIME),
            failing: AtomicBool::new(false),
        }
    }

    /// Whether there is somebody to trust; says nothing about the broker itself.
    pub(crate) fn ready(&self) -> Result<(), Refusal> {
        self.trust.client().map(|_| ())
    }

    /// The broker's answer for a pod at `peer`, within [`DEADLINE`] of `start`.
    pub(crate) async fn ask(
        &self,
        token: &Token,
        peer: IpAddr,
        start: Instant,
    ) -> Result<Answer, Refusal> {
        let Ok(_slot) = timeout_at(start + PATIENCE, self.slots.acquire()).await else {
            return Err(Refusal::AgentBusy);
        };
        let mut last_failure = None;
        let answer = timeout_at(start + DEADLINE, async {
            loop {
                match self.ask_once(token, peer).await {
                    // The request changes nothing at the broker, so it may be sent twice.
                    Err(failure) if is_lost_connection(&failure) && last_failure.is_none() => {
                        last_failure = Some(failure);
                        sleep(RETRY_PAUSE).await;
                    }
                    done => return done,
                }
            }
        })
        .await
        .unwrap_or_else(|_| {
            Err(last_failure.unwrap_or(Refusal::BrokerTimeout { after: DEADLINE }))
        });
        self.log_change(answer.as_ref().err());
        answer
    }

    async fn ask_once(&self, token: &Token, peer: IpAddr) -> Result<Answer, Refusal> {
        let client = self.trust.client()?;
        let response = send(&client, self.request(token, peer)).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_LIMIT)
            .collect()
            .await
            .map_err(|error| {
                if error.is::<LengthLimitError>() {
                    invalid(format!("an answer of more than {ANSWER_LIMIT} bytes"))
                } else {
                    Refusal::BrokerUnreachable {
                        problem: innermost(error.as_ref()),
                    }
                }
            })?
            .to_bytes();
        if !(status == StatusCode::OK || status.is_client_error() || status.is_server_error()) {
            return Err(invalid(format!("status {}", status.as_u16())));
        }
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(invalid(format!(
                "status {} without a JSON object",
                status.as_u16()
            )));
        }
        Ok(Answer { status, body })
    }

    fn request(&self, token: &Token, peer: IpAddr) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.credentials.clone();
        let headers = request.headers_mut();
        headers.insert(header::AUTHORIZATION, token.authorization());
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        // An address is always a valid header value; without one the broker would refuse.
        if let Ok(peer) = HeaderValue::try_from(peer.to_string()) {
            headers.insert(PEER_HEADER, peer);
        }
        request
    }

    /// One line when the way to the broker breaks and one when it works again, not one per request.
    fn log_change(&self, failure: Option<&Refusal>) {
        let was_failing = self.failing.swap(failure.is_some(), Ordering::Relaxed);
        match failure {
            Some(refusal) if !was_failing => {
                tracing::warn!(code = refusal.code(), reason = %refusal, "no answer from the broker");
            }
            None if was_failing => tracing::info!("the broker answers again"),
            _ => {}
        }
    }
}

async fn send(
    client: &BrokerClient,
    request: Request<Empty<Bytes>>,
) -> Result<http::Response<hyper::body::Incoming>, Refusal> {
    client
        .request(request)
        .await
        .map_err(|error| match tls_problem(&error) {
            Some(problem) => Refusal::BrokerUntrusted { problem },
            None => Refusal::BrokerUnreachable {
                problem: innermost(&error),
            },
        })
}

fn invalid(problem: String) -> Refusal {
    Refusal::BrokerAnswerInvalid { problem }
}

/// Failures that another replica, or another moment, may cure.
fn is_lost_connection(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::BrokerUnreachable { .. } | Refusal::BrokerUntrusted { .. }
    )
}

/// A certificate that was not accepted, among the causes of an error.
fn tls_problem(error: &(dyn Error + 'static)) -> Option<String> {
    chain(error)
        .filter_map(|error| error.downcast_ref::<rustls::Error>())
        .find(|error| matches!(error, rustls::Error::InvalidCertificate(_)))
        .map(ToString::to_string)
}

/// The innermost cause, as the outer ones only say that something failed.
fn innermost(error: &(dyn Error + 'static)) -> String {
    chain(error).last().unwrap_or(error).to_string()
}

/// An error and its causes, outermost first. An `io::Error` passes on the `source` of what it wraps, and
/// so hides the wrapped error itself; hyper-rustls wraps rustls' errors twice in that way.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error: &'a (dyn Error + 'static) = *error;
        let wrapped = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<BrokerUrl, BrokerUrlError> {
        text.parse()
    }

    #[test]
    fn the_path_is_added_to_the_base_url() {
        for (base, credentials) in [
            ("https://broker", "https://broker/v1/credentials"),
            ("https://broker:8443/", "https://broker:8443/v1/credentials"),
            ("HTTPS://[::1]:1/hs", "https://[::1]:1/hs/v1/credentials"),
        ] {
            assert_eq!(parse(base).unwrap().credentials, credentials);
        }
    }

    #[test]
    fn a_broker_without_tls_is_refused() {
        let error = parse("http://broker").unwrap_err();

        assert_eq!(error, BrokerUrlError::NotHttps("http://broker".to_owned()));
    }

    #[test]
    fn what_is_not_a_base_url_is_refused() {
        for text in ["", "broker", "broker:8443", "https://", "/v1", "https:///x"] {
            assert!(
                matches!(
                    parse(text),
                    Err(BrokerUrlError::Invalid(_) | BrokerUrlError::NotHttps(_))
                ),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_repeated() {
        let error = parse("http://me:hunter2@broker").unwrap_err();

        assert_eq!(error, BrokerUrlError::Superfluous);
        assert!(!error.to_string().contains("hunter2"));
    }
}
