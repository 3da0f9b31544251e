//! `/healthz`, `/readyz` and `/metrics`.

use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Bytes;

use crate::broker::Broker;
use crate::metrics::Metrics;

/// The answer for a path. Ready means able to ask the broker, not that the broker is there: its outage
/// is no reason to replace agents.
pub(crate) fn answer(path: &str, broker: &Broker, metrics: &Metrics) -> Response<Full<Bytes>> {
    match path {
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => match broker.ready() {
            Ok(()) => text(StatusCode::OK, "ok\n"),
            Err(refusal) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{refusal}\n")),
        },
        "/metrics" => match metrics.encode() {
            Ok(metrics) => open_metrics(metrics),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
        _ => text(
            StatusCode::NOT_FOUND,
            "only /healthz, /readyz and /metrics are here\n",
        ),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

fn open_metrics(metrics: String) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::OK, metrics);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8"),
    );
    response
}
