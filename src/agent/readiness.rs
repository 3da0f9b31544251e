//! Whether the agent can do its work on this node.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use thiserror::Error;

use crate::broker::Broker;
use crate::refusal::Refusal;

/// Why pods get no credentials from this agent; the reader is whoever runs the node.
#[derive(Debug, Error)]
pub(crate) enum NotReady {
    /// The broker cannot be asked.
    #[error("{0}")]
    Broker(#[from] Refusal),
    /// Nobody hears of it otherwise: a listener whose address is taken away gets no error and no traffic.
    #[error(
        "{0} is on no interface of this node any more, so no pod reaches the agent; delete the agent's pod, as a new one adds the address, or run `hubstorage-agent add-address --address {0}` as root on the node"
    )]
    AddressGone(IpAddr),
}

/// What readiness is made of. That the broker answers is no part of it: its outage is no reason to
/// replace agents.
#[derive(Debug)]
pub(crate) struct Readiness {
    broker: Arc<Broker>,
    address: IpAddr,
    was_gone: AtomicBool,
}

impl Readiness {
    /// For an agent that listens on `address`.
    pub(crate) fn new(broker: Arc<Broker>, address: IpAddr) -> Self {
        Self {
            broker,
            address,
            was_gone: AtomicBool::new(false),
        }
    }

    /// Whether pods can be answered now. Logs when the address goes and when it is back.
    pub(crate) fn check(&self) -> Result<(), NotReady> {
        let is_gone = !is_on_node(self.address);
        if self.was_gone.swap(is_gone, Ordering::Relaxed) != is_gone {
            if is_gone {
                tracing::error!("{}", NotReady::AddressGone(self.address));
            } else {
                tracing::info!(address = %self.address, "the address is back on this node");
            }
        }
        if is_gone {
            return Err(NotReady::AddressGone(self.address));
        }
        Ok(self.broker.ready()?)
    }
}

/// The kernel lets sockets be bound only to addresses that the node has. (Unless
/// `net.ipv4.ip_nonlocal_bind` is set: there the loss of an address is not seen.)
fn is_on_node(address: IpAddr) -> bool {
    match UdpSocket::bind((address, 0)) {
        Ok(_) => true,
        // Any other error says nothing about the address.
        Err(error) => error.kind() != io::ErrorKind::AddrNotAvailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_whose_address_was_taken_away_is_not_ready_and_says_what_to_do() {
        let broker = Broker::new(&"https://broker".parse().unwrap(), "no-ca.crt".into());
        let readiness = Readiness::new(Arc::new(broker), "192.0.2.1".parse().unwrap());

        let reason = readiness.check().unwrap_err();

        assert!(matches!(reason, NotReady::AddressGone(_)));
        assert!(reason.to_string().contains("delete the agent's pod"));
    }

    #[test]
    fn an_address_is_on_the_node_if_one_of_its_interfaces_has_it() {
        assert!(is_on_node("127.0.0.1".parse().unwrap()));
        assert!(!is_on_node("192.0.2.1".parse().unwrap()));
        assert!(!is_on_node("2001:db8::1".parse().unwrap()));
    }
}
