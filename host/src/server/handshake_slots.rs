//! Which connections are not sockets yet. There are only so many: one more takes the place of the oldest, so that a
//! request that is answered at once, such as a health check, is answered however many do not end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::bounds::addresses::ClientAddress;
use crate::bounds::refusals::Bound;

/// The connections that are not sockets yet, in the order in which they came.
pub(super) struct HandshakeSlots {
    of_all: usize,
    of_address: usize,
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    next: u64,
    taken: BTreeMap<u64, Taken>,
    by_address: HashMap<ClientAddress, BTreeSet<u64>>,
}

struct Taken {
    peer: IpAddr,
    address: Option<ClientAddress>,
    cut: CancellationToken,
}

/// A connection that had to go.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) peer: IpAddr,
    pub(super) bound: Bound,
}

impl HandshakeSlots {
    pub(super) fn new(of_all: usize, of_address: usize) -> Self {
        Self { of_all, of_address, slots: Mutex::default() }
    }

    /// A slot for a connection of `peer`, which counts for `address` if it counts for any, and what was cut for it.
    pub(super) fn take(self: &Arc<Self>, peer: IpAddr, address: Option<ClientAddress>) -> (Slot, Option<Cut>) {
        let mut slots = self.lock();
        let oldest_of_address = address
            .and_then(|address| slots.by_address.get(&address))
            .filter(|ids| ids.len() >= self.of_address)
            .and_then(|ids| ids.first().copied());
        let oldest = slots.taken.first_key_value().map(|(id, _)| *id).filter(|_| slots.taken.len() >= self.of_all);
        let cut = match (oldest_of_address, oldest) {
            (Some(id), _) => slots.remove(id).map(|taken| (taken, Bound::HandshakesPerAddress)),
            (None, Some(id)) => slots.remove(id).map(|taken| (taken, Bound::Handshakes)),
            (None, None) => None,
        };
        let cut = cut.map(|(taken, bound)| {
            taken.cut.cancel();
            Cut { peer: taken.peer, bound }
        });
        let (id, token) = (slots.next, CancellationToken::new());
        slots.next += 1;
        slots.taken.insert(id, Taken { peer, address, cut: token.clone() });
        if let Some(address) = address {
            slots.by_address.entry(address).or_default().insert(id);
        }
        (Slot { slots: self.clone(), id, cut: token }, cut)
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    fn remove(&mut self, id: u64) -> Option<Taken> {
        let taken = self.taken.remove(&id)?;
        if let Some(address) = taken.address
            && let Some(ids) = self.by_address.get_mut(&address)
        {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_address.remove(&address);
            }
        }
        Some(taken)
    }
}

/// One connection's slot; dropped, it is free.
pub(super) struct Slot {
    slots: Arc<HandshakeSlots>,
    id: u64,
    /// Cancelled when the connection must go.
    pub(super) cut: CancellationToken,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.lock().remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(of_all: usize, of_address: usize) -> Arc<HandshakeSlots> {
        Arc::new(HandshakeSlots::new(of_all, of_address))
    }

    fn peer(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn take(slots: &Arc<HandshakeSlots>, last: u8) -> (Slot, Option<Cut>) {
        slots.take(peer(last), Some(peer(last).into()))
    }

    #[test]
    fn one_more_than_all_takes_the_place_of_the_oldest() {
        let slots = slots(2, 2);
        let ((first, none), (second, _)) = (take(&slots, 1), take(&slots, 2));
        assert_eq!(none, None);
        let (_third, cut) = take(&slots, 3);
        assert_eq!(cut, Some(Cut { peer: peer(1), bound: Bound::Handshakes }));
        assert!(first.cut.is_cancelled() && !second.cut.is_cancelled());
    }

    #[test]
    fn one_more_than_an_address_may_have_takes_the_place_of_its_own() {
        let slots = slots(100, 2);
        let (other, _) = take(&slots, 2);
        let ((first, _), (second, _)) = (take(&slots, 1), take(&slots, 1));
        let (_third, cut) = take(&slots, 1);
        assert_eq!(cut, Some(Cut { peer: peer(1), bound: Bound::HandshakesPerAddress }));
        assert!(first.cut.is_cancelled() && !second.cut.is_cancelled() && !other.cut.is_cancelled());
    }

    #[test]
    fn a_proxy_that_counts_for_nobody_has_as_many_as_there_are() {
        let slots = slots(3, 1);
        let held = [(); 3].map(|()| slots.take(peer(1), None));
        assert!(held.iter().all(|(_, cut)| cut.is_none()));
        assert_eq!(slots.take(peer(1), None).1, Some(Cut { peer: peer(1), bound: Bound::Handshakes }));
    }

    #[test]
    fn a_slot_that_is_dropped_is_free_and_leaves_nothing() {
        let slots = slots(1, 1);
        drop(take(&slots, 1));
        let (slot, cut) = take(&slots, 1);
        assert_eq!(cut, None);
        drop(slot);
        assert!(slots.lock().taken.is_empty() && slots.lock().by_address.is_empty());
    }
}
