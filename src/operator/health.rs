//! `/healthz`, `/readyz` and `/metrics`, on a port of their own.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Something that has to be true before a process takes traffic.
pub type ReadyCheck = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What the health port shows.
#[derive(Clone)]
pub struct Health {
    registry: Arc<Registry>,
    checks: Vec<(&'static str, ReadyCheck)>,
}

impl Health {
    /// Shows these metrics, and no readiness check yet.
    pub fn new(registry: Registry) -> Self {
        Self {
            registry: Arc::new(registry),
            checks: Vec::new(),
        }
    }

    /// Adds something that has to be true, by a name that stands in the answer.
    pub fn check(mut self, name: &'static str, check: ReadyCheck) -> Self {
        self.checks.push((name, check));
        self
    }

    fn unready(&self) -> Vec<String> {
        let failed =
            |(name, check): &(&str, ReadyCheck)| check().err().map(|why| format!("{name}: {why}"));
        self.checks.iter().filter_map(failed).collect()
    }

    /// Answers on `address` until `stop`.
    ///
    /// # Errors
    /// If the port cannot be had.
    pub async fn serve(self, address: SocketAddr, stop: CancellationToken) -> anyhow::Result<()> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("--health-listen {address}: the port cannot be opened"))?;
        let app = Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(self);
        axum::serve(listener, app)
            .with_graceful_shutdown(async move { stop.cancelled().await })
            .await
            .context("the health server ended")
    }
}

async fn readyz(State(health): State<Health>) -> Response {
    match health.unready() {
        unready if unready.is_empty() => "ok\n".into_response(),
        unready => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{}\n", unready.join("\n")),
        )
            .into_response(),
    }
}

async fn metrics(State(health): State<Health>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &health.registry) {
        Ok(()) => {
            let open_metrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, open_metrics)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
