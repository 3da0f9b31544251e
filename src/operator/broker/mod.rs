//! The credential broker: a pod's token against a short-lived credential for its user's prefix.
//!
//! `GET /v1/credentials`, called by the agent on the pod's node. The steps of an answer, in this
//! order, since each costs more than the one before or needs what it found:
//!
//! 1. [`token`]: form, claims, time and signature (memory)
//! 2. [`review`]: the API server still vouches for it (API server, remembered for 10 s)
//! 3. [`pods`]: the pod lives, and is the one that asks (watch; GET on a miss)
//! 4. [`authorise`]: what it may have (pure)
//! 5. [`vend`]: the credential (cache; store)
//! 6. [`audit`]: one line
//!
//! The API server is asked only for pods of namespaces with a HubStorage, and [`limits`] bounds
//! what one sender costs. [`server`] carries the answers, [`refusal`] is about those that are none.
//! Beside the answers, [`probe`] tries whether the store holds users apart, and [`last_vend`] notes
//! when a user was last served.

pub mod audit;
pub mod authorise;
pub mod informers;
mod issuer;
pub mod keys;
pub mod last_vend;
pub mod limits;
pub mod metrics;
pub mod pods;
pub mod probe;
pub mod refusal;
pub mod review;
pub mod server;
pub mod token;
pub mod vend;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::http::HeaderMap;
use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::{self, Clock};
use crate::guard::GuardState;
use crate::listener::Ending;
use crate::providers::{Connect, Connections, SecretVersions};
use crate::pulse::Cadence;

pub use informers::Readiness;
pub use metrics::Metrics;

use audit::Audit;
use informers::Informers;
use keys::Keys;
use last_vend::LastVend;
use limits::{Limit, PodUid, Sender};
use pods::Pods;
use probe::Prober;
use refusal::{Refusal, RequestError};
use review::Reviews;
use token::{PodIdentity, Presented};
use vend::{Vended, Vendor};

/// The field manager of everything that the broker applies.
pub const FIELD_MANAGER: &str = "hubstorage-serve";

/// What the broker is given by its process.
pub struct Options {
    /// To the API server, as the service account of `serve`.
    pub client: Client,
    /// Where to answer.
    pub listen: SocketAddr,
    /// With what certificate.
    pub tls: Arc<rustls::ServerConfig>,
    /// Whether stamps and usernames can be trusted.
    pub guard: watch::Receiver<GuardState>,
    /// What is counted.
    pub metrics: Metrics,
    /// Told when answers can be given; for the readiness check.
    pub readiness: Readiness,
    /// Name of this replica, for the Lease.
    pub identity: String,
    /// Cancelled a little before the broker is told to stop: callers are led away.
    pub leaving: CancellationToken,
}

/// Makes connections with the vending keys, whose versions it is given.
pub type Connector = Box<dyn FnOnce(SecretVersions) -> Arc<dyn Connect> + Send>;

/// What tests replace.
pub struct Outside {
    /// Connections to stores.
    pub connect: Connector,
    /// The time.
    pub clock: Clock,
    /// How often the watches give a sign of life.
    pub cadence: Cadence,
}

/// Answers until `stop`.
///
/// # Errors
/// If the port cannot be had.
pub async fn run(options: Options, stop: CancellationToken) -> anyhow::Result<()> {
    let listener = std::net::TcpListener::bind(options.listen)
        .with_context(|| format!("{}: the broker's port cannot be opened", options.listen))?;
    let client = options.client.clone();
    let outside = Outside {
        connect: Box::new(|secrets| Arc::new(Connections::new(client, secrets))),
        clock: clock::system(),
        cadence: Cadence::default(),
    };
    run_on(listener, options, outside, stop).await
}

/// [`run`], on a listener that is there already and with `outside` in place of the world.
///
/// # Errors
/// If the listener is of no use.
pub async fn run_on(
    listener: std::net::TcpListener,
    options: Options,
    outside: Outside,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let Options {
        client,
        tls,
        guard,
        metrics,
        readiness,
        identity,
        leaving,
        ..
    } = options;
    let Outside {
        connect,
        clock,
        cadence,
    } = outside;
    // Whatever ends the server ends what was started beside it.
    let stop = stop.child_token();
    let _ended = stop.clone().drop_guard();
    let informers = Arc::new(Informers::start(
        &client, guard, &cadence, &readiness, &stop,
    ));
    let connect = connect(informers.secrets.clone());
    let broker = Arc::new(Broker {
        keys: Keys::new(client.clone()),
        reviews: Reviews::new(client.clone()),
        pods: Pods::new(client.clone(), informers.pods.clone()),
        vendor: Vendor::new(connect.clone(), clock.clone(), metrics.clone()),
        last_vend: LastVend::start(
            client.clone(),
            informers.users.clone(),
            clock.clone(),
            stop.clone(),
        ),
        audit: Audit::default(),
        failures: Limit::on_failures(),
        failures_of_address: Limit::on_failures_of_address(),
        requests: Limit::on_requests(),
        informers: informers.clone(),
        readiness,
        clock: clock.clone(),
        metrics: metrics.clone(),
    });
    let prober = Prober {
        client,
        informers,
        connect,
        clock,
        metrics,
    };
    let background = tokio::spawn({
        let (broker, stop) = (broker.clone(), stop.clone());
        async move {
            if stop
                .run_until_cancelled(broker.become_ready())
                .await
                .is_some()
            {
                prober.run(identity, stop).await;
            }
        }
    });
    let ending = Ending {
        announced: leaving,
        closing: stop.clone(),
    };
    let served = server::serve(broker.clone(), listener, tls, ending).await;
    broker.readiness.set(false);
    stop.cancel();
    // Releases the Lease.
    _ = tokio::time::timeout(Duration::from_secs(5), background).await;
    served
}

/// All steps, with what each remembers.
pub struct Broker {
    keys: Keys,
    reviews: Reviews,
    pods: Pods,
    vendor: Vendor,
    last_vend: LastVend,
    audit: Audit,
    failures: Limit<Sender>,
    failures_of_address: Limit<IpAddr>,
    requests: Limit<PodUid>,
    informers: Arc<Informers>,
    readiness: Readiness,
    clock: Clock,
    metrics: Metrics,
}

impl Broker {
    async fn become_ready(&self) {
        self.informers.synced().await;
        while let Err(error) = self.keys.load().await {
            tracing::warn!(%error, "the API server's keys cannot be read; it is tried again");
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        self.readiness.set(true);
        tracing::info!("the broker is ready");
    }

    /// The answer for the pod at `peer`, as `agent` tells it.
    async fn answer(
        &self,
        headers: &HeaderMap,
        agent: IpAddr,
        peer: IpAddr,
    ) -> Result<Vended, Refusal> {
        let sender = (agent, peer);
        let mut identity = None;
        let answer = match self.stopped(&sender).await {
            Some(stopped) => Err(stopped.into()),
            None => tokio::time::timeout(
                server::ANSWER_WITHIN,
                self.steps(headers, peer, &mut identity),
            )
            .await
            .unwrap_or(Err(RequestError::TooSlow.into())),
        };
        if let Err(refusal) = &answer {
            if refusal.is_unauthenticated() && !matches!(refusal, Refusal::Request(_)) {
                let now = Instant::now();
                self.failures.count(sender, now).await;
                self.failures_of_address.count(agent, now).await;
            }
            self.audit.refused(identity.as_ref(), Some(peer), refusal);
        }
        answer
    }

    /// Why nothing that `sender` sends is looked at for now.
    async fn stopped(&self, sender: &Sender) -> Option<RequestError> {
        let (agent, now) = (sender.0, Instant::now());
        if self.failures.exceeded(sender, now).await {
            return Some(RequestError::TooManyFailures);
        }
        let exceeded = self.failures_of_address.exceeded(&agent, now).await;
        exceeded.then_some(RequestError::TooManyStrangers { agent })
    }

    /// The steps; `identity` is told as soon as the token's signature has proven it.
    async fn steps(
        &self,
        headers: &HeaderMap,
        peer: IpAddr,
        identity: &mut Option<PodIdentity>,
    ) -> Result<Vended, Refusal> {
        self.readiness
            .check()
            .map_err(|why| RequestError::NotReady { why })?;
        let token = Presented::new(headers, (self.clock)())?;
        let remembered = self.reviews.remembered(token.expose()).await;
        let is_confirmed = remembered.is_some();
        let proven = &*identity.insert(match remembered {
            Some(remembered) => remembered,
            None => token.verify(&self.keys).await?,
        });
        self.allow(&proven.uid).await?;
        authorise::refuse_without_hub(&proven.namespace, &*self.informers)?;
        if !is_confirmed {
            self.reviews.confirm(token.expose(), proven).await?;
        }
        let pod = self.pods.live(proven, peer).await?;
        let servers = match authorise::servers_needed(&pod.metadata, &*self.informers)? {
            Some(servers) => self.pods.running(servers).await?,
            None => Vec::new(),
        };
        let grantee = authorise::authorise(&pod.metadata, &servers, &*self.informers)?;
        let vended = self.vendor.vend(&grantee).await?;
        self.audit.vended(proven, &grantee, &vended);
        self.last_vend.vended(&proven.namespace, &grantee.hub_user);
        Ok(vended)
    }

    async fn allow(&self, pod: &PodUid) -> Result<(), RequestError> {
        let now = Instant::now();
        if self.requests.exceeded(pod, now).await {
            return Err(RequestError::TooManyRequests);
        }
        self.requests.count(pod.clone(), now).await;
        Ok(())
    }
}
