//! The admission webhook: gives user pods their environment, and stamps who made them.
//!
//! `POST /admit/pods`, called by the API server for every pod that names a hub user. It answers
//! from memory: [`injections`] is built whenever a HubStorage or StorageProvider changes,
//! [`review`] reads the question and writes the answer. It never refuses a pod: whatever goes wrong
//! costs the pod its storage, never its start.

pub mod injections;
mod metrics;
mod review;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tokio_util::sync::CancellationToken;

pub use injections::Injections;
pub use metrics::{Metrics, Outcome};

use crate::listener::{self, Limits};
use crate::manifests::WEBHOOK_PATH;

/// A pod is at most 1.5 MiB in etcd, and an AdmissionReview holds it once.
const BODY_LIMIT: usize = 4 * 1024 * 1024;

/// The API server waits for a second (`timeoutSeconds`).
const BODY_WITHIN: Duration = Duration::from_secs(1);

const LIMITS: Limits = Limits {
    // The callers are API servers: a connection each for every creation that is under way.
    connections: 2048,
    head_bytes: 16 * 1024,
    first_head: Duration::from_secs(10),
    // Go's client closes idle connections after 90 s (net/http, DefaultTransport). Were it us, a
    // review that is just being sent would be lost, and its pod would be given nothing.
    idle: Duration::from_secs(120),
    drain: Duration::from_secs(5),
};

/// What the webhook needs.
#[derive(Clone)]
pub struct Webhook {
    /// What pods are given.
    pub injections: Arc<Injections>,
    /// What is counted.
    pub metrics: Metrics,
}

impl Webhook {
    /// Answers on `listener` until `stop`.
    ///
    /// # Errors
    /// If the listener is of no use.
    pub async fn serve(
        self,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        listener::serve(self.router(), listener, tls, LIMITS, stop).await
    }

    fn router(self) -> Router {
        // The body is read with its own limit below.
        Router::new()
            .route(WEBHOOK_PATH, post(admit))
            .layer(DefaultBodyLimit::disable())
            .with_state(self)
    }
}

async fn admit(State(webhook): State<Webhook>, request: Request) -> Response {
    let body = match read(request.into_body()).await {
        Ok(body) => body,
        Err((status, why)) => return webhook.refuse(status, Outcome::Malformed, why),
    };
    // From here on nothing waits: this is the time that a pod's creation takes longer.
    let begin = Instant::now();
    let Some(injections) = webhook.injections.current() else {
        return webhook.refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            Outcome::NotReady,
            injections::NOT_READ.to_owned(),
        );
    };
    match review::answer(&body, &injections) {
        Ok(answer) => {
            webhook.metrics.answered(answer.outcome, begin.elapsed());
            ([(header::CONTENT_TYPE, "application/json")], answer.body).into_response()
        }
        Err(why) => webhook.refuse(StatusCode::BAD_REQUEST, Outcome::Malformed, why),
    }
}

async fn read(body: Body) -> Result<bytes::Bytes, (StatusCode, String)> {
    match tokio::time::timeout(BODY_WITHIN, to_bytes(body, BODY_LIMIT)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) => {
            let why = format!("the body cannot be read ({error}); it may have {BODY_LIMIT} bytes");
            Err((StatusCode::PAYLOAD_TOO_LARGE, why))
        }
        Err(_) => Err((
            StatusCode::REQUEST_TIMEOUT,
            "the body did not arrive in time".to_owned(),
        )),
    }
}

impl Webhook {
    fn refuse(&self, status: StatusCode, outcome: Outcome, why: String) -> Response {
        // Not louder: anybody who reaches the port can cause it, and the API server says it too.
        tracing::debug!(
            why,
            status = status.as_u16(),
            "a review could not be answered"
        );
        self.metrics.answered(outcome, Duration::ZERO);
        (status, format!("{why}\n")).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;
    use prometheus_client::registry::Registry;
    use tower::ServiceExt as _;

    fn webhook(injections: Injections) -> Webhook {
        Webhook {
            injections: Arc::new(injections),
            metrics: Metrics::register(&mut Registry::default()),
        }
    }

    async fn post(webhook: Webhook, body: impl Into<Body>) -> (StatusCode, String) {
        let request = Request::post(WEBHOOK_PATH).body(body.into()).unwrap();
        let response = webhook.router().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), BODY_LIMIT).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn before_anything_was_read_it_says_so() {
        let (status, body) = post(webhook(Injections::default()), "{}").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    }

    #[tokio::test]
    async fn nonsense_is_answered_with_what_is_wrong() {
        let injections = Injections::default();
        injections.replace([].into());
        let (status, body) = post(webhook(injections), "{\"kind\": \"AdmissionReview\"}").await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(
            body.contains("apiVersion") || body.contains("request"),
            "{body}"
        );
    }

    #[tokio::test]
    async fn a_body_beyond_the_limit_is_refused() {
        let injections = Injections::default();
        injections.replace([].into());
        let (status, body) = post(webhook(injections), vec![b' '; BODY_LIMIT + 1]).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{body}");
    }

    #[tokio::test]
    async fn a_body_that_does_not_arrive_is_not_waited_for() {
        let injections = Injections::default();
        injections.replace([].into());
        let never = Body::from_stream(futures::stream::pending::<
            Result<bytes::Bytes, std::io::Error>,
        >());
        let (status, body) = post(webhook(injections), never).await;
        assert_eq!(status, StatusCode::REQUEST_TIMEOUT, "{body}");
    }
}
