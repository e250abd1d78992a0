//! The order of one conversation's changes, restored: pure, without a clock, a socket or a database.
//!
//! Changes arrive in any order, repeated, or not at all; the store has them all. What comes out is every change of
//! the store after the base, once, by `seq`. A change that arrives before its predecessors is held, within bounds; the
//! caller waits a little, then lists what is missing from the store and gives it to [`Resequencer::fill`].
//!
//! Two facts about the store carry the argument. A change's `seq` is given under its conversation's lock, so changes
//! become visible in the order of `seq`: a listing has no holes but those that a later deletion made. And a change is
//! published after its commit, so a listing that is read after a change arrived contains it, or never will.

use std::collections::BTreeMap;

use arcyou_protocol::Seq;

/// What one conversation may hold back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldLimits {
    pub items: usize,
    /// Their weight in all.
    pub bytes: usize,
}

/// What became of a change that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// It was next: delivered, and after it what it had kept back.
    Delivered,
    /// It was delivered, or is held, already.
    Duplicate,
    /// It waits for its predecessors.
    Held,
    /// There was no space to hold it. The store has it.
    Dropped,
}

/// A place from which to list the store, and what had arrived before the listing was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listing {
    /// List what comes after this one.
    pub after: Seq,
    arrivals: u64,
}

/// The changes of one conversation on their way from "as they came" to "as they were sent".
#[derive(Debug)]
pub struct Resequencer<T> {
    /// The last change delivered; none until somebody says where to begin.
    delivered: Option<Seq>,
    held: BTreeMap<Seq, EarlyArrival<T>>,
    held_bytes: usize,
    limits: HoldLimits,
    /// Counts what arrived out of order, so that a listing knows what is older than itself.
    arrivals: u64,
    /// When something was last known to be missing that is not held: dropped here, or seen in the store.
    missing_at: Option<u64>,
}

#[derive(Debug)]
struct EarlyArrival<T> {
    item: T,
    weight: usize,
    arrival: u64,
}

impl<T> Resequencer<T> {
    /// A sequence that does not know its base yet: until [`Self::start`], whatever arrives is held.
    pub fn new(limits: HoldLimits) -> Self {
        Self { delivered: None, held: BTreeMap::new(), held_bytes: 0, limits, arrivals: 0, missing_at: None }
    }

    /// The last change delivered.
    pub fn delivered(&self) -> Option<Seq> {
        self.delivered
    }

    /// Sets the base, if there is none yet, and delivers what is held right after it.
    pub fn start(&mut self, base: Seq, deliver: &mut impl FnMut(Seq, T)) {
        if self.delivered.is_none() {
            self.delivered = Some(base);
            self.discard_through(base);
            self.release(deliver);
        }
    }

    /// Takes a change as it arrives, and delivers it, with what waited for it, if it is next.
    pub fn offer(&mut self, seq: Seq, item: T, weight: usize, deliver: &mut impl FnMut(Seq, T)) -> Offered {
        match self.delivered {
            Some(delivered) if seq <= delivered => Offered::Duplicate,
            Some(delivered) if seq == delivered + 1 => {
                self.discard_through(seq);
                self.delivered = Some(seq);
                deliver(seq, item);
                self.release(deliver);
                Offered::Delivered
            }
            _ if self.held.contains_key(&seq) => Offered::Duplicate,
            _ => self.hold(seq, item, weight),
        }
    }

    /// Goes on after this place: the store has nothing to list up to there. Says whether that was ahead.
    pub fn skip(&mut self, through: Seq, deliver: &mut impl FnMut(Seq, T)) -> bool {
        let is_ahead = self.delivered.is_some_and(|delivered| delivered < through);
        if is_ahead {
            self.discard_through(through);
            self.delivered = Some(through);
            self.release(deliver);
        }
        is_ahead
    }

    /// Whether the store has to be asked: something is held back, or known to be missing.
    pub fn wants_listing(&self) -> bool {
        self.delivered.is_some() && (!self.held.is_empty() || self.missing_at.is_some())
    }

    /// Notes that the store has changes that did not arrive. Only a listing that is asked for after this answers it.
    pub fn mark_missing(&mut self) {
        self.arrivals += 1;
        self.missing_at = Some(self.arrivals);
    }

    /// Where a listing of the store has to begin. Call it before asking the store.
    pub fn listing(&self) -> Option<Listing> {
        self.delivered.map(|after| Listing { after, arrivals: self.arrivals })
    }

    /// Merges what the store listed, oldest first. `complete` says that the store had nothing after these.
    ///
    /// The store is the truth: its copy is preferred to one that is held, what is held between two listed changes is
    /// dropped, and after a complete listing so is whatever had arrived before it and was not listed.
    pub fn fill(
        &mut self,
        listing: Listing,
        messages: impl IntoIterator<Item = (Seq, T)>,
        complete: bool,
        deliver: &mut impl FnMut(Seq, T),
    ) {
        for (seq, item) in messages {
            if self.delivered.is_some_and(|delivered| seq > delivered) {
                self.discard_through(seq);
                self.delivered = Some(seq);
                deliver(seq, item);
            }
        }
        if complete {
            let before = self.held.len();
            self.held.retain(|_, held| held.arrival > listing.arrivals);
            if self.held.len() != before {
                self.held_bytes = self.held.values().map(|held| held.weight).sum();
            }
            self.missing_at = self.missing_at.filter(|at| *at > listing.arrivals);
        }
        self.release(deliver);
    }

    /// How many changes are held back, and their weight.
    pub fn held(&self) -> (usize, usize) {
        (self.held.len(), self.held_bytes)
    }

    fn hold(&mut self, seq: Seq, item: T, weight: usize) -> Offered {
        self.arrivals += 1;
        self.held.insert(seq, EarlyArrival { item, weight, arrival: self.arrivals });
        self.held_bytes += weight;
        let mut offered = Offered::Held;
        // The furthest goes first: what is near is needed first.
        while self.held.len() > self.limits.items || self.held_bytes > self.limits.bytes {
            let Some((dropped, held)) = self.held.pop_last() else { break };
            self.held_bytes -= held.weight;
            self.missing_at = Some(self.arrivals);
            if dropped == seq {
                offered = Offered::Dropped;
            }
        }
        offered
    }

    fn discard_through(&mut self, seq: Seq) {
        while let Some(entry) = self.held.first_entry().filter(|entry| *entry.key() <= seq) {
            self.held_bytes -= entry.remove().weight;
        }
    }

    fn release(&mut self, deliver: &mut impl FnMut(Seq, T)) {
        while let (Some(delivered), Some(entry)) = (self.delivered, self.held.first_entry()) {
            let seq = *entry.key();
            if seq != delivered + 1 {
                break;
            }
            let held = entry.remove();
            self.held_bytes -= held.weight;
            self.delivered = Some(seq);
            deliver(seq, held.item);
        }
    }
}

#[cfg(test)]
mod tests;
