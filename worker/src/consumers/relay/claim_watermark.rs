//! From which id on to claim rows. Pure: the clock is an argument.
//!
//! Processed rows leave dead entries in the index that a claim walks, and these cannot be removed while any transaction
//! stays open, which may be minutes. Therefore most claims begin above the ids that were claimed a while ago. A sweep
//! from the beginning finds the rows below: rows that committed late, that another worker released, or that are due for
//! another try. Sweeps are as rare as they are expensive.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// A row may commit this much later than one with a higher id and still be found between sweeps.
const COMMIT_LAG: Duration = Duration::from_secs(5);
/// Minimum interval between two notes of the highest id. Bounds the notes to `COMMIT_LAG / NOTE_INTERVAL` and one more.
const NOTE_INTERVAL: Duration = Duration::from_millis(500);
/// A sweep is followed by a pause of this many times its duration, so that sweeps take at most 5 % of the time.
const SWEEP_PAUSE_FACTOR: u32 = 20;
/// The longest pause between sweeps, however long they take: bounds how late a row is found that only a sweep finds.
const MAX_SWEEP_PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct ClaimWatermark {
    min_sweep_pause: Duration,
    next_sweep: Instant,
    /// When a note was taken, and the highest id that had been claimed and finished by then.
    notes: VecDeque<(Instant, i64)>,
    highest_id: i64,
    /// The highest id of a note that is older than [`COMMIT_LAG`].
    watermark: i64,
}

impl ClaimWatermark {
    /// The first claim is a sweep.
    pub(super) fn new(min_sweep_pause: Duration, now: Instant) -> Self {
        Self { min_sweep_pause, next_sweep: now, notes: VecDeque::new(), highest_id: 0, watermark: 0 }
    }

    /// The next claim takes rows above this id; 0 makes it a sweep.
    pub(super) fn lower_bound(&mut self, now: Instant) -> i64 {
        while self.notes.front().is_some_and(|(at, _)| *at + COMMIT_LAG <= now) {
            self.watermark = self.notes.pop_front().map_or(self.watermark, |(_, id)| id);
        }
        if now >= self.next_sweep { 0 } else { self.watermark }
    }

    /// Records a claim whose rows are finished: its lower bound, how long claiming took, and the highest id claimed.
    pub(super) fn record(&mut self, lower_bound: i64, took: Duration, highest_id: Option<i64>, now: Instant) {
        if lower_bound == 0 {
            let max_pause = MAX_SWEEP_PAUSE.max(self.min_sweep_pause);
            self.next_sweep = now + (took * SWEEP_PAUSE_FACTOR).clamp(self.min_sweep_pause, max_pause);
        }
        self.highest_id = self.highest_id.max(highest_id.unwrap_or_default());
        let is_new = |(at, id): &(Instant, i64)| *at + NOTE_INTERVAL <= now && *id < self.highest_id;
        if self.notes.back().is_none_or(is_new) && self.watermark < self.highest_id {
            self.notes.push_back((now, self.highest_id));
        }
    }

    /// Begins anew with a sweep, because claimed rows were released unfinished.
    pub(super) fn reset(&mut self, now: Instant) {
        *self = Self::new(self.min_sweep_pause, now);
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
    fn claims_between_sweeps_begin_above_the_ids_of_a_while_ago() {
        let start = Instant::now();
        let mut watermark = ClaimWatermark::new(POLL, start);
        assert_eq!(watermark.lower_bound(start), 0);
        watermark.record(0, QUICK, Some(100), start);
        // Too early to skip anything.
        assert_eq!(watermark.lower_bound(millis(start, 900)), 0);
        watermark.record(0, QUICK, Some(200), millis(start, 1_000));
        assert_eq!(watermark.lower_bound(millis(start, 4_999)), 0);
        watermark.record(0, QUICK, None, millis(start, 4_999));
        assert_eq!(watermark.lower_bound(millis(start, 5_500)), 100);
        assert_eq!(watermark.lower_bound(millis(start, 5_999)), 0, "the next sweep is due");
        watermark.record(0, QUICK, None, millis(start, 6_000));
        assert_eq!(watermark.lower_bound(millis(start, 6_500)), 200);
    }

    #[test]
    fn long_sweeps_are_rare_but_never_cease() {
        let start = Instant::now();
        let mut watermark = ClaimWatermark::new(POLL, start);
        watermark.record(0, Duration::from_millis(300), Some(1), start);
        assert_ne!(watermark.lower_bound(millis(start, 5_900)), 0);
        assert_eq!(watermark.lower_bound(millis(start, 6_000)), 0);
        watermark.record(0, Duration::from_secs(9), None, millis(start, 6_000));
        assert_ne!(watermark.lower_bound(millis(start, 35_999)), 0);
        assert_eq!(watermark.lower_bound(millis(start, 36_000)), 0);
    }

    #[test]
    fn released_rows_are_looked_for_at_once() {
        let start = Instant::now();
        let mut watermark = ClaimWatermark::new(POLL, start);
        watermark.record(0, Duration::from_secs(9), Some(100), start);
        assert_eq!(watermark.lower_bound(millis(start, 10_000)), 100);
        watermark.reset(millis(start, 10_000));
        assert_eq!(watermark.lower_bound(millis(start, 10_000)), 0);
    }

    #[test]
    fn notes_are_bounded() {
        let start = Instant::now();
        let mut watermark = ClaimWatermark::new(POLL, start);
        for step in 0..20_000 {
            let now = millis(start, step);
            let lower_bound = watermark.lower_bound(now);
            watermark.record(lower_bound, QUICK, Some(i64::try_from(step).unwrap_or_default()), now);
            assert!(watermark.notes.len() <= 11);
        }
        assert!(watermark.watermark > 14_000);
    }
}
