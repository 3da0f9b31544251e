//! How much of the agent one peer may have, so that a flood from one pod harms nobody else.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Semaphore;

/// Connections open at a time on one port, all peers together. Each costs 15 to 30 KiB, so that even the
/// worst flood, on the port for pods and the one for metrics, leaves the agent below 80 MiB: the chart's
/// memory limit is above that.
const CONNECTIONS: usize = 1024;

/// Connections of one peer while there is plenty of room. Host processes share one address.
const CONNECTIONS_PER_PEER: usize = 256;

/// Connections of one peer while more than half are taken: it now takes dozens of pods to fill the rest.
const CONNECTIONS_PER_PEER_WHEN_CROWDED: usize = 16;

/// Requests of one peer that are at the broker at a time; more wait for their turn.
pub(crate) const REQUESTS_PER_PEER: usize = 8;

/// Who is connected.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    connected: Mutex<Connected>,
    open: Gauge,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct Connected {
    total: usize,
    peers: HashMap<IpAddr, Peer>,
}

#[derive(Debug)]
struct Peer {
    connections: usize,
    requests: Arc<Semaphore>,
}

/// One connection's place; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    peers: Arc<Peers>,
    peer: IpAddr,
    /// The slots for requests, shared by all connections of the peer.
    pub(crate) requests: Arc<Semaphore>,
}

impl Peers {
    /// Counts in `open` and `dropped` what is connected, and what found no room.
    pub(crate) fn new(open: Gauge, dropped: Counter) -> Self {
        Self {
            connected: Mutex::default(),
            open,
            dropped,
        }
    }

    /// A place for one more connection of `peer`, if there is room.
    pub(crate) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let mut connected = self
            .connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let of_peer = connected
            .peers
            .get(&peer)
            .map_or(0, |state| state.connections);
        if !has_room(connected.total, of_peer) {
            self.dropped.inc();
            return None;
        }
        connected.total += 1;
        let state = connected.peers.entry(peer).or_insert_with(|| Peer {
            connections: 0,
            requests: Arc::new(Semaphore::new(REQUESTS_PER_PEER)),
        });
        state.connections += 1;
        self.open.inc();
        Some(Place {
            peers: Arc::clone(self),
            peer,
            requests: Arc::clone(&state.requests),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut connected = self
            .peers
            .connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        connected.total -= 1;
        if let Some(state) = connected.peers.get_mut(&self.peer) {
            state.connections -= 1;
            if state.connections == 0 {
                connected.peers.remove(&self.peer);
            }
        }
        self.peers.open.dec();
    }
}

fn has_room(total: usize, of_peer: usize) -> bool {
    let share = if total < CONNECTIONS / 2 {
        CONNECTIONS_PER_PEER
    } else {
        CONNECTIONS_PER_PEER_WHEN_CROWDED
    };
    total < CONNECTIONS && of_peer < share
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(number: u16) -> IpAddr {
        let [high, low] = number.to_be_bytes();
        IpAddr::from([10, 244, high, low])
    }

    fn fill(peers: &Arc<Peers>, pods: std::ops::Range<u16>) -> Vec<Place> {
        pods.flat_map(|number| std::iter::from_fn(move || peers.admit(pod(number))))
            .collect()
    }

    #[test]
    fn one_pod_cannot_take_more_than_its_share() {
        let peers = Arc::new(Peers::default());

        let places = fill(&peers, 0..1);

        assert_eq!(places.len(), CONNECTIONS_PER_PEER);
        assert!(peers.admit(pod(1)).is_some());
    }

    #[test]
    fn two_greedy_pods_leave_room_for_thirty_others() {
        let peers = Arc::new(Peers::default());

        let _greedy = fill(&peers, 0..2);
        let others = fill(&peers, 2..32);

        assert_eq!(others.len(), 30 * CONNECTIONS_PER_PEER_WHEN_CROWDED);
    }

    #[test]
    fn the_total_is_bounded_however_many_peers_there_are() {
        let peers = Arc::new(Peers::default());

        let places = fill(&peers, 0..5000);

        assert_eq!(places.len(), CONNECTIONS);
    }

    #[test]
    fn a_closed_connection_makes_room_and_leaves_nothing_behind() {
        let peers = Arc::new(Peers::default());
        let places = fill(&peers, 0..5000);

        drop(places);

        let connected = peers.connected.lock().unwrap();
        assert_eq!(connected.total, 0);
        assert!(connected.peers.is_empty());
        assert_eq!(peers.open.get(), 0);
    }

    #[test]
    fn connections_of_one_pod_share_its_slots_for_requests() {
        let peers = Arc::new(Peers::default());
        let first = peers.admit(pod(1)).unwrap();
        let second = peers.admit(pod(1)).unwrap();
        let other = peers.admit(pod(2)).unwrap();

        let _taken = first
            .requests
            .try_acquire_many(u32::try_from(REQUESTS_PER_PEER).unwrap())
            .unwrap();

        assert!(second.requests.try_acquire().is_err());
        assert!(other.requests.try_acquire().is_ok());
    }
}
