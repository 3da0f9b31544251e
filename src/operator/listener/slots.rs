//! How many connections may be open, and how many of them from one address, so that whoever holds
//! many leaves room for others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// What may be open at a time.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    /// From all addresses together; further ones are closed before they cost a TLS handshake.
    pub total: usize,
    /// From one address, while no more than half of `total` is taken.
    pub of_one_address: usize,
    /// From one address after that: it takes many of them to fill the rest.
    pub when_crowded: usize,
}

/// Who is connected.
#[derive(Debug)]
pub struct Slots {
    allowed: Connections,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// The place of one connection; it is free again when this is dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Arc<Slots>,
    address: IpAddr,
}

impl Slots {
    /// All free.
    pub fn new(allowed: Connections) -> Self {
        Self {
            allowed,
            taken: Mutex::default(),
        }
    }

    /// A place for one more connection from `address`, if there is room.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Option<Slot> {
        let address = address.to_canonical();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = taken.by_address.get(&address).copied().unwrap_or_default();
        if !self.allowed.has_room(taken.total, of_address) {
            return None;
        }
        taken.total += 1;
        taken.by_address.insert(address, of_address + 1);
        Some(Slot {
            slots: self.clone(),
            address,
        })
    }
}

impl Connections {
    fn has_room(&self, total: usize, of_address: usize) -> bool {
        let share = if total <= self.total / 2 {
            self.of_one_address
        } else {
            self.when_crowded
        };
        total < self.total && of_address < share
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let taken = &self.slots.taken;
        let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total -= 1;
        if let Some(of_address) = taken.by_address.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: Connections = Connections {
        total: 100,
        of_one_address: 40,
        when_crowded: 5,
    };

    fn address(number: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, number])
    }

    fn fill(slots: &Arc<Slots>, addresses: std::ops::Range<u8>) -> Vec<Slot> {
        addresses
            .flat_map(|number| std::iter::from_fn(move || slots.take(address(number))))
            .collect()
    }

    #[test]
    fn one_address_gets_no_more_than_its_share() {
        let slots = Arc::new(Slots::new(ALLOWED));
        assert_eq!(fill(&slots, 0..1).len(), 40);
    }

    #[test]
    fn addresses_that_take_all_they_get_leave_room_for_others() {
        let slots = Arc::new(Slots::new(ALLOWED));
        let greedy = fill(&slots, 0..3);
        assert_eq!(greedy.len(), 40 + 11 + 5);
        assert!(slots.take(address(9)).is_some());
    }

    #[test]
    fn the_total_is_bounded_however_many_addresses_there_are() {
        let slots = Arc::new(Slots::new(ALLOWED));
        assert_eq!(fill(&slots, 0..200).len(), 100);
    }

    #[test]
    fn an_ipv4_address_has_one_share_in_whichever_form_it_comes() {
        let slots = Arc::new(Slots::new(ALLOWED));
        let _greedy = fill(&slots, 0..1);
        assert!(slots.take("::ffff:10.0.0.0".parse().unwrap()).is_none());
    }

    #[test]
    fn a_closed_connection_makes_room_and_leaves_nothing_behind() {
        let slots = Arc::new(Slots::new(ALLOWED));
        drop(fill(&slots, 0..200));
        let taken = slots.taken.lock().unwrap();
        assert_eq!((taken.total, taken.by_address.len()), (0, 0));
    }
}
