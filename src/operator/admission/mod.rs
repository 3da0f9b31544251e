//! The admission webhooks: give user pods their environment, stamp who made them, and give homes the
//! size that they may have.
//!
//! `POST /admit/pods` and `/admit/claims`, called by the API server for every new pod that names a hub
//! user, and for every new claim that KubeSpawner makes. They answer from memory: [`injections`] is
//! built whenever a HubStorage or StorageProvider changes, [`review`] and [`claims`] read the question
//! and write the answer. They never refuse: whatever goes wrong with them costs the pod its storage,
//! never its start.

mod claims;
pub mod injections;
mod metrics;
mod review;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::StreamExt as _;
use tokio::sync::{Semaphore, SemaphorePermit};

pub use injections::{Given, Injections};
pub use metrics::{Metrics, Outcome};
use review::Answer;

use crate::listener::{self, Connections, Ending, Limits};
use crate::manifests::{CLAIM_PATH, POD_PATH};

/// A pod is at most 1.5 MiB in etcd, and an AdmissionReview holds it once.
const BODY_LIMIT: usize = 4 * 1024 * 1024;

/// Bytes of bodies in memory at a time, all callers together: nobody has shown who they are, and
/// connections times [`BODY_LIMIT`] would be 8 GiB. Thousands of ordinary reviews fit, a few KiB each.
const BODIES_LIMIT: usize = 64 * 1024 * 1024;

/// The API server waits for a second (`timeoutSeconds`).
const BODY_WITHIN: Duration = Duration::from_secs(1);

const LIMITS: Limits = Limits {
    // The callers are API servers, one address as a rule: a connection each for every creation that is
    // under way.
    connections: Connections {
        total: 2048,
        of_one_address: 2048,
        when_crowded: 2048,
    },
    handshake: Duration::from_secs(10),
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
    injections: Arc<Injections>,
    metrics: Metrics,
    /// A permit for each byte of a body.
    room: Arc<Semaphore>,
}

impl Webhook {
    /// Gives pods what `injections` says, and counts them.
    pub fn new(injections: Arc<Injections>, metrics: Metrics) -> Self {
        Self {
            injections,
            metrics,
            room: Arc::new(Semaphore::new(BODIES_LIMIT)),
        }
    }

    /// Answers on `listener` until its `ending`.
    ///
    /// # Errors
    /// If the listener is of no use.
    pub async fn serve(
        self,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        ending: Ending,
    ) -> anyhow::Result<()> {
        listener::serve(self.router(), listener, tls, LIMITS, ending).await
    }

    fn router(self) -> Router {
        // The body is read with its own limit below.
        Router::new()
            .route(POD_PATH, post(admit_pod))
            .route(CLAIM_PATH, post(admit_claim))
            .layer(DefaultBodyLimit::disable())
            .with_state(self)
    }
}

async fn admit_pod(State(webhook): State<Webhook>, request: Request) -> Response {
    let answer = |body: &[u8], given: &Given| review::answer(body, &given.pods);
    admit(&webhook, request, answer).await
}

async fn admit_claim(State(webhook): State<Webhook>, request: Request) -> Response {
    let answer = |body: &[u8], given: &Given| claims::answer(body, &given.homes);
    admit(&webhook, request, answer).await
}

async fn admit(
    webhook: &Webhook,
    request: Request,
    answer: impl Fn(&[u8], &Given) -> Result<Answer, String>,
) -> Response {
    let reading = tokio::time::timeout(BODY_WITHIN, read(request.into_body(), &webhook.room)).await;
    let (body, _room) = match reading.unwrap_or(Err(BodyError::Late)) {
        Ok(body) => body,
        Err(error) => {
            return webhook.refuse(error.status(), Outcome::Malformed, error.to_string());
        }
    };
    // From here on nothing waits: this is the time that a pod's creation takes longer.
    let begin = Instant::now();
    let Some(given) = webhook.injections.current() else {
        return webhook.refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            Outcome::NotReady,
            injections::NOT_READ.to_owned(),
        );
    };
    match answer(&body, &given) {
        Ok(answer) => {
            webhook.metrics.answered(answer.outcome, begin.elapsed());
            ([(header::CONTENT_TYPE, "application/json")], answer.body).into_response()
        }
        Err(why) => webhook.refuse(StatusCode::BAD_REQUEST, Outcome::Malformed, why),
    }
}

/// Why a body is not read to its end.
#[derive(Debug, thiserror::Error)]
enum BodyError {
    #[error("the body has more than {BODY_LIMIT} bytes, which is more than a pod can have")]
    Long,
    #[error("the body cannot be read: {0}")]
    Broken(#[from] axum::Error),
    #[error(
        "the body did not arrive within a second, or there was no room for it: all bodies together may have \
         {BODIES_LIMIT} bytes"
    )]
    Late,
}

impl BodyError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Long => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Broken(_) => StatusCode::BAD_REQUEST,
            Self::Late => StatusCode::REQUEST_TIMEOUT,
        }
    }
}

type Room<'r> = Option<SemaphorePermit<'r>>;

/// A body, and the room that it takes. Room is taken for what has arrived, not for what is
/// announced: whoever holds it has paid for it in bytes sent.
async fn read(body: Body, room: &Semaphore) -> Result<(Vec<u8>, Room<'_>), BodyError> {
    let mut pieces = body.into_data_stream();
    let mut read = Vec::new();
    let mut taken = Room::default();
    while let Some(piece) = pieces.next().await {
        let piece: Bytes = piece?;
        if read.len() + piece.len() > BODY_LIMIT {
            return Err(BodyError::Long);
        }
        // At most BODY_LIMIT: it fits. The semaphore is never closed.
        let bytes = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        if let Ok(more) = room.acquire_many(bytes).await {
            match &mut taken {
                Some(room) => room.merge(more),
                None => taken = Some(more),
            }
        }
        read.extend_from_slice(&piece);
    }
    Ok((read, taken))
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
    use axum::body::to_bytes;
    use axum::http::Request;
    use prometheus_client::registry::Registry;
    use tower::ServiceExt as _;

    fn webhook(injections: Injections) -> Webhook {
        Webhook::new(
            Arc::new(injections),
            Metrics::register(&mut Registry::default()),
        )
    }

    async fn post(webhook: Webhook, body: impl Into<Body>) -> (StatusCode, String) {
        post_to(POD_PATH, webhook, body).await
    }

    async fn post_to(path: &str, webhook: Webhook, body: impl Into<Body>) -> (StatusCode, String) {
        let request = Request::post(path).body(body.into()).unwrap();
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
        injections.replace(Given::default());
        let (status, body) = post(webhook(injections), "{\"kind\": \"AdmissionReview\"}").await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(
            body.contains("apiVersion") || body.contains("request"),
            "{body}"
        );
    }

    #[tokio::test]
    async fn pods_and_claims_have_a_path_each() {
        let review = |resource: &str| {
            let request = serde_json::json!({
                "uid": "1", "operation": "CREATE", "namespace": "earth",
                "resource": {"group": "", "version": "v1", "resource": resource},
                "userInfo": {"username": "hub"}, "object": {"metadata": {}, "spec": {}},
            });
            let review =
                serde_json::json!({"apiVersion": "admission.k8s.io/v1", "request": request});
            review.to_string()
        };
        for (path, resource, other) in [
            (POD_PATH, "pods", "persistentvolumeclaims"),
            (CLAIM_PATH, "persistentvolumeclaims", "pods"),
        ] {
            for (resource, expected) in
                [(resource, StatusCode::OK), (other, StatusCode::BAD_REQUEST)]
            {
                let injections = Injections::default();
                injections.replace(Given::default());
                let (status, body) = post_to(path, webhook(injections), review(resource)).await;
                assert_eq!(status, expected, "{path} {resource}: {body}");
            }
        }
    }

    #[tokio::test]
    async fn a_body_beyond_the_limit_is_refused() {
        let injections = Injections::default();
        injections.replace(Given::default());
        let (status, body) = post(webhook(injections), vec![b' '; BODY_LIMIT + 1]).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{body}");
    }

    #[tokio::test]
    async fn a_body_that_does_not_arrive_is_not_waited_for() {
        let injections = Injections::default();
        injections.replace(Given::default());
        let never = Body::from_stream(futures::stream::pending::<
            Result<bytes::Bytes, std::io::Error>,
        >());
        let (status, body) = post(webhook(injections), never).await;
        assert_eq!(status, StatusCode::REQUEST_TIMEOUT, "{body}");
    }

    /// A mebibyte, and then nothing any more.
    fn unfinished() -> Body {
        let piece = Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 1024 * 1024]));
        Body::from_stream(futures::stream::iter([piece]).chain(futures::stream::pending()))
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_take_no_more_room_than_there_is_together_and_give_it_back() {
        let injections = Injections::default();
        injections.replace(Given::default());
        let webhook = webhook(injections);
        let room = webhook.room.clone();
        let flood: Vec<_> = (0..100)
            .map(|_| tokio::spawn(post(webhook.clone(), unfinished())))
            .collect();
        let half_a_second = BODY_WITHIN / 2;
        tokio::time::sleep(half_a_second).await;
        assert_eq!(room.available_permits(), 0, "64 of 100 are in memory");

        // Waits for its turn, and has it when the flood has had its second.
        let (status, body) = post(webhook, "{}").await;

        assert_eq!(status, StatusCode::BAD_REQUEST, "it was read: {body}");
        for answer in flood {
            assert_eq!(answer.await.unwrap().0, StatusCode::REQUEST_TIMEOUT);
        }
        assert_eq!(room.available_permits(), BODIES_LIMIT);
    }
}
