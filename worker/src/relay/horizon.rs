//! From which id on to look for rows. Pure: the clock is an argument.
//!
//! Rows that were processed leave dead entries behind in the index that the claim walks, and while a transaction
//! elsewhere is open for minutes they cannot be removed. So most claims begin above what was seen a while ago; a sweep
//! from the beginning, no more often than it is cheap, finds what commits late, was given back by another worker, or is
//! tried again.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// A row that commits so much later than one with a higher id is left to the next sweep.
const LATE: Duration = Duration::from_secs(5);
/// Notes are taken no more often than this.
const GRAIN: Duration = Duration::from_millis(500);
/// A sweep may take this share of the time.
const SWEEP_SHARE: u32 = 20;
/// However long sweeps take, one begins so often.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Horizon {
    between_sweeps: Duration,
    next_sweep: Instant,
    /// When, and the highest id that had been claimed and finished by then.
    seen: VecDeque<(Instant, i64)>,
    highest: i64,
    floor: i64,
}

impl Horizon {
    pub(super) fn new(between_sweeps: Duration, now: Instant) -> Self {
        Self { between_sweeps, next_sweep: now, seen: VecDeque::new(), highest: 0, floor: 0 }
    }

    /// Claim rows above this id; 0 is a sweep.
    pub(super) fn after(&mut self, now: Instant) -> i64 {
        while self.seen.front().is_some_and(|(at, _)| *at + LATE <= now) {
            self.floor = self.seen.pop_front().map_or(self.floor, |(_, id)| id);
        }
        if now >= self.next_sweep { 0 } else { self.floor }
    }

    /// A claim that began above `after` took so long, and its rows are done; the highest of them is `highest`.
    pub(super) fn done(&mut self, after: i64, took: Duration, highest: Option<i64>, now: Instant) {
        if after == 0 {
            self.next_sweep =
                now + (took * SWEEP_SHARE).clamp(self.between_sweeps, LONGEST_PAUSE.max(self.between_sweeps));
        }
        self.highest = self.highest.max(highest.unwrap_or_default());
        if self.seen.back().is_none_or(|(at, id)| *at + GRAIN <= now && *id < self.highest) && self.floor < self.highest
        {
            self.seen.push_back((now, self.highest));
        }
    }

    /// Rows that were claimed are free again.
    pub(super) fn reset(&mut self, now: Instant) {
        *self = Self::new(self.between_sweeps, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = Duration::from_secs(1);
    const QUICK: Duration = Duration::from_millis(1);

    fn millis(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn claims_between_sweeps_begin_above_what_was_seen_a_while_ago() {
        let start = Instant::now();
        let mut horizon = Horizon::new(POLL, start);
        assert_eq!(horizon.after(start), 0);
        horizon.done(0, QUICK, Some(100), start);
        // Too early to leave anything behind.
        assert_eq!(horizon.after(millis(start, 900)), 0);
        horizon.done(0, QUICK, Some(200), millis(start, 1_000));
        assert_eq!(horizon.after(millis(start, 4_999)), 0);
        horizon.done(0, QUICK, None, millis(start, 4_999));
        assert_eq!(horizon.after(millis(start, 5_500)), 100);
        assert_eq!(horizon.after(millis(start, 5_999)), 0, "the sweep's time has come");
        horizon.done(0, QUICK, None, millis(start, 6_000));
        assert_eq!(horizon.after(millis(start, 6_500)), 200);
    }

    #[test]
    fn long_sweeps_are_rare_but_never_end() {
        let start = Instant::now();
        let mut horizon = Horizon::new(POLL, start);
        horizon.done(0, Duration::from_millis(300), Some(1), start);
        assert_ne!(horizon.after(millis(start, 5_900)), 0);
        assert_eq!(horizon.after(millis(start, 6_000)), 0);
        horizon.done(0, Duration::from_secs(9), None, millis(start, 6_000));
        assert_ne!(horizon.after(millis(start, 35_999)), 0);
        assert_eq!(horizon.after(millis(start, 36_000)), 0);
    }

    #[test]
    fn what_was_given_back_is_looked_for_at_once() {
        let start = Instant::now();
        let mut horizon = Horizon::new(POLL, start);
        horizon.done(0, Duration::from_secs(9), Some(100), start);
        assert_eq!(horizon.after(millis(start, 10_000)), 100);
        horizon.reset(millis(start, 10_000));
        assert_eq!(horizon.after(millis(start, 10_000)), 0);
    }

    #[test]
    fn notes_are_bounded() {
        let start = Instant::now();
        let mut horizon = Horizon::new(POLL, start);
        for step in 0..20_000 {
            let now = millis(start, step);
            let after = horizon.after(now);
            horizon.done(after, QUICK, Some(i64::try_from(step).unwrap_or_default()), now);
            assert!(horizon.seen.len() <= 11);
        }
        assert!(horizon.floor > 14_000);
    }
}
