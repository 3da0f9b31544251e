//! The ports of the platform: free ones, kept in `.run/state.json`, so that two checkouts
//! run side by side and a second `up` finds everything where it was.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result, bail};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::checkout::Checkout;
use crate::component::Component;
use crate::files;
use crate::process::Record;

/// Below the range from which Linux takes the ports of outgoing connections (32768 and up), which
/// could be taken again between our choice and a component's start.
const CANDIDATES: std::ops::Range<u16> = 20_000..30_000;

/// Which port belongs to what. The names are `component` or `component-purpose`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    host: Option<IpAddr>,
    ports: BTreeMap<String, u16>,
}

impl Ports {
    /// The ports as the last `up` left them; none before the first.
    pub fn load(checkout: &Checkout) -> Self {
        std::fs::read(checkout.run("state.json"))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }

    /// The ports of every component: those of a running one stay, the others stay if they are
    /// free and are chosen anew if not.
    pub fn choose(
        checkout: &Checkout,
        host: IpAddr,
        components: &[Box<dyn Component>],
    ) -> Result<Self> {
        let known = Self::load(checkout);
        // Ports of components that are not asked for now may be in use all the same.
        let mut chosen = known.clone();
        chosen.host = Some(host);
        let mut candidates: Vec<u16> = CANDIDATES.collect();
        candidates.shuffle(&mut rand::rng());
        let taken: Vec<u16> = known.ports.values().copied().collect();
        let mut free = candidates
            .into_iter()
            .filter(|port| !taken.contains(port) && is_free(*port));

        for component in components {
            let runs =
                Record::of(checkout, component.name()).is_some_and(|record| record.is_alive());
            for name in component.ports() {
                let kept = known
                    .ports
                    .get(*name)
                    .copied()
                    .filter(|port| runs || is_free(*port));
                let port = kept.or_else(|| free.next());
                let port = port.context("no free port between 20000 and 30000")?;
                chosen.ports.insert((*name).to_owned(), port);
            }
        }
        files::write_private(
            &checkout.run("state.json"),
            serde_json::to_vec_pretty(&chosen)?,
        )?;
        Ok(chosen)
    }

    /// The port called `name`.
    pub fn get(&self, name: &str) -> Result<u16> {
        match self.ports.get(name) {
            Some(port) => Ok(*port),
            None => bail!("no port for {name:?} is recorded in .run/state.json; run `make up`"),
        }
    }

    /// Where everything listens.
    pub fn host(&self) -> IpAddr {
        self.host.unwrap_or(Ipv4Addr::LOCALHOST.into())
    }

    /// Where whatever has the port called `name` listens.
    pub fn address(&self, name: &str) -> Result<SocketAddr> {
        Ok(SocketAddr::from((self.host(), self.get(name)?)))
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}
