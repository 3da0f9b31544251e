//! An HTTPS server with limits on what a stranger may cost.

mod slots;

use std::future::{Ready, ready};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::middleware::map_response;
use axum::response::Response;
use axum_server::Handle;
use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use http::{HeaderValue, header};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

pub use slots::Connections;
use slots::{Slot, Slots};

/// What a server allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time.
    pub connections: Connections,
    /// Time for the TLS handshake.
    pub handshake: Duration,
    /// Bytes of request line and headers.
    pub head_bytes: usize,
    /// Time for the head of the first request of a connection, from its beginning.
    pub first_head: Duration,
    /// Time for the head of every other one, which is also how long an idle connection is kept:
    /// hyper has one timer for both.
    pub idle: Duration,
    /// Time for requests in flight to finish when the server stops.
    pub drain: Duration,
}

/// How a server ends: callers are led away first, then it closes.
#[derive(Debug, Clone, Default)]
pub struct Ending {
    /// From here on every answer ends its connection, so that callers open the next one elsewhere.
    /// A connection that is kept until the port closes may be closed just as a request is sent, and
    /// Go's client does not send a POST again (net/http, `shouldRetryRequest`).
    pub announced: CancellationToken,
    /// Nothing is accepted any more, and what is in flight is finished.
    pub closing: CancellationToken,
}

/// Answers on `listener` until its `ending`. Handlers can ask for the caller's address
/// (`ConnectInfo<SocketAddr>`).
///
/// # Errors
/// If the listener is of no use.
pub async fn serve(
    app: Router,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    limits: Limits,
    ending: Ending,
) -> anyhow::Result<()> {
    let Ending { announced, closing } = ending;
    let app = app.layer(map_response(move |mut response: Response| {
        if announced.is_cancelled() {
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        ready(response)
    }));
    let slots = Accepting(Arc::new(Slots::new(limits.connections)));
    let acceptor = RustlsAcceptor::new(RustlsConfig::from_config(tls))
        .handshake_timeout(limits.handshake)
        .acceptor(slots);
    let handle = Handle::new();
    let mut server = axum_server::from_tcp(listener)
        .context("the port cannot be used")?
        .acceptor(acceptor)
        .handle(handle.clone())
        .first_request_timeout(limits.first_head)
        .http1_only();
    server
        .http_builder()
        .http1()
        .header_read_timeout(limits.idle)
        .max_buf_size(limits.head_bytes);
    tokio::spawn(async move {
        closing.cancelled().await;
        handle.graceful_shutdown(Some(limits.drain));
    });
    server
        .serve(app.into_make_service_with_connect_info::<SocketAddr>())
        .await
        .context("the server ended")
}

/// Takes a slot for each connection.
#[derive(Clone)]
struct Accepting(Arc<Slots>);

impl<S> Accept<TcpStream, S> for Accepting {
    type Stream = TcpStream;
    type Service = Connection<S>;
    type Future = Ready<io::Result<(TcpStream, Connection<S>)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        ready(self.take(&stream).map(|slot| {
            let service = Connection {
                service,
                _slot: Arc::new(slot),
            };
            (stream, service)
        }))
    }
}

impl Accepting {
    fn take(&self, stream: &TcpStream) -> io::Result<Slot> {
        let slot = self.0.take(stream.peer_addr()?.ip());
        let slot = slot.ok_or_else(|| io::Error::other("too many connections"))?;
        // Answers are short: with Nagle's algorithm each would wait for the client's delayed ACK.
        stream.set_nodelay(true)?;
        Ok(slot)
    }
}

/// A connection's service, which gives its slot back when it ends.
#[derive(Clone)]
struct Connection<S> {
    service: S,
    _slot: Arc<Slot>,
}

impl<R, S: tower::Service<R>> tower::Service<R> for Connection<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.service.call(request)
    }
}

#[cfg(test)]
mod tests;
