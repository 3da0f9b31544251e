//! `/healthz`, `/readyz` and `/metrics`, on a port of their own.
//!
//! `/readyz` is for everything that a process does; `/readyz/PART` for one part of it, and what
//! that part needs.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Path, State};
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
    checks: Vec<Check>,
}

#[derive(Clone)]
struct Check {
    name: &'static str,
    /// The part that needs it; every part, if `None`.
    part: Option<&'static str>,
    check: ReadyCheck,
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
    pub fn check(self, name: &'static str, check: ReadyCheck) -> Self {
        self.with(name, None, check)
    }

    /// Adds something that only the part of this name needs; its own path is `/readyz/PART`.
    pub fn part(self, part: &'static str, check: ReadyCheck) -> Self {
        self.with(part, Some(part), check)
    }

    fn with(mut self, name: &'static str, part: Option<&'static str>, check: ReadyCheck) -> Self {
        self.checks.push(Check { name, part, check });
        self
    }

    /// What keeps everything, or one part, from being ready. `None`: there is no such part.
    fn unready(&self, part: Option<&str>) -> Option<Vec<String>> {
        let is_known = part.is_none() || self.checks.iter().any(|check| check.part == part);
        let is_needed =
            |check: &&Check| part.is_none() || check.part.is_none() || check.part == part;
        let failed = |check: &Check| {
            let why = (check.check)().err()?;
            Some(format!("{}: {why}", check.name))
        };
        is_known.then(|| {
            self.checks
                .iter()
                .filter(is_needed)
                .filter_map(failed)
                .collect()
        })
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
            .route("/readyz/{part}", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(self);
        axum::serve(listener, app)
            .with_graceful_shutdown(async move { stop.cancelled().await })
            .await
            .context("the health server ended")
    }
}

async fn readyz(State(health): State<Health>, part: Option<Path<String>>) -> Response {
    let part = part.as_ref().map(|Path(part)| part.as_str());
    match health.unready(part) {
        None => (StatusCode::NOT_FOUND, "there is no such part\n").into_response(),
        Some(unready) if unready.is_empty() => "ok\n".into_response(),
        Some(unready) => (
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_is_not_ready_does_not_take_the_other_with_it() {
        let ok: ReadyCheck = Arc::new(|| Ok(()));
        let keys: ReadyCheck = Arc::new(|| Err("no keys".to_owned()));
        let health = Health::new(Registry::default())
            .check("certificate", ok.clone())
            .part("webhook", ok)
            .part("broker", keys);
        let broker = vec!["broker: no keys".to_owned()];
        assert_eq!(health.unready(Some("webhook")), Some(vec![]));
        assert_eq!(health.unready(Some("broker")), Some(broker.clone()));
        assert_eq!(health.unready(None), Some(broker));
        assert_eq!(health.unready(Some("certificate")), None);
    }

    #[test]
    fn what_every_part_needs_counts_for_every_part() {
        let missing: ReadyCheck = Arc::new(|| Err("none yet".to_owned()));
        let health = Health::new(Registry::default())
            .check("certificate", missing)
            .part("webhook", Arc::new(|| Ok(())));
        let unready = Some(vec!["certificate: none yet".to_owned()]);
        assert_eq!(health.unready(Some("webhook")), unready);
        assert_eq!(health.unready(None), unready);
    }
}
