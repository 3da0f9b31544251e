//! Accepting connections, each within its limits, until told to stop.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::limits::{Peers, Place};
use crate::request::TOKEN_LIMIT;

/// For the head of a request, and so also for the idle time between two requests of a connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// For a connection as a whole, so that nobody keeps one by never reading the answer.
const LIFETIME: Duration = Duration::from_secs(300);

/// For requests in flight when the agent stops: longer than any of them takes.
const DRAIN: Duration = Duration::from_secs(3);

/// The longest token that gets a refusal of its own, and the rest of the head.
const HEAD_LIMIT: usize = 2 * TOKEN_LIMIT;

/// Who made a connection, and to what.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    /// The address of the pod.
    pub(crate) peer: IpAddr,
    /// The address that it asked.
    pub(crate) local: SocketAddr,
    /// The slots of the peer's requests.
    pub(crate) requests: Arc<Semaphore>,
}

/// Serves `listener` until `stop`; then finishes what is in flight, within [`DRAIN`]. Every connection that
/// the kernel had completed by then gets its answer: for its client there was an agent.
pub(crate) async fn serve<A, F>(
    listener: TcpListener,
    peers: Arc<Peers>,
    stop: CancellationToken,
    answer: A,
) where
    A: Fn(Request<Incoming>, Visitor) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let connections = TaskTracker::new();
    let take = |stream, address: SocketAddr| {
        if let Some(place) = peers.admit(address.ip().to_canonical()) {
            connections.spawn(converse(
                stream,
                address,
                place,
                stop.clone(),
                answer.clone(),
            ));
        }
    };
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => take(stream, address),
            Err(error) => recover(&error).await,
        }
    }
    for (stream, address) in accept_rest(listener) {
        take(stream, address);
    }
    connections.close();
    // Whoever is still there after this hears nothing: the connection closes with the process.
    let _ = timeout(DRAIN, connections.wait()).await;
}

/// Closes the listener, after accepting what is queued there: the kernel resets what is not accepted.
fn accept_rest(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    // tokio's accept waits for an event that may not have been seen yet; the plain one asks the kernel.
    let Ok(listener) = listener.into_std() else {
        return Vec::new();
    };
    let accept = || {
        let (stream, address) = listener.accept().ok()?;
        stream.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(stream).ok()?, address))
    };
    std::iter::from_fn(accept).collect()
}

/// A connection that was gone before it was accepted is nobody's problem; without file descriptors,
/// accepting at once again would only spin.
async fn recover(error: &io::Error) {
    let is_of_one_connection = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    );
    if !is_of_one_connection {
        tracing::warn!(%error, "cannot accept connections");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn converse<A, F>(
    stream: TcpStream,
    address: SocketAddr,
    place: Place,
    stop: CancellationToken,
    answer: A,
) where
    A: Fn(Request<Incoming>, Visitor) -> F,
    F: Future<Output = Response<Full<Bytes>>>,
{
    let Ok(local) = stream.local_addr() else {
        return;
    };
    // Answers are one segment each: waiting to fill it would only delay them.
    let _ = stream.set_nodelay(true);
    let visitor = Visitor {
        peer: address.ip().to_canonical(),
        local,
        requests: Arc::clone(&place.requests),
    };
    let asked = CancellationToken::new();
    let service = service_fn(|request| {
        asked.cancel();
        let response = answer(request, visitor.clone());
        async { Ok::<_, Infallible>(response.await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_LIMIT)
            .max_header_size(HEAD_LIMIT)
            .serve_connection(TokioIo::new(stream), service)
    );
    // An error here is the client's: it went away, or did not speak HTTP. hyper has answered 400 or 431.
    // A connection that was made before `stop` may send its first request after it.
    let is_over = async {
        stop.cancelled().await;
        let _ = timeout(DRAIN, asked.cancelled()).await;
    };
    tokio::select! {
        _ = connection.as_mut() => return,
        () = is_over => {}
        () = sleep(LIFETIME) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(DRAIN, connection).await;
}
