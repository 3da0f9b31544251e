//! `hubstorage serve`: the admission webhook and the credential broker, side by side.
//!
//! Each has a port and a runtime of its own: a broker that is flooded does not slow the creation
//! of pods. What both need (the certificate, the guard, health) lives on the process's runtime.
//!
//! A Deployment's readiness probe is `/readyz/webhook`. Kubernetes knows one readiness for both
//! ports of a pod, and the two parts fail differently: without the webhook a pod is created with
//! nothing in it, and stays so; a broker that is not ready says so in its answers, and SDKs ask
//! again. `/readyz/broker` and `/readyz` (everything) are for alerts and for whoever waits for
//! everything, and so is `/readyz/webhook-watches`: a webhook that no longer hears of changes goes on
//! with what it has seen, since pods that it does not answer for are given nothing at all.
//! The liveness probe is `/healthz`.

use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use hubstorage_core::api::SYSTEM_NAMESPACE;
use hubstorage_core::injection::AGENT_URL;
use jiff::Timestamp;
use kube::Client;
use prometheus_client::registry::Registry;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use url::{Host, Url};

use crate::admission::{self, Injections, Webhook};
use crate::api_client;
use crate::broker;
use crate::certificates::Leaf;
use crate::certificates::leaf::Names;
use crate::guard;
use crate::health::Health;
use crate::listener::Ending;
use crate::replica;

/// Options of `hubstorage serve`.
#[derive(Args, Debug)]
pub struct Options {
    /// Where the admission webhook answers.
    #[arg(
        long,
        default_value = "0.0.0.0:8443",
        env = "HUBSTORAGE_WEBHOOK_LISTEN"
    )]
    webhook_listen: SocketAddr,

    /// Where the credential broker answers.
    #[arg(long, default_value = "0.0.0.0:8444", env = "HUBSTORAGE_BROKER_LISTEN")]
    broker_listen: SocketAddr,

    /// Where /healthz, /readyz, /readyz/webhook, /readyz/broker and /metrics answer. A Deployment's
    /// readiness probe is /readyz/webhook.
    #[arg(long, default_value = "0.0.0.0:8080", env = "HUBSTORAGE_HEALTH_LISTEN")]
    health_listen: SocketAddr,

    /// Where the API server reaches the webhook, as given to `hubstorage manifests`: its host goes
    /// into the certificate.
    #[arg(
        long,
        default_value = "https://hubstorage-serve.hubstorage-system.svc",
        env = "HUBSTORAGE_WEBHOOK_URL"
    )]
    webhook_url: Url,

    /// Where agents reach the broker: its host goes into the certificate.
    #[arg(
        long,
        default_value = "https://hubstorage-serve.hubstorage-system.svc:8444",
        env = "HUBSTORAGE_BROKER_URL"
    )]
    broker_url: Url,

    /// Where pods reach the agent of their node: what `hubstorage-agent --listen` says, and its path.
    /// SDKs take http only at 169.254.170.2, 169.254.170.23, [fd00:ec2::23] and loopback.
    #[arg(
        long,
        default_value = AGENT_URL,
        value_parser = agent_url,
        env = "HUBSTORAGE_AGENT_URL"
    )]
    agent_url: Url,

    /// Name of this replica in the Lease. Default: the host's name and a random part.
    #[arg(long, env = "HUBSTORAGE_IDENTITY")]
    identity: Option<String>,
}

/// From when readiness fails, and answers end their connections, to when ports close: whoever sends
/// requests here has to notice.
const NOTICE: Duration = Duration::from_secs(3);

/// Threads of the webhook. It never waits between question and answer, and one answers more pods than
/// an API server creates (docs/performance.md); two lose time to the allocator's lock.
const WEBHOOK_THREADS: usize = 1;

/// Threads of the broker, which mostly waits: more would only cost memory.
const BROKER_THREADS: usize = 2;

/// Serves until `stop`: then readiness fails, and a little later ports are closed and what is in
/// flight is finished.
///
/// # Errors
/// If a port cannot be had, or a server ends by itself.
pub async fn run(client: Client, options: Options, stop: CancellationToken) -> anyhow::Result<()> {
    let always = format!("hubstorage-serve.{SYSTEM_NAMESPACE}.svc");
    let names = Names::of([&options.webhook_url, &options.broker_url], &always)?;
    let webhook_port = bind("--webhook-listen", options.webhook_listen)?;

    let mut registry = Registry::default();
    let admission_metrics = admission::Metrics::register(&mut registry);
    let broker_metrics = broker::Metrics::register(&mut registry);

    // Everything ends with this one, after the notice; `stop` itself only fails readiness.
    let close = CancellationToken::new();
    let _ended = close.clone().drop_guard();
    let leaf = Leaf::keep(client.clone(), names, close.clone());
    let injections = Injections::keep(
        client.clone(),
        options.agent_url,
        admission_metrics.clone(),
        close.clone(),
    );
    let readiness = broker::Readiness::default();
    let health = health(registry, &leaf, &injections, &readiness, &stop);
    let health = tokio::spawn(health.serve(options.health_listen, close.clone()));

    let tls = leaf.tls().context("TLS cannot be configured")?;
    let webhook = Webhook::new(injections, admission_metrics);
    let ending = Ending {
        announced: stop.clone(),
        closing: close.clone(),
    };
    let webhook = on_threads_of_its_own(
        "webhook",
        WEBHOOK_THREADS,
        webhook.serve(webhook_port, tls.clone(), ending),
    )?;
    let broker = {
        let [guard] = guard::watch(client, [guard::documents()], close.clone());
        let (listen, close) = (options.broker_listen, close.clone());
        let identity = options.identity.unwrap_or_else(replica::name);
        let leaving = stop.clone();
        on_threads_of_its_own("broker", BROKER_THREADS, async move {
            // A client of its own: the process's client does its work on the process's runtime.
            let client = api_client::connect().await?;
            let metrics = broker_metrics;
            broker::run(
                broker::Options {
                    client,
                    listen,
                    tls,
                    guard,
                    metrics,
                    readiness,
                    identity,
                    leaving,
                },
                close,
            )
            .await
        })?
    };
    let health = async { health.await.context("the health server panicked")? };
    let webhook = async {
        webhook
            .await
            .context("the webhook's thread ended")?
            .context("webhook")
    };
    let broker = async {
        broker
            .await
            .context("the broker's thread ended")?
            .context("broker")
    };

    tokio::spawn({
        let close = close.clone();
        async move {
            stop.cancelled().await;
            tokio::time::sleep(NOTICE).await;
            close.cancel();
        }
    });
    tokio::try_join!(
        ends(&close, health),
        ends(&close, webhook),
        ends(&close, broker)
    )
    .map(drop)
}

/// A server that ends before it is told to is a failure.
async fn ends(
    close: &CancellationToken,
    server: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    server.await?;
    if close.is_cancelled() {
        Ok(())
    } else {
        anyhow::bail!("a server ended by itself")
    }
}

fn bind(option: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .with_context(|| format!("{option} {address}: the port cannot be opened"))
}

/// An address that the SDKs will ask: elsewhere they refuse http, lest a token crosses a network in
/// the clear (botocore `ContainerMetadataFetcher._ALLOWED_HOSTS`).
fn agent_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    let is_local = match url.host() {
        Some(Host::Ipv4(address)) => {
            address.is_loopback()
                || [[169, 254, 170, 2], [169, 254, 170, 23]].contains(&address.octets())
        }
        Some(Host::Ipv6(address)) => {
            address.is_loopback() || address == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)
        }
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_local => Ok(url),
        _ => Err(format!(
            "SDKs would not ask {url}: use https, or http at 169.254.170.2, 169.254.170.23, [fd00:ec2::23] or loopback"
        )),
    }
}

fn health(
    registry: Registry,
    leaf: &Arc<Leaf>,
    injections: &Arc<Injections>,
    readiness: &broker::Readiness,
    stop: &CancellationToken,
) -> Health {
    let (leaf, injections, watched, readiness, stop) = (
        leaf.clone(),
        injections.clone(),
        injections.clone(),
        readiness.clone(),
        stop.clone(),
    );
    let is_staying = move || {
        if stop.is_cancelled() {
            Err("stopping".to_owned())
        } else {
            Ok(())
        }
    };
    Health::new(registry)
        .check("process", Arc::new(is_staying))
        .check(
            "certificate",
            Arc::new(move || leaf.check(Timestamp::now())),
        )
        .part("webhook", Arc::new(move || injections.check()))
        .part("webhook-watches", Arc::new(move || watched.is_current()))
        .part("broker", Arc::new(move || readiness.check()))
}

/// Runs a server on a runtime of its own; the receiver gets what it ends with.
fn on_threads_of_its_own(
    name: &'static str,
    threads: usize,
    server: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) -> anyhow::Result<oneshot::Receiver<anyhow::Result<()>>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .enable_all()
        .build()
        .with_context(|| format!("no threads for the {name}"))?;
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let ended = runtime.block_on(server);
            // Nobody receives when the process is ending anyway.
            _ = sender.send(ended);
        })
        .with_context(|| format!("no thread for the {name}"))?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_address_is_one_that_sdks_ask() {
        for text in [
            AGENT_URL,
            "http://[fd00:ec2::23]/v1/credentials",
            "http://127.0.0.1:8180/v1/credentials",
            "https://agent.example.org/v1/credentials",
        ] {
            assert_eq!(agent_url(text).unwrap().as_str(), text);
        }
        for text in [
            "http://10.0.0.1/v1/credentials",
            "http://169.254.169.254/",
            "ftp://x/",
        ] {
            let why = agent_url(text).unwrap_err();
            assert!(why.contains("169.254.170.23"), "{why}");
        }
    }
}
