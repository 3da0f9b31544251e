//! The kubelets' volume statistics, asked of each directly.
//!
//! By way of the API server that would need `nodes/proxy`, with which one may run commands in every pod. And not with
//! the controller's own token: whoever is root on one node would have it, and with it the keys that manage. A service
//! account of its own may read the statistics of nodes, and nothing else (docs/decisions/0018).

use std::fmt::Write as _;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hubstorage_core::api::SYSTEM_NAMESPACE;
use hubstorage_core::homes::NodeSummary;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::api::{ListParams, PostParams};
use kube::client::Body;
use kube::{Api, Client, Config, ResourceExt as _};
use tokio::sync::Mutex;

use super::Options;
use crate::clock::Clock;
use crate::controller::ApiFailure;
use crate::manifests::USAGE_ACCOUNT;

/// How long an answer may take, from the connection to its last byte.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// More of an answer is not read. 250 pods make about 3 MB.
const LONGEST_ANSWER: usize = 32 << 20;

/// Shortest life of a token that the API server gives.
const TOKEN_SECONDS: i64 = 600;

/// So long before its end a token is not used any more.
const TOKEN_SPARE: SignedDuration = SignedDuration::from_secs(120);

/// Nodes in one answer of the API server; each is some 20 kB, most of it names of images.
const PAGE: u32 = 100;

/// In this order: what reaches a kubelet from within the cluster first.
const ADDRESSES: [&str; 5] = [
    "InternalIP",
    "InternalDNS",
    "Hostname",
    "ExternalDNS",
    "ExternalIP",
];

/// A node did not tell.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    /// The API server did not give what is needed to ask.
    #[error("the API server failed at {what}: {source}")]
    ApiServer {
        /// At what.
        what: &'static str,
        /// Why.
        source: ApiFailure,
    },
    /// It gave something else than a token.
    #[error("the API server gives no token of service account hubstorage-usage")]
    NoToken,
    /// A certificate that nobody trusts.
    #[error(
        "{0}: the kubelet's certificate is not signed by an authority that the controller was given"
    )]
    Certificate(String),
    /// No connection, or it broke.
    #[error("{0}")]
    Connection(String),
    /// An answer, but not this one.
    #[error("the kubelet answers {status}{hint}")]
    Refused {
        /// With which status.
        status: StatusCode,
        /// What that means.
        hint: &'static str,
    },
    /// No answer in time.
    #[error("the kubelet does not answer within {} s", ANSWER_WITHIN.as_secs())]
    Silence,
    /// An answer that is none.
    #[error("the kubelet's answer cannot be read: {0}")]
    Unreadable(String),
}

/// A node, and where its kubelet answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubelet {
    /// The node's name.
    pub name: String,
    /// Host and port.
    pub address: String,
}

/// Which certificates of kubelets are taken.
enum Trusted {
    /// Those of these authorities; where there are none, of those that the operating system trusts.
    Signed(Option<Vec<Vec<u8>>>),
    /// Any.
    All,
}

/// How kubelets are reached.
pub struct Kubelets {
    client: Client,
    clock: Clock,
    trusted: Trusted,
    token: Mutex<Option<(HeaderValue, Timestamp)>>,
}

impl Kubelets {
    /// As the options say.
    ///
    /// # Errors
    /// If there is no authority to trust, or its certificates are none.
    pub async fn new(client: Client, clock: Clock, options: &Options) -> anyhow::Result<Self> {
        let trusted = match &options.kubelet_certificate_authority {
            _ if options.kubelet_insecure_tls => Trusted::All,
            Some(pem) => Trusted::Signed(Some(certificates(pem)?)),
            None => Trusted::Signed(Config::infer().await?.root_cert),
        };
        Ok(Self {
            client,
            clock,
            trusted,
            token: Mutex::default(),
        })
    }

    /// All nodes that are ready: the others' kubelets do not answer.
    ///
    /// # Errors
    /// If the API server does not tell them.
    pub async fn nodes(&self) -> Result<Vec<Kubelet>, KubeletError> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let mut params = ListParams::default().limit(PAGE);
        let mut found = Vec::new();
        loop {
            let page = nodes.list(&params).await.map_err(at("listing nodes"))?;
            found.extend(page.items.iter().filter_map(kubelet));
            match page.metadata.continue_.filter(|next| !next.is_empty()) {
                Some(next) => params = params.continue_token(&next),
                None => return Ok(found),
            }
        }
    }

    /// What one kubelet tells.
    ///
    /// # Errors
    /// If it does not.
    pub async fn summary(&self, kubelet: &Kubelet) -> Result<NodeSummary, KubeletError> {
        let token = self.token().await?;
        let answer = tokio::time::timeout(ANSWER_WITHIN, self.ask(kubelet, token));
        answer.await.map_err(|_| KubeletError::Silence)?
    }

    async fn ask(
        &self,
        kubelet: &Kubelet,
        token: HeaderValue,
    ) -> Result<NodeSummary, KubeletError> {
        let url = format!("https://{}/", kubelet.address);
        let url = url
            .parse()
            .map_err(|_| KubeletError::Connection(format!("{url} is no address")))?;
        let mut config = Config::new(url);
        match &self.trusted {
            Trusted::Signed(authorities) => config.root_cert.clone_from(authorities),
            Trusted::All => config.accept_invalid_certs = true,
        }
        let client = Client::try_from(config).map_err(|error| connection(&error))?;
        let request = Request::get("/stats/summary")
            .header(AUTHORIZATION, token)
            .body(Body::empty())
            .map_err(|error| connection(&error))?;
        let (head, body) = match client.send(request).await {
            Ok(response) => response.into_parts(),
            Err(error) => return Err(connection(&error)),
        };
        if head.status != StatusCode::OK {
            return Err(KubeletError::Refused {
                status: head.status,
                hint: hint(head.status),
            });
        }
        let body = Limited::new(body, LONGEST_ANSWER).collect().await;
        let body = body.map_err(|error| KubeletError::Unreadable(error.to_string()))?;
        serde_json::from_slice(&body.to_bytes())
            .map_err(|error| KubeletError::Unreadable(error.to_string()))
    }

    /// A token of the account that may do nothing else.
    async fn token(&self) -> Result<HeaderValue, KubeletError> {
        let now = (self.clock)();
        let mut kept = self.token.lock().await;
        if let Some((token, until)) = &*kept
            && *until > now
        {
            return Ok(token.clone());
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let spec = TokenRequestSpec {
            expiration_seconds: Some(TOKEN_SECONDS),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest {
            spec: Some(spec),
            ..TokenRequest::default()
        };
        let given = accounts
            .create_token_request(USAGE_ACCOUNT, &PostParams::default(), &request)
            .await
            .map_err(at("asking for a token of service account hubstorage-usage"))?;
        let given = given.status.unwrap_or_default();
        let (Some(token), Some(until)) = (given.token, given.expiration_timestamp) else {
            return Err(KubeletError::NoToken);
        };
        let mut token =
            HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| KubeletError::NoToken)?;
        token.set_sensitive(true);
        *kept = Some((token.clone(), until.0 - TOKEN_SPARE));
        Ok(token)
    }
}

fn at(what: &'static str) -> impl FnOnce(kube::Error) -> KubeletError {
    move |error| KubeletError::ApiServer {
        what,
        source: error.into(),
    }
}

fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => {
            ": it takes no tokens of service accounts (authentication.webhook.enabled of its configuration)"
        }
        StatusCode::FORBIDDEN => {
            ": service account hubstorage-usage may not get nodes/stats, or the kubelet does not ask who may (authorization.mode of its configuration)"
        }
        _ => "",
    }
}

/// With what is beneath: the library says of every trouble that it could not connect.
fn connection(error: &dyn std::error::Error) -> KubeletError {
    let mut words = error.to_string();
    let mut beneath = error.source();
    while let Some(error) = beneath {
        let more = error.to_string();
        if !words.contains(&more) {
            _ = write!(words, ": {more}");
        }
        beneath = error.source();
    }
    match words.contains("certificate") {
        true => KubeletError::Certificate(words),
        false => KubeletError::Connection(words),
    }
}

fn certificates(pem: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
        .map(|read| read.map(|certificate| certificate.to_vec()))
        .collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => anyhow::bail!("--kubelet-certificate-authority holds no PEM certificate"),
        Err(error) => anyhow::bail!("--kubelet-certificate-authority is no PEM: {error}"),
    }
}

/// Where a node's kubelet answers, if it is there.
fn kubelet(node: &Node) -> Option<Kubelet> {
    let status = node.status.as_ref()?;
    let mut conditions = status.conditions.iter().flatten();
    conditions.find(|told| told.type_ == "Ready" && told.status == "True")?;
    let endpoints = status.daemon_endpoints.as_ref()?;
    let port = endpoints.kubelet_endpoint.as_ref()?.port;
    let host = ADDRESSES.iter().find_map(|type_| {
        let mut addresses = status.addresses.iter().flatten();
        addresses.find(|address| address.type_ == *type_)
    })?;
    let host = match host.address.contains(':') {
        true => format!("[{}]", host.address),
        false => host.address.clone(),
    };
    Some(Kubelet {
        name: node.name_any(),
        address: format!("{host}:{port}"),
    })
}

#[cfg(test)]
mod tests;
