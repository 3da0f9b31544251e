//! One request of an SDK, from its head to the answer.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use tokio::time::{Instant, timeout_at};

use crate::broker::{Answer, Broker, PATIENCE};
use crate::limits::REQUESTS_PER_PEER;
use crate::listener::Visitor;
use crate::metrics::Metrics;
use crate::refusal::{Refusal, json};
use crate::request::{Token, token_of};

/// Answers with credentials.
#[derive(Debug)]
pub(crate) struct Credentials {
    pub(crate) broker: Arc<Broker>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Credentials {
    pub(crate) async fn answer<B>(
        &self,
        request: &Request<B>,
        visitor: &Visitor,
    ) -> Response<Full<Bytes>> {
        let answer = match token_of(request, visitor.local) {
            Ok(token) => {
                let start = Instant::now();
                let answer = self.forward(&token, visitor, start).await;
                self.metrics.time(start.elapsed());
                answer
            }
            Err(refusal) => Err(refusal),
        };
        let outcome = match &answer {
            Ok(answer) if answer.status == StatusCode::OK => "Vended",
            Ok(answer) if answer.status.is_client_error() => "BrokerRefused",
            Ok(_) => "BrokerFailed",
            Err(refusal) => refusal.code(),
        };
        self.metrics.count(outcome);
        tracing::debug!(peer = %visitor.peer, outcome, "request answered");
        match answer {
            Ok(Answer { status, body }) => json(status, body),
            Err(refusal) => refusal.response(),
        }
    }

    async fn forward(
        &self,
        token: &Token,
        visitor: &Visitor,
        start: Instant,
    ) -> Result<Answer, Refusal> {
        // Waiting rather than refusing: a Dask worker with 32 processes asks 32 times at its start.
        let Ok(_slot) = timeout_at(start + PATIENCE, visitor.requests.acquire()).await else {
            return Err(Refusal::TooManyRequests {
                limit: REQUESTS_PER_PEER,
            });
        };
        self.broker.ask(token, visitor.peer, start).await
    }
}
