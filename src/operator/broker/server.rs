//! Step 7: HTTPS, one path, and limits on what a stranger may cost.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use axum_server::Handle;
use axum_server::accept::{Accept, NoDelayAcceptor};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hubstorage_cloud::Credential;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::Broker;
use super::refusal::{Refusal, RequestError};
use super::vend::Vended;

/// The agent gives up after 1.6 s, SDKs after 2 s.
pub const ANSWER_WITHIN: Duration = Duration::from_millis(1500);

/// The address that the agent saw the pod connect from.
const PEER: HeaderName = HeaderName::from_static("hubstorage-peer");

/// Request line and headers, in bytes: a token of 8 KiB and room for the rest.
const HEAD_LIMIT: usize = 16 * 1024;

/// How long a request's head may take, and how long an idle connection is kept: hyper has one
/// timer for both.
const HEAD_WITHIN: Duration = Duration::from_secs(30);

/// Agents keep one or two connections each.
const CONNECTIONS: usize = 4096;

/// How long connections are given at the end.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// Answers on `listener` until `stop`.
///
/// # Errors
/// If the listener is of no use.
pub async fn serve(
    broker: Arc<Broker>,
    listener: std::net::TcpListener,
    tls: Arc<rustls::ServerConfig>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let app = Router::new()
        .route(
            "/v1/credentials",
            get(credentials).fallback(method_not_allowed),
        )
        .fallback(not_found)
        .with_state(broker)
        .into_make_service_with_connect_info::<SocketAddr>();
    let connections = LimitConnections {
        slots: Arc::new(Semaphore::new(CONNECTIONS)),
    };
    let acceptor = RustlsAcceptor::new(RustlsConfig::from_config(tls)).acceptor(connections);
    let handle = Handle::new();
    let mut server = axum_server::from_tcp(listener)
        .context("the broker's port cannot be used")?
        .acceptor(acceptor)
        .handle(handle.clone())
        .first_request_timeout(HEAD_WITHIN)
        .http1_only();
    server
        .http_builder()
        .http1()
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_LIMIT);
    tokio::spawn(async move {
        stop.cancelled().await;
        handle.graceful_shutdown(Some(DRAIN_WITHIN));
    });
    server.serve(app).await.context("the broker's server ended")
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

/// Closes what comes beyond the limit before it costs a TLS handshake.
#[derive(Clone)]
struct LimitConnections {
    slots: Arc<Semaphore>,
}

impl<S> Accept<TcpStream, S> for LimitConnections {
    type Stream = TcpStream;
    type Service = Counted<S>;
    type Future = std::future::Ready<io::Result<(TcpStream, Counted<S>)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let counted = match self.slots.clone().try_acquire_owned() {
            Ok(slot) => Ok(Counted {
                inner: service,
                _slot: Arc::new(slot),
            }),
            Err(_) => Err(io::Error::other("too many connections")),
        };
        std::future::ready(counted.and_then(|counted| {
            let (stream, counted) = NoDelayAcceptor.accept(stream, counted).into_inner()?;
            Ok((stream, counted))
        }))
    }
}

/// A connection's service, and its place among all.
#[derive(Clone)]
struct Counted<S> {
    inner: S,
    _slot: Arc<OwnedSemaphorePermit>,
}

impl<R, S: tower::Service<R>> tower::Service<R> for Counted<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.inner.call(request)
    }
}
