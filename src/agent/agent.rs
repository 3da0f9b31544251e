//! The agent as a whole: two listeners, one way to the broker.

use std::fmt::Display;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::credentials::Credentials;
use crate::flags::Config;
use crate::limits::Peers;
use crate::listener;
use crate::metrics::Metrics;
use crate::readiness::Readiness;
use crate::{probe_socket, probes};

/// An agent that holds its addresses and is about to serve.
#[derive(Debug)]
pub struct Agent {
    credentials: TcpListener,
    probes: TcpListener,
    probe_socket: Option<UnixListener>,
    broker: Arc<Broker>,
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
}

/// Connections that the kernel completes before they are accepted. It allows no more than
/// `net.core.somaxconn`.
const BACKLOG: u32 = 1024;

/// An address that could not be taken.
#[derive(Debug, Error)]
#[error("cannot listen on {address} ({flag}): {error}{hint}")]
pub struct BindError {
    flag: &'static str,
    address: String,
    error: io::Error,
    hint: String,
}

impl Agent {
    /// Takes both addresses. Neither the broker nor its CA needs to be there yet.
    ///
    /// # Errors
    /// An address that is in use, or not on this node.
    pub async fn bind(config: &Config) -> Result<Self, BindError> {
        let broker = Arc::new(Broker::new(&config.broker_url, config.broker_ca.clone()));
        let probe_socket = config.probe_socket.as_deref().map(|path| {
            probe_socket::bind(path)
                .map_err(|error| bind_error("--probe-socket", path.display(), error, String::new()))
        });
        let agent = Self {
            credentials: bind("--listen", config.listen, config.share_port)?,
            probes: bind("--metrics-listen", config.metrics_listen, config.share_port)?,
            probe_socket: probe_socket.transpose()?,
            readiness: Arc::new(Readiness::new(Arc::clone(&broker), config.listen.ip())),
            broker,
            metrics: Arc::new(Metrics::new()),
        };
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            listen = %agent.address().unwrap_or(config.listen),
            metrics = %agent.metrics_address().unwrap_or(config.metrics_listen),
            broker = %config.broker_url,
            "listening"
        );
        if !sdks_take(config.listen.ip()) {
            tracing::warn!(
                listen = %config.listen,
                "AWS SDKs take plain HTTP only on loopback, 169.254.170.2, 169.254.170.23 and fd00:ec2::23; most of them will not ask this address"
            );
        }
        // Says in the log, at start, when the bundle is not there yet.
        let _ = agent.readiness.check();
        Ok(agent)
    }

    /// The address that the SDKs ask, with the port that was found for port 0.
    ///
    /// # Errors
    /// The operating system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.credentials.local_addr()
    }

    /// The address of probes and metrics.
    ///
    /// # Errors
    /// The operating system's.
    pub fn metrics_address(&self) -> io::Result<SocketAddr> {
        self.probes.local_addr()
    }

    /// Serves until `stop`, then finishes the requests in flight, within 3 s.
    pub async fn serve(self, stop: CancellationToken) {
        let metrics = Arc::clone(&self.metrics);
        let credentials = Arc::new(Credentials {
            broker: Arc::clone(&self.broker),
            metrics: Arc::clone(&metrics),
        });
        let pods = Arc::new(Peers::new(
            metrics.connections.clone(),
            metrics.dropped.clone(),
        ));
        let readiness = Arc::clone(&self.readiness);
        let probe_socket = async {
            if let Some(socket) = self.probe_socket {
                probe_socket::serve(socket, self.readiness, stop.clone()).await;
            }
        };
        tokio::join!(
            probe_socket,
            listener::serve(
                self.credentials,
                pods,
                stop.clone(),
                move |request, visitor| {
                    let credentials = Arc::clone(&credentials);
                    async move { credentials.answer(&request, &visitor).await }
                },
            ),
            listener::serve(
                self.probes,
                Arc::new(Peers::default()),
                stop.clone(),
                move |request, _| {
                    let response = probes::answer(request.uri().path(), &readiness, &metrics);
                    async { response }
                },
            ),
        );
        tracing::info!("stopped");
    }
}

/// Listens on `address`: alone, or beside other processes of the same uid that share it too. The kernel
/// then gives each new connection to one of them (`SO_REUSEPORT` in socket(7)).
fn bind(flag: &'static str, address: SocketAddr, share: bool) -> Result<TcpListener, BindError> {
    let is_shared = share && is_in_use(address);
    let listener = open(address).and_then(|socket| {
        socket.set_reuseport(share)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    });
    match listener {
        Ok(listener) => {
            if is_shared {
                tracing::info!(%address, "another agent listens here too; it is about to be replaced, or was left behind");
            }
            Ok(listener)
        }
        Err(error) => {
            let hint = hint(address.ip(), &error, share);
            Err(bind_error(flag, address, error, hint))
        }
    }
}

/// A socket that does not mind connections of an earlier process that are not quite over.
fn open(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    Ok(socket)
}

fn is_in_use(address: SocketAddr) -> bool {
    let alone = open(address).and_then(|socket| socket.bind(address));
    alone.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

fn bind_error(
    flag: &'static str,
    address: impl Display,
    error: io::Error,
    hint: String,
) -> BindError {
    let address = address.to_string();
    BindError {
        flag,
        address,
        error,
        hint,
    }
}

/// The way out, for the errors that have one.
fn hint(address: IpAddr, error: &io::Error, share: bool) -> String {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => format!(
            "; the address is on no interface of this node: `hubstorage-agent add-address --address {address}` adds it, as root; or choose another"
        ),
        io::ErrorKind::AddrInUse if share => {
            "; a process has it that does not share it, or runs with another uid; end that one, or choose another port"
                .to_owned()
        }
        io::ErrorKind::AddrInUse => {
            "; another process has it (EKS Pod Identity's agent takes port 80): choose another port"
                .to_owned()
        }
        _ => String::new(),
    }
}

/// botocore's `ContainerMetadataFetcher`, and the SDK reference guide.
fn sdks_take(ip: IpAddr) -> bool {
    ip.is_loopback()
        || ip == IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2))
        || ip == IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23))
        || ip == IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23))
}
