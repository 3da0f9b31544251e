//! The agent as a whole: two listeners, one way to the broker.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::credentials::Credentials;
use crate::flags::Config;
use crate::limits::Peers;
use crate::listener;
use crate::metrics::Metrics;
use crate::probes;

/// An agent that holds its addresses and is about to serve.
#[derive(Debug)]
pub struct Agent {
    credentials: TcpListener,
    probes: TcpListener,
    broker: Arc<Broker>,
    metrics: Arc<Metrics>,
}

/// An address that could not be taken.
#[derive(Debug, Error)]
#[error("cannot listen on {address} ({flag}): {error}{hint}")]
pub struct BindError {
    flag: &'static str,
    address: SocketAddr,
    error: io::Error,
    hint: String,
}

impl Agent {
    /// Takes both addresses. Neither the broker nor its CA needs to be there yet.
    ///
    /// # Errors
    /// An address that is in use, or not on this node.
    pub async fn bind(config: &Config) -> Result<Self, BindError> {
        let agent = Self {
            credentials: bind("--listen", config.listen).await?,
            probes: bind("--metrics-listen", config.metrics_listen).await?,
            broker: Arc::new(Broker::new(&config.broker_url, config.broker_ca.clone())),
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
        let _ = agent.broker.ready();
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
        let broker = self.broker;
        tokio::join!(
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
                stop,
                move |request, _| {
                    let response = probes::answer(request.uri().path(), &broker, &metrics);
                    async { response }
                },
            ),
        );
        tracing::info!("stopped");
    }
}

async fn bind(flag: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrNotAvailable => format!(
                "; the address is on no interface of this node: `ip address add {} dev lo`, or choose another",
                address.ip()
            ),
            io::ErrorKind::AddrInUse => {
                "; another process has it (EKS Pod Identity's agent takes port 80): choose another port"
                    .to_owned()
            }
            _ => String::new(),
        };
        BindError {
            flag,
            address,
            error,
            hint,
        }
    })
}

/// botocore's `ContainerMetadataFetcher`, and the SDK reference guide.
fn sdks_take(ip: IpAddr) -> bool {
    ip.is_loopback()
        || ip == IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2))
        || ip == IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23))
        || ip == IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23))
}
