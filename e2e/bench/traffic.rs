//! Requests, and the time that each takes: from connections that are kept, as agents and API servers
//! keep theirs, or from a new one each time, as SDKs do.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hubstorage_e2e::progress::Step;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsConnector;

use super::statistics::{milliseconds, quantile};

/// How often is said how far it has got.
const TELLS_EVERY: Duration = Duration::from_secs(1);

/// An answer that takes longer is none: longer than any server here lets a request wait.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Who is asked.
#[derive(Clone)]
pub struct Endpoint {
    address: SocketAddr,
    tls: Option<TlsConnector>,
}

/// Somebody who asks, one request after the other.
pub struct Caller {
    endpoint: Endpoint,
    from: Option<IpAddr>,
    connection: Option<Connection>,
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: AbortHandle,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Bytes,
}

/// When requests are sent.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// By each caller as soon as the last one was answered.
    AsAnswered,
    /// So many in a second, whether or not earlier ones were answered. Time that a request waits for
    /// a caller counts as its own.
    PerSecond(u32),
}

/// What became of many requests.
#[derive(Debug, Default)]
pub struct Outcome {
    /// From the first request to the last answer.
    pub took: Duration,
    /// Of those that were answered with 200, the shortest first.
    pub latencies: Vec<Duration>,
    /// All others, by what came instead.
    pub failed: BTreeMap<String, usize>,
}

impl Endpoint {
    /// In plain HTTP.
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }

    /// By TLS, with a certificate that these authorities have signed, in PEM.
    pub fn trusting(address: SocketAddr, authorities: &[u8]) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(authorities) {
            roots.add(authority?)?;
        }
        let provider = rustls::crypto::ring::default_provider();
        let config = rustls::ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            address,
            tls: Some(Arc::new(config).into()),
        })
    }

    /// What its callers send as `Host`.
    pub fn host(&self) -> HeaderValue {
        // An address is always a valid header value.
        HeaderValue::try_from(self.address.to_string())
            .unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    /// Somebody who asks it, from an address of this machine.
    pub fn caller(&self, from: Option<IpAddr>) -> Caller {
        Caller {
            endpoint: self.clone(),
            from,
            connection: None,
        }
    }

    async fn connect(&self, from: Option<IpAddr>) -> Result<Connection> {
        let socket = TcpSocket::new_v4()?;
        if let Some(from) = from {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => Connection::over(stream).await,
            Some(tls) => {
                let name = ServerName::from(self.address.ip());
                Connection::over(tls.connect(name, stream).await?).await
            }
        }
    }
}

impl Connection {
    async fn over<S>(stream: S) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // How it ends is told to whoever waits for an answer.
        let driver = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Self { sender, driver })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Caller {
    /// Asks, on the connection that there is or on a new one.
    pub async fn ask(&mut self, request: Request<Full<Bytes>>) -> Result<Answer> {
        let asked = async {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => self.endpoint.connect(self.from).await?,
            };
            connection.sender.ready().await?;
            let response = connection.sender.send_request(request).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            // Kept only if the answer came whole.
            self.connection = Some(connection);
            anyhow::Ok(Answer { status, body })
        };
        tokio::time::timeout(ANSWERS_WITHIN, asked)
            .await
            .context("no answer in time")?
    }

    /// Ends the connection, so that the next request makes a new one.
    pub fn hang_up(&mut self) {
        self.connection = None;
    }
}

impl Answer {
    /// Its status and, of a refusal that has one, the code.
    pub fn told(&self) -> String {
        #[derive(Deserialize)]
        struct Refusal {
            code: String,
        }
        match serde_json::from_slice::<Refusal>(&self.body) {
            Ok(Refusal { code }) => format!("{} {code}", self.status.as_u16()),
            Err(_) => self.status.as_u16().to_string(),
        }
    }
}

impl Outcome {
    /// How many were sent.
    pub fn sent(&self) -> usize {
        self.latencies.len() + self.failed.values().sum::<usize>()
    }

    /// What did not go well, in words: `0`, or what came instead and how often.
    pub fn failures(&self) -> String {
        if self.failed.is_empty() {
            return "0".to_owned();
        }
        let each = self
            .failed
            .iter()
            .map(|(what, count)| format!("{count} × {what}"));
        each.collect::<Vec<_>>().join(", ")
    }

    /// Median and 99th percentile, in words.
    pub fn percentiles(&self) -> String {
        let at = |part| milliseconds(quantile(&self.latencies, part));
        format!("{}, {}", at(0.5), at(0.99))
    }

    fn add(&mut self, answered: Result<Answer>, latency: Duration) {
        match answered {
            Ok(answer) if answer.status == StatusCode::OK => self.latencies.push(latency),
            Ok(answer) => *self.failed.entry(answer.told()).or_default() += 1,
            Err(error) => *self.failed.entry(format!("{error:#}")).or_default() += 1,
        }
    }

    /// What became of others too; when they were sent does not matter.
    pub fn merge(&mut self, other: &Self) {
        self.latencies.extend(&other.latencies);
        for (what, count) in &other.failed {
            *self.failed.entry(what.clone()).or_default() += count;
        }
    }
}

/// Sends `total` requests from all callers at once.
pub async fn send(
    step: &Step,
    callers: &mut [Caller],
    pace: Pace,
    total: usize,
    request: impl Fn(Turn) -> Request<Full<Bytes>> + Send + Sync + 'static,
) -> Result<Outcome> {
    let (next, request) = (Arc::new(AtomicUsize::new(0)), Arc::new(request));
    let begin = Instant::now();
    let mut working = JoinSet::new();
    for (place, slot) in callers.iter_mut().enumerate() {
        let mut caller = slot.endpoint.caller(slot.from);
        caller.connection = slot.connection.take();
        let (next, request) = (next.clone(), request.clone());
        working.spawn(async move {
            let mut outcome = Outcome::default();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= total {
                    return (place, caller, outcome);
                }
                let sent = pace.wait(begin, number).await;
                let answered = caller.ask(request(Turn { number, place })).await;
                outcome.add(answered, sent.elapsed());
            }
        });
    }
    let mut all = Outcome::default();
    let mut tells = tokio::time::interval(TELLS_EVERY);
    loop {
        tokio::select! {
            ended = working.join_next() => {
                let Some(ended) = ended else { break };
                let (place, mut caller, outcome) = ended?;
                callers[place].connection = caller.connection.take();
                all.merge(&outcome);
            }
            _ = tells.tick() => {
                let sent = next.load(Ordering::Relaxed).min(total);
                step.now(&format!("{sent} of {total} requests sent"));
            }
        }
    }
    all.took = begin.elapsed();
    all.latencies.sort_unstable();
    Ok(all)
}

/// Which request it is, and whose.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// Counted over all callers.
    pub number: usize,
    /// The place of its caller among all.
    pub place: usize,
}

impl Pace {
    /// Waits until it is the turn of a request, and says from when its time counts: not from when
    /// the timer fired, which has milliseconds only, nor from later than it was due.
    async fn wait(self, begin: Instant, number: usize) -> Instant {
        let Self::PerSecond(rate) = self else {
            return Instant::now();
        };
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let due = begin + Duration::from_secs(1) * number / rate;
        if due <= Instant::now() {
            return due;
        }
        tokio::time::sleep_until(due.into()).await;
        Instant::now()
    }
}

/// A GET of this path.
pub fn get(endpoint: &Endpoint, path: &'static str) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = http::Uri::from_static(path);
    request.headers_mut().insert(header::HOST, endpoint.host());
    request
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::convert::Infallible;
    use std::net::Ipv4Addr;
    use std::sync::Mutex;

    use http::Response;
    use hubstorage_e2e::progress::Progress;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use tokio::net::TcpListener;

    use super::*;

    type Seen = Arc<Mutex<Vec<(String, SocketAddr)>>>;

    /// A server that refuses what it is asked at `/refused`, and notes what it is asked, and from where.
    async fn server() -> (Endpoint, Seen) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let endpoint = Endpoint::plain(listener.local_addr().unwrap());
        let seen = Seen::default();
        let noted = seen.clone();
        tokio::spawn(async move {
            loop {
                let (stream, peer) = listener.accept().await.unwrap();
                let noted = noted.clone();
                let answer = service_fn(move |request: Request<hyper::body::Incoming>| {
                    let path = request.uri().path().to_owned();
                    noted.lock().unwrap().push((path.clone(), peer));
                    let mut response = Response::new(Full::<Bytes>::from("{}"));
                    if path == "/refused" {
                        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
                        *response.body_mut() = Full::from(r#"{"code": "TooManyRequests"}"#);
                    }
                    async { Ok::<_, Infallible>(response) }
                });
                let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
                tokio::spawn(serving);
            }
        });
        (endpoint, seen)
    }

    #[tokio::test]
    async fn every_request_is_sent_once_and_what_is_refused_is_told_by_its_code() {
        let (endpoint, seen) = server().await;
        let mut callers: Vec<Caller> = (0..3).map(|_| endpoint.caller(None)).collect();
        let step = Progress::default().step("test", "");

        for pace in [Pace::AsAnswered, Pace::PerSecond(10_000)] {
            seen.lock().unwrap().clear();
            let asked = endpoint.clone();
            let outcome = send(&step, &mut callers, pace, 100, move |turn| {
                get(
                    &asked,
                    if turn.number % 10 == 0 {
                        "/refused"
                    } else {
                        "/"
                    },
                )
            })
            .await
            .unwrap();

            assert_eq!((outcome.latencies.len(), outcome.sent()), (90, 100));
            assert_eq!(outcome.failures(), "10 × 429 TooManyRequests");
            assert_eq!(seen.lock().unwrap().len(), 100);
            assert!(outcome.latencies.is_sorted());
        }
    }

    #[tokio::test]
    async fn a_connection_is_kept_until_it_is_hung_up_and_comes_from_the_callers_address() {
        let (endpoint, seen) = server().await;
        let mut caller = endpoint.caller(Some(IpAddr::from([127, 1, 2, 3])));
        for _ in 0..2 {
            caller.ask(get(&endpoint, "/")).await.unwrap();
        }
        caller.hang_up();
        caller.ask(get(&endpoint, "/")).await.unwrap();

        let seen = seen.lock().unwrap();
        let connections: BTreeSet<SocketAddr> = seen.iter().map(|(_, peer)| *peer).collect();
        assert_eq!((seen.len(), connections.len()), (3, 2));
        assert!(
            connections
                .iter()
                .all(|peer| peer.ip() == IpAddr::from([127, 1, 2, 3]))
        );
    }

    #[tokio::test]
    async fn a_server_that_is_gone_is_a_failure_and_not_the_end() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let endpoint = Endpoint::plain(listener.local_addr().unwrap());
        drop(listener);
        let step = Progress::default().step("test", "");

        let asked = endpoint.clone();
        let mut callers = [endpoint.caller(None)];
        let outcome = send(&step, &mut callers, Pace::AsAnswered, 5, move |_| {
            get(&asked, "/")
        })
        .await
        .unwrap();

        assert_eq!((outcome.sent(), outcome.latencies.len()), (5, 0));
    }
}
