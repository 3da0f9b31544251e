//! The kubelets' volume statistics, asked of each directly.
//!
//! By way of the API server that would need `nodes/proxy`, with which one may run commands in every pod. And not with
//! the controller's own token: whoever is root on one node would have it, and with it the keys that manage. A service
//! account of its own may read the statistics of nodes, and nothing else (docs/decisions/0018).

mod tls;

use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hubstorage_core::api::SYSTEM_NAMESPACE;
use hubstorage_core::homes::NodeSummary;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::Mutex;

use super::{Options, Trouble};
use crate::clock::Clock;
use crate::controller::ApiFailure;
use crate::manifests::USAGE_ACCOUNT;
use tls::{Connector, Trusted};

/// How long an answer may take, from the connection to its last byte.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// More of an answer is not read. 250 pods make about 3 MB.
const LONGEST_ANSWER: usize = 8 << 20;

/// Shortest life of a token that the API server gives.
const TOKEN_SECONDS: i64 = 600;

/// So long before its end a token is not used any more.
const TOKEN_SPARE: SignedDuration = SignedDuration::from_secs(120);

/// Nodes in one answer of the API server; each is some 20 kB, most of it names of images.
const PAGE: u32 = 50;

/// In this order: what reaches a kubelet from within the cluster first.
const ADDRESSES: [&str; 5] = [
    "InternalIP",
    "InternalDNS",
    "Hostname",
    "ExternalDNS",
    "ExternalIP",
];

/// A node, and where its kubelet answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubelet {
    /// The node's name.
    pub name: String,
    /// Host and port.
    pub address: String,
}

/// How kubelets are reached.
pub struct Kubelets {
    client: Client,
    clock: Clock,
    trusted: Trusted,
    token: Mutex<Option<(HeaderValue, Timestamp)>>,
}

/// What kubelets are asked with in one round.
pub struct Asking<'k> {
    kubelets: &'k Kubelets,
    client: HttpClient<Connector, Empty<bytes::Bytes>>,
}

impl Kubelets {
    /// As the options say.
    ///
    /// # Errors
    /// If the certificates of the authorities are none.
    pub fn new(client: Client, clock: Clock, options: &Options) -> anyhow::Result<Self> {
        Ok(Self {
            client,
            clock,
            trusted: Trusted::of(options)?,
            token: Mutex::default(),
        })
    }

    /// What a round begins with: all nodes that are ready (the others' kubelets do not answer), and what they are asked
    /// with.
    ///
    /// # Errors
    /// If the API server does not give it.
    pub async fn begin(&self) -> Result<(Asking<'_>, Vec<Kubelet>), Trouble> {
        let nodes = self.nodes().await.map_err(logged(Trouble::NoNodes))?;
        Ok((self.asking().await?, nodes))
    }

    async fn asking(&self) -> Result<Asking<'_>, Trouble> {
        let connector = tls::connector(&self.trusted).await;
        let connector = connector.map_err(logged(Trouble::UnknownAuthority))?;
        // Connections are not kept for the next round: the kubelet closes them before.
        let client = HttpClient::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        Ok(Asking {
            kubelets: self,
            client,
        })
    }

    async fn nodes(&self) -> Result<Vec<Kubelet>, ApiFailure> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let mut params = ListParams::default().limit(PAGE);
        let mut found = Vec::new();
        loop {
            let page = nodes.list(&params).await?;
            found.extend(page.items.iter().filter_map(kubelet));
            match page.metadata.continue_.filter(|next| !next.is_empty()) {
                Some(next) => params = params.continue_token(&next),
                None => return Ok(found),
            }
        }
    }

    /// A token of the account that may do nothing else.
    async fn token(&self) -> Result<HeaderValue, Trouble> {
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
            .map_err(|error| logged(Trouble::NoToken)(ApiFailure::from(error)))?;
        let given = given.status.unwrap_or_default();
        let (Some(token), Some(until)) = (given.token, given.expiration_timestamp) else {
            return Err(Trouble::NoToken);
        };
        let mut token =
            HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| Trouble::NoToken)?;
        token.set_sensitive(true);
        *kept = Some((token.clone(), until.0 - TOKEN_SPARE));
        Ok(token)
    }
}

impl Asking<'_> {
    /// What one kubelet tells.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn summary(&self, kubelet: &Kubelet) -> Result<NodeSummary, Trouble> {
        // Each time: a round may take longer than a token lives.
        let token = self.kubelets.token().await?;
        let answer = tokio::time::timeout(ANSWER_WITHIN, self.ask(kubelet, token));
        answer.await.map_err(|_| Trouble::Unreachable)?
    }

    async fn ask(&self, kubelet: &Kubelet, token: HeaderValue) -> Result<NodeSummary, Trouble> {
        let request = Request::get(format!("https://{}/stats/summary", kubelet.address))
            .header(AUTHORIZATION, token)
            .body(Empty::new())
            .map_err(|_| Trouble::Unreachable)?;
        let response = self.client.request(request).await;
        let (head, body) = response.map_err(|error| tls::trouble(&error))?.into_parts();
        match head.status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => return Err(Trouble::Unauthorized),
            StatusCode::FORBIDDEN => return Err(Trouble::Forbidden),
            _ => return Err(Trouble::Refused),
        }
        let body = Limited::new(body, LONGEST_ANSWER).collect().await;
        let body = body.map_err(|_| Trouble::Unreadable)?.to_bytes();
        serde_json::from_slice(&body).map_err(|_| Trouble::Unreadable)
    }
}

/// The API server's own words are for the log.
fn logged<E: std::fmt::Display>(trouble: Trouble) -> impl FnOnce(E) -> Trouble {
    move |error| {
        tracing::warn!(%error, "{trouble}");
        trouble
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
