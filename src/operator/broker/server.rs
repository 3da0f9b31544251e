//! HTTPS, one path, and limits on what a stranger may cost.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hubstorage_cloud::Credential;
use serde_json::json;

use super::Broker;
use super::refusal::{Refusal, RequestError};
use super::vend::Vended;
use crate::listener::{self, Connections, Ending, Limits};

/// The agent gives up after 1.6 s, SDKs after 2 s.
pub const ANSWER_WITHIN: Duration = Duration::from_millis(1500);

/// The address that the agent saw the pod connect from.
const PEER: HeaderName = HeaderName::from_static("hubstorage-peer");

/// What a caller may cost.
const LIMITS: Limits = Limits {
    // Agents keep one or two connections each, and have at most 32 while many pods start; twice as many
    // where two of them overlap. Several nodes may be behind one address.
    connections: Connections {
        total: 4096,
        of_one_address: 1024,
        when_crowded: 64,
    },
    handshake: Duration::from_secs(10),
    // A token of 8 KiB, and room for the rest.
    head_bytes: 16 * 1024,
    first_head: Duration::from_secs(30),
    idle: Duration::from_secs(30),
    drain: Duration::from_secs(5),
};

/// Answers on `listener` until its `ending`.
///
/// # Errors
/// If the listener is of no use.
pub async fn serve(
    broker: Arc<Broker>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    ending: Ending,
) -> anyhow::Result<()> {
    let app = Router::new()
        .route(
            "/v1/credentials",
            get(credentials).fallback(method_not_allowed),
        )
        .fallback(not_found)
        .with_state(broker);
    listener::serve(app, listener, tls, LIMITS, ending)
        .await
        .context("broker")
}

async fn credentials(
    State(broker): State<Arc<Broker>>,
    ConnectInfo(agent): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let start = Instant::now();
    let headers = request.headers();
    let answer = match peer(headers) {
        None => Err(RequestError::PeerMissing.into()),
        Some(peer) => broker.answer(headers, agent.ip(), peer).await,
    };
    let outcome = match &answer {
        Ok(Vended { cached: true, .. }) => "Cached",
        Ok(Vended { cached: false, .. }) => "New",
        Err(refusal) => refusal.code(),
    };
    broker.metrics.answered(outcome, start.elapsed());
    match answer {
        Ok(vended) => json_response(StatusCode::OK, body(&vended.credential)),
        Err(refusal) => refusal_response(&refusal),
    }
}

fn peer(headers: &HeaderMap) -> Option<IpAddr> {
    let mut values = headers.get_all(PEER).iter();
    let peer = values.next()?.to_str().ok()?.parse::<IpAddr>().ok()?;
    values.next().is_none().then(|| peer.to_canonical())
}

/// In the form of the SDKs' container credentials protocol.
fn body(credential: &Credential) -> serde_json::Value {
    json!({
        "AccessKeyId": credential.access_key_id,
        "SecretAccessKey": credential.secret_access_key.expose(),
        "Token": credential.session_token.expose(),
        "Expiration": credential.expires.to_string(),
    })
}

fn refusal_response(refusal: &Refusal) -> Response {
    json_response(
        refusal.status(),
        json!({"code": refusal.code(), "message": refusal.to_string()}),
    )
}

fn json_response(status: StatusCode, body: serde_json::Value) -> Response {
    let mut response = (status, Json(body)).into_response();
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn not_found() -> Response {
    refusal_response(&RequestError::NotFound.into())
}

async fn method_not_allowed() -> Response {
    let mut response = refusal_response(&RequestError::MethodNotAllowed.into());
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static("GET"));
    response
}
