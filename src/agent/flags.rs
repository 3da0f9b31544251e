//! What the agent is told at start.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::broker::BrokerUrl;

/// Where to listen and whom to ask. Every flag has a twin in the environment.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// Address that the SDKs ask. They take plain HTTP only on loopback, 169.254.170.2, 169.254.170.23 and
    /// fd00:ec2::23; it must be on an interface of the node (`lo` will do).
    #[arg(
        long,
        env = "HUBSTORAGE_LISTEN",
        value_name = "ADDR:PORT",
        default_value = "169.254.170.23:8180"
    )]
    pub listen: SocketAddr,

    /// The broker: https only, as tokens and credentials travel on this connection.
    #[arg(long, env = "HUBSTORAGE_BROKER_URL", value_name = "URL")]
    pub broker_url: BrokerUrl,

    /// PEM bundle of the authorities that may sign the broker's certificate. Read again whenever it
    /// changes; while it is absent the agent runs and answers 503.
    #[arg(long, env = "HUBSTORAGE_BROKER_CA", value_name = "FILE")]
    pub broker_ca: PathBuf,

    /// Address of /healthz, /readyz and /metrics.
    #[arg(
        long,
        env = "HUBSTORAGE_METRICS_LISTEN",
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:8181"
    )]
    pub metrics_listen: SocketAddr,

    /// Listen beside another agent of the same uid, so that none of its requests is lost while it is replaced by
    /// this one. Without it, an address that is in use is an error.
    #[arg(long, env = "HUBSTORAGE_SHARE_PORT")]
    pub share_port: bool,

    /// Unix socket on which this very process says whether it is ready: `hubstorage-agent probe` asks there.
    #[arg(long, env = "HUBSTORAGE_PROBE_SOCKET", value_name = "PATH")]
    pub probe_socket: Option<PathBuf>,
}
