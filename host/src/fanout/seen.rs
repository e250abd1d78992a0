//! Which events of a conversation were delivered: for what has no place in a sequence, an outbox id. Pure.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// The newest outbox ids of one conversation that were delivered, and a floor below which it is not known.
#[derive(Debug)]
pub(super) struct SeenIds {
    ids: BTreeSet<i64>,
    floor: i64,
    /// The last ids from below the floor that were delivered: late commits.
    late: VecDeque<i64>,
    limit: usize,
}

/// Late commits that are remembered.
const LATE: usize = 64;

impl SeenIds {
    /// Remembers at most `limit` ids; what is at or below `floor` happened before anybody listened.
    pub(super) fn new(floor: i64, limit: usize) -> Self {
        Self { ids: BTreeSet::new(), floor, late: VecDeque::new(), limit: limit.max(1) }
    }

    /// At or below this id, nothing is caught up.
    pub(super) fn floor(&self) -> i64 {
        self.floor
    }

    /// Whether an event that was just published is new. One from below the floor is taken for a late commit, unless it
    /// was among the last of those: a repeat follows its first copy closely.
    pub(super) fn is_new(&mut self, id: i64) -> bool {
        if id > self.floor {
            return self.insert(id);
        }
        if self.late.contains(&id) {
            return false;
        }
        self.late.push_back(id);
        if self.late.len() > LATE {
            self.late.pop_front();
        }
        true
    }

    /// Whether an event that was found in the outbox is new. Those from below the floor may have been delivered.
    pub(super) fn is_new_from_outbox(&mut self, id: i64) -> bool {
        id > self.floor && self.insert(id)
    }

    fn insert(&mut self, id: i64) -> bool {
        let new = self.ids.insert(id);
        if self.ids.len() > self.limit {
            self.floor = self.ids.pop_first().unwrap_or(self.floor);
        }
        new
    }
}

/// Which outbox id was the newest at what time, so that a time can be turned into an id to read from. Ids are given in
/// order but commit in any, so readers go back further than they think they need to.
#[derive(Debug)]
pub(super) struct OutboxWatermarks {
    /// By time; the first one stays, for times before all others.
    samples: VecDeque<(Instant, i64)>,
    limit: usize,
}

impl OutboxWatermarks {
    /// Keeps at most `limit` samples, the older the fewer.
    pub(super) fn new(limit: usize) -> Self {
        Self { samples: VecDeque::new(), limit: limit.max(4) }
    }

    /// Notes the newest id now.
    pub(super) fn note(&mut self, now: Instant, newest: i64) {
        if self.samples.back().is_some_and(|(_, last)| *last >= newest) {
            return;
        }
        self.samples.push_back((now, newest));
        if self.samples.len() > self.limit {
            let half = self.limit / 2;
            let mut place = 0;
            self.samples.retain(|_| {
                place += 1;
                place > half || place % 2 == 1
            });
        }
    }

    /// An id that was the newest `before` that time or earlier.
    pub(super) fn at(&self, time: Instant, before: Duration) -> i64 {
        let first = self.samples.front().map_or(0, |(_, id)| *id);
        let Some(time) = time.checked_sub(before) else { return first };
        let later = self.samples.partition_point(|(at, _)| *at <= time);
        later.checked_sub(1).and_then(|last| self.samples.get(last)).map_or(first, |(_, id)| *id)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_new_once_and_memory_is_bounded() {
        let mut seen = SeenIds::new(10, 3);
        assert!(seen.is_new(12) && seen.is_new(11) && !seen.is_new(12));
        assert!(!seen.is_new_from_outbox(11) && !seen.is_new_from_outbox(10));
        assert!(seen.is_new_from_outbox(13) && seen.is_new(20));
        assert_eq!(seen.floor(), 11, "the oldest made room");
        assert!(!seen.is_new_from_outbox(11), "what may have been delivered is not caught up again");
        assert!(seen.is_new(5) && !seen.is_new(5), "a late commit is still told, once");
        assert_eq!(seen.ids.len(), 3);
    }

    #[test]
    fn a_time_becomes_an_id_that_is_not_newer() {
        let start = Instant::now();
        let mut watermarks = OutboxWatermarks::new(8);
        for second in 0..100 {
            watermarks.note(start + Duration::from_secs(second), second as i64 * 10);
        }
        assert!(watermarks.samples.len() <= 8);
        for second in 0..100 {
            let id = watermarks.at(start + Duration::from_secs(second), Duration::ZERO);
            assert!(id <= second as i64 * 10, "{second}: {id}");
        }
        assert_eq!(watermarks.at(start + Duration::from_secs(99), Duration::ZERO), 990);
        assert_eq!(watermarks.at(start, Duration::from_secs(5)), 0);
    }
}
