//! Users whose pods run: each with an address and a token of its own, as the broker wants them.
//!
//! The pods are real to everybody who asks the API server, as in [`hubstorage_e2e::host_pod`]. Their
//! addresses are loopback addresses, all different: so one process can ask as each of them, and
//! everybody counts what a pod costs by pod.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;

use anyhow::{Context, Result};
use http::{HeaderValue, Request, header};
use http_body_util::Full;
use hubstorage_e2e::Platform;
use hubstorage_e2e::components::kubernetes::NODE;
use hubstorage_e2e::host_pod::{report_running, token_of};
use hubstorage_e2e::progress::{Progress, Step};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use super::load::{Load, each, of_hub, request_of_hub, user_pod};
use super::traffic::{Endpoint, get};

/// Of the token that the webhook gives to pods.
const AUDIENCE: &str = "hubstorage.io";

/// The one path of agent and broker.
const PATH: &str = "/v1/credentials";

/// Tells the broker what the agent has seen.
const PEER: &str = "hubstorage-peer";

/// A user's pod.
#[derive(Clone)]
pub struct User {
    /// Its address.
    pub address: IpAddr,
    token: HeaderValue,
    forged: HeaderValue,
    peer: HeaderValue,
}

/// Makes a hub with so many users, whose pods run.
pub async fn start(
    platform: &Platform,
    client: &Client,
    load: &Load,
    progress: &Progress,
    count: usize,
) -> Result<Vec<User>> {
    let step = progress.step("hub", "creating");
    load.create_vending_hub(&step).await?;
    step.done("vends");
    let step = progress.step("users", "creating");
    let node = platform.client_as_node().await?;
    let pods = Mutex::new(Vec::new());
    each(&step, 0..count, async |number| {
        let pod = start_pod(client, &node, number)
            .await
            .with_context(|| format!("the pod of user-{number}"))?;
        if let Ok(mut pods) = pods.lock() {
            pods.push(pod);
        }
        Ok(())
    })
    .await?;
    let mut pods = pods.into_inner().unwrap_or_default();
    pods.sort_unstable();
    let others = pods.iter().cycle().skip(1);
    let users: Vec<User> = pods
        .iter()
        .zip(others)
        .map(|((address, token), (_, other))| User::new(*address, token, other))
        .collect::<Result<_>>()?;
    step.done(&format!("{} have pods and tokens", users.len()));
    Ok(users)
}

/// The address of a new pod, and its token.
async fn start_pod(client: &Client, node: &Client, number: usize) -> Result<(IpAddr, String)> {
    let namespace = of_hub(0);
    let mut pod = user_pod(&format!("user-{number}"));
    pod["spec"]["nodeName"] = json!(NODE);
    let created = request_of_hub(&namespace, &namespace, &pod, &PostParams::default())?;
    let created: Pod = client.request(created).await?;
    let address = address(number);
    let as_node: Api<Pod> = Api::namespaced(node.clone(), &namespace);
    report_running(&as_node, &created.name_any(), address).await?;
    let token = token_of(node, &created, AUDIENCE, None).await?;
    Ok((address, token))
}

/// 127.1.0.1 and those after it, without the first and the last of each 256.
fn address(number: usize) -> IpAddr {
    let byte = |number: usize| u8::try_from(number % 256).unwrap_or_default();
    Ipv4Addr::new(127, 1, byte(number / 254), byte(number % 254 + 1)).into()
}

impl User {
    /// `other` is a token of somebody else.
    fn new(address: IpAddr, token: &str, other: &str) -> Result<Self> {
        let bearer = |token: &str| {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
            value.set_sensitive(true);
            anyhow::Ok(value)
        };
        // A signature that is none at all would be refused before anybody computes with it.
        let (said, _) = token.rsplit_once('.').context("a token has three parts")?;
        let (_, signature) = other.rsplit_once('.').context("a token has three parts")?;
        Ok(Self {
            address,
            token: bearer(token)?,
            forged: bearer(&format!("{said}.{signature}"))?,
            peer: HeaderValue::try_from(address.to_string())?,
        })
    }

    /// What the user's SDK asks the agent.
    pub fn asks(&self, agent: &Endpoint) -> Request<Full<bytes::Bytes>> {
        let mut request = get(agent, PATH);
        let token = self.token.clone();
        request.headers_mut().insert(header::AUTHORIZATION, token);
        request
    }

    /// What the agent asks the broker for the user.
    pub fn is_asked_for(&self, broker: &Endpoint) -> Request<Full<bytes::Bytes>> {
        let mut request = self.asks(broker);
        request.headers_mut().insert(PEER, self.peer.clone());
        request
    }

    /// The same with a token that says what the user's says, under somebody else's signature.
    pub fn is_forged_for(&self, broker: &Endpoint) -> Request<Full<bytes::Bytes>> {
        let mut request = self.is_asked_for(broker);
        let forged = self.forged.clone();
        request.headers_mut().insert(header::AUTHORIZATION, forged);
        request
    }
}

/// Has the broker answer once for each user, so that it has a credential of each: it asks the store
/// for them, and hears of new pods a little later than the API server.
pub async fn warm_up(step: &Step, broker: &Endpoint, users: &[User]) -> Result<()> {
    let all = users.iter().enumerate();
    let mut caller = broker.caller(None);
    for (number, user) in all {
        step.now(&format!(
            "{number} of {} users have a credential",
            users.len()
        ));
        let mut told = String::new();
        for _ in 0..TRIES {
            let answer = caller.ask(user.is_asked_for(broker)).await?;
            told = answer.told();
            if answer.status.is_success() {
                break;
            }
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
        anyhow::ensure!(
            told == "200",
            "the broker has nothing for {}: {told}",
            user.address
        );
    }
    Ok(())
}

/// Bounds a hang.
const TRIES: usize = 100;
const BETWEEN_TRIES: std::time::Duration = std::time::Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_user_has_another_address() {
        let all: BTreeSet<IpAddr> = (0..5000).map(address).collect();
        assert_eq!(all.len(), 5000);
        assert!(all.iter().all(IpAddr::is_loopback));
        assert_eq!(address(0), IpAddr::from([127, 1, 0, 1]));
        assert_eq!(address(254), IpAddr::from([127, 1, 1, 1]));
    }
}
