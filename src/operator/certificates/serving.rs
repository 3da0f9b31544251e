//! The leaf of one `serve` replica: signed in memory, renewed in time and whenever the authority
//! changes, taken up by connections that are opened afterwards.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use futures::StreamExt as _;
use hubstorage_core::api::SYSTEM_NAMESPACE;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_util::sync::CancellationToken;

use super::AUTHORITY_NAME;
use super::authority::Authority;
use super::leaf::{Names, Signed, sign};

/// The certificate that a replica shows at the moment.
#[derive(Debug, Default)]
pub struct Leaf {
    current: ArcSwapOption<Signed>,
}

impl Leaf {
    /// Follows the authority until `stop`.
    pub fn keep(client: Client, names: Names, stop: CancellationToken) -> Arc<Self> {
        let leaf = Arc::new(Self::default());
        let kept = leaf.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = kept.follow(client, names) => {}
            }
        });
        leaf
    }

    /// Why there is nothing to show, for readiness.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn check(&self, now: Timestamp) -> Result<(), String> {
        match &*self.current.load() {
            None => Err(format!(
                "Secret {SYSTEM_NAMESPACE}/{AUTHORITY_NAME} holds no certificate authority yet; `hubstorage controller` writes it"
            )),
            Some(leaf) if leaf.validity.is_over(now) => Err(format!(
                "the certificate ended at {}; `hubstorage controller` renews the authority",
                leaf.validity.until
            )),
            Some(_) => Ok(()),
        }
    }

    /// TLS 1.2 and later with whatever certificate is current when a connection is opened.
    ///
    /// # Errors
    /// None in practice: the protocol versions are those of the provider.
    pub fn tls(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    async fn follow(&self, client: Client, names: Names) {
        let secrets: Api<Secret> = Api::namespaced(client, SYSTEM_NAMESPACE);
        // RBAC allows the watch for this field selector only.
        let only = watcher::Config::default().fields(&format!("metadata.name={AUTHORITY_NAME}"));
        let mut events = std::pin::pin!(watcher(secrets, only).default_backoff());
        let mut authority: Option<Authority> = None;
        loop {
            tokio::select! {
                Some(event) = events.next() => match event {
                    Ok(watcher::Event::Apply(secret) | watcher::Event::InitApply(secret)) => {
                        if let Some(read) = changed(&secret, authority.as_ref()) {
                            self.renew(&read, &names);
                            authority = Some(read);
                        }
                    }
                    // A Secret that was deleted is made anew, and until then the leaf is trusted.
                    Ok(watcher::Event::Delete(_) | watcher::Event::Init | watcher::Event::InitDone) => {}
                    Err(error) => tracing::warn!(%error, "the watch of the certificate authority was interrupted"),
                },
                () = self.renewal_due() => if let Some(authority) = &authority {
                    self.renew(authority, &names);
                },
            }
        }
    }

    fn renew(&self, authority: &Authority, names: &Names) {
        match sign(authority, names, Timestamp::now()) {
            Ok(leaf) => {
                tracing::info!(until = %leaf.validity.until, "certificate");
                self.current.store(Some(Arc::new(leaf)));
            }
            Err(error) => tracing::error!(%error, "no certificate could be signed"),
        }
    }

    /// Returns when the leaf should be renewed; never without one.
    async fn renewal_due(&self) {
        let Some(leaf) = self.current.load_full() else {
            return std::future::pending().await;
        };
        let left = leaf.validity.renewal().duration_since(Timestamp::now());
        // Not sooner than in a minute: where the authority itself is about to end, every leaf is
        // due at once.
        let pause = left.max(jiff::SignedDuration::from_mins(1));
        tokio::time::sleep(pause.unsigned_abs()).await;
    }
}

/// The authority in the Secret, where another one signs than before.
fn changed(secret: &Secret, before: Option<&Authority>) -> Option<Authority> {
    let read = secret.data.as_ref().map(Authority::parse)?;
    match read {
        Ok(read) => (before.map(|before| &before.current) != Some(&read.current)).then_some(read),
        Err(error) => {
            tracing::warn!(%error, "the certificate authority in Secret {AUTHORITY_NAME} is of no use");
            None
        }
    }
}

impl ResolvesServerCert for Leaf {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load().as_ref().map(|leaf| leaf.key.clone())
    }
}
