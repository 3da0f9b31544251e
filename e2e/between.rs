//! A server that stands between clients and another server of this machine, and changes what passes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};

/// What is done to what passes.
pub trait Passing: Send + Sync + 'static {
    /// Looks at a request, or changes it; what it gives is answered in the server's place.
    fn request(&self, _request: &mut Request<Bytes>) -> Option<Response<Bytes>> {
        None
    }

    /// Looks at an answer of the server, or changes it.
    fn answer(&self, _answer: &mut Response<Bytes>) {}
}

/// The server in between, until it is dropped.
pub struct Between {
    address: SocketAddr,
    accepting: AbortHandle,
}

impl Between {
    /// Stands before the HTTP server at `origin`, on a port of its own.
    pub async fn start(origin: SocketAddr, passing: Arc<impl Passing>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let client = Client::builder(TokioExecutor::new()).build_http();
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (client, passing) = (client.clone(), passing.clone());
                let service = service_fn(move |request| {
                    let (client, passing) = (client.clone(), passing.clone());
                    async move {
                        let answer = pass(request, origin, &client, &*passing).await;
                        Ok::<_, Infallible>(answer.unwrap_or_else(|error| {
                            // As from a gateway whose backend is away.
                            let mut answer = Response::new(Full::from(format!("{error:#}")));
                            *answer.status_mut() = StatusCode::BAD_GATEWAY;
                            answer
                        }))
                    }
                });
                let connection = http1::Builder::new();
                connections.spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Self {
            address,
            accepting: accepting.abort_handle(),
        })
    }

    /// Its origin as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Sends a request on with all of its headers: a signature holds over the name that the client knows.
async fn pass(
    request: Request<Incoming>,
    origin: SocketAddr,
    client: &Client<HttpConnector, Full<Bytes>>,
    passing: &impl Passing,
) -> Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let mut request = Request::from_parts(head, body.collect().await?.to_bytes());
    if let Some(answer) = passing.request(&mut request) {
        return Ok(answer.map(Full::new));
    }
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    *request.uri_mut() = format!("http://{origin}{path}").parse()?;
    let answer = client.request(request.map(Full::new)).await;
    let (head, body) = answer.context("no answer")?.into_parts();
    let mut answer = Response::from_parts(head, body.collect().await?.to_bytes());
    // It has come in one piece by now.
    answer.headers_mut().remove(header::TRANSFER_ENCODING);
    passing.answer(&mut answer);
    Ok(answer.map(Full::new))
}
