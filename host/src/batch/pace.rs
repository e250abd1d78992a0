//! How fast lanes may commit, so that what is accepted is also delivered in time.
//!
//! Gateways and workers share the database. Under more load than it can take, gateways would store messages faster than
//! workers relay them, and each message would be delivered later than the one before. So a gateway watches the relay's
//! lag, the age of the oldest row that no worker has relayed, and lets its lanes commit no faster than the relay
//! follows. What waits for a lane meanwhile makes its next batch larger, which costs the database less for each
//! message; what does not fit in their queue is refused (`overloaded`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arcyou_platform::health::Part;
use metrics::gauge;
use tokio::time::{Instant, sleep, sleep_until};

use crate::store::{OutboxProgress, Store};
use crate::wake::Wake;

/// Between looks at the relay's lag.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The same while lanes are slowed down.
const LOOK_CLOSELY_EVERY: Duration = Duration::from_millis(100);

/// A worker that runs needs far less.
const OVERDUE: Duration = Duration::from_secs(1);

/// While the same row is the oldest for this long, nothing is relayed: an outage of Redis, or of all workers. What is
/// stored meanwhile is delivered afterwards, and slower commits would help nobody.
const STALLED: Duration = Duration::from_secs(1);
/// The lanes' rate at the target is the relay's own. Without a lag it is larger by this share, at twice the target
/// smaller by it. So the lag changes by half a second in a second at most, a good deal slower than it is looked at.
const CORRECTION: f64 = 0.5;
/// The weight of what was seen last in what is known of the relay's rate and of this gateway's share.
const WEIGHT: f64 = 0.3;
/// Lanes are free again after so many looks at a lag below this share of the target, with this share of the rate
/// unused.
const CALM_LOOKS: u32 = 5;
const CALM_LAG: f64 = 0.5;
const UNUSED: f64 = 0.2;
/// Rows a second that are always allowed: so many that the lag goes on to be known.
const LEAST_RATE: f64 = 500.0;
/// How long messages may wait for the lanes while these are slowed down, and how many may in any case.
const QUEUE_TIME: Duration = Duration::from_millis(250);
const LEAST_ROOM: usize = 1024;

/// What is known at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) outbox: OutboxProgress,
    /// Rows that this gateway has committed since its start.
    pub(super) committed: u64,
}

/// From samples to a rate. Pure.
#[derive(Debug)]
pub(super) struct PaceControl {
    target: Duration,
    last: Option<Sample>,
    /// The oldest row, and when it became that.
    oldest_since: Option<(i64, Instant)>,
    limit: Option<Limit>,
}

/// Why lanes may commit no faster.
#[derive(Debug, Clone, Copy)]
struct Limit {
    /// What the relay achieves, in rows a second.
    relay: f64,
    /// This gateway's share of what is committed.
    share: f64,
    /// What the lanes may commit, in rows a second.
    rate: f64,
    calm_looks: u32,
}

impl PaceControl {
    /// Keeps the relay's lag at about `target`.
    pub(super) fn new(target: Duration) -> Self {
        Self { target, last: None, oldest_since: None, limit: None }
    }

    /// The rate from now on, in rows a second; none: no limit.
    pub(super) fn update(&mut self, now: Sample) -> Option<f64> {
        let is_stalled = self.is_stalled(&now);
        let last = self.last.replace(now)?;
        if is_stalled {
            self.limit = None;
            return None;
        }
        let lag = now.outbox.lag().as_secs_f64() / self.target.as_secs_f64();
        // A relay that has not moved since tells nothing about its rate. It may be an outage, which must slow nobody
        // down.
        let is_known = now.outbox.oldest.is_none() || now.outbox.relayed_up_to() > last.outbox.relayed_up_to();
        if is_known && (self.limit.is_some() || lag > 1.0) {
            self.limit = self.limit(&last, &now, lag);
        }
        self.limit.map(|limit| limit.rate)
    }

    /// The next limit; `lag` in terms of the target.
    fn limit(&self, last: &Sample, now: &Sample, lag: f64) -> Option<Limit> {
        let seconds = now.at.saturating_duration_since(last.at).as_secs_f64().max(1e-3);
        let relayed = (now.outbox.relayed_up_to() - last.outbox.relayed_up_to()).max(0) as f64 / seconds;
        let stored = (now.outbox.newest - last.outbox.newest).max(0) as f64;
        let share = if stored > 0.0 { ((now.committed - last.committed) as f64 / stored).min(1.0) } else { 1.0 };
        let (relay, share) = match self.limit {
            // A relay that had nothing to do could have done more than it did.
            Some(before) if last.outbox.oldest.is_none() => (before.relay.max(relayed), mean(before.share, share)),
            Some(before) => (mean(before.relay, relayed), mean(before.share, share)),
            None => (relayed, share),
        };
        let rate = (relay * share * (1.0 + CORRECTION * (1.0 - lag).max(-1.0))).max(LEAST_RATE);
        let committed = (now.committed - last.committed) as f64 / seconds;
        let is_calm = lag < CALM_LAG && self.limit.is_some_and(|before| committed < before.rate * (1.0 - UNUSED));
        let calm_looks = if is_calm { self.limit.map_or(0, |before| before.calm_looks) + 1 } else { 0 };
        (calm_looks < CALM_LOOKS).then_some(Limit { relay, share, rate, calm_looks })
    }

    fn is_stalled(&mut self, now: &Sample) -> bool {
        let id = now.outbox.oldest.map(|oldest| oldest.id);
        match (id, self.oldest_since) {
            (Some(id), Some((before, since))) if id == before => now.at.saturating_duration_since(since) >= STALLED,
            (id, _) => {
                self.oldest_since = id.map(|id| (id, now.at));
                false
            }
        }
    }
}

/// Far more than a relay that is slow takes, or one that starts anew.
const NOT_RELAYED: Duration = Duration::from_secs(10);

/// Sends go on, and arrive late: that is the workers' fault, and no reason to send clients elsewhere.
fn report(part: &Part, lag: Duration) {
    if lag < NOT_RELAYED {
        return part.up();
    }
    let seconds = lag.as_secs();
    part.up_but(format!(
        "the oldest row of the outbox has waited {seconds} s for a worker: is one running, and ready?"
    ));
}

fn mean(before: f64, now: f64) -> f64 {
    before + (now - before) * WEIGHT
}

/// What the lanes share: what they have committed, and how fast they may go on.
#[derive(Debug)]
pub struct Pace {
    committed: AtomicU64,
    /// The bits of rows a second; infinite: no limit.
    rate: AtomicU64,
    /// When the next batch may begin.
    next: Mutex<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        let unlimited = AtomicU64::new(f64::INFINITY.to_bits());
        Self { committed: AtomicU64::new(0), rate: unlimited, next: Mutex::new(Instant::now()) }
    }
}

impl Pace {
    /// Watches the relay's lag in this database, and keeps it at about `target`. `part` warns while nothing is relayed.
    /// Workers are told of rows that wait: other services insert some, and tell nobody. `overdue` is called once a
    /// second while rows wait for so long that who lost a right could still be listening. Never ends.
    pub async fn control(
        self: Arc<Self>,
        store: Store,
        target: Duration,
        part: Part,
        wake: Wake,
        overdue: impl Fn() + Send,
    ) {
        let mut control = PaceControl::new(target);
        let (mut from, mut rate) = (0, None);
        let mut called = Instant::now();
        loop {
            sleep(if rate.is_some() { LOOK_CLOSELY_EVERY } else { LOOK_EVERY }).await;
            // While the database does not answer, nothing is known; then nothing is committed either.
            let Ok(outbox) = store.outbox_progress(from).await else { continue };
            // What is below has been relayed, but for a few rows that were committed late. The dead entries there would
            // be walked each time.
            from = outbox.relayed_up_to();
            if outbox.oldest.is_some() {
                wake.hint();
            }
            if outbox.lag() >= OVERDUE && called.elapsed() >= OVERDUE {
                called = Instant::now();
                overdue();
            }
            rate = control.update(Sample { at: Instant::now(), outbox, committed: self.committed() });
            report(&part, outbox.lag());
            gauge!("arcyou_relay_lag_seconds").set(outbox.lag().as_secs_f64());
            gauge!("arcyou_commit_rate_limit").set(rate.unwrap_or(0.0));
            self.set_rate(rate);
        }
    }

    pub(super) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    pub(super) fn set_rate(&self, rate: Option<f64>) {
        self.rate.store(rate.unwrap_or(f64::INFINITY).to_bits(), Ordering::Relaxed);
    }

    /// How many messages may wait for the lanes: as many as they commit in a short time, or so many.
    pub(super) fn room(&self, most: usize) -> usize {
        let rate = f64::from_bits(self.rate.load(Ordering::Relaxed));
        // An infinite rate is saturated by the cast.
        most.min(((rate * QUEUE_TIME.as_secs_f64()) as usize).max(LEAST_ROOM))
    }

    /// Counts what a lane has committed, and waits as long as the rate wants.
    pub(super) async fn follow(&self, rows: usize) {
        self.committed.fetch_add(rows as u64, Ordering::Relaxed);
        let rate = f64::from_bits(self.rate.load(Ordering::Relaxed));
        if rate.is_finite() {
            sleep_until(self.reserve(rows, rate, Instant::now())).await;
        }
    }

    /// Takes the time of these rows; returns when it is over. Lanes take theirs one after the other.
    fn reserve(&self, rows: usize, rate: f64, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = (*next).max(now) + Duration::from_secs_f64(rows as f64 / rate);
        *next
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::OldestPending;

    const TARGET: Duration = Duration::from_millis(200);
    const LOOK: Duration = LOOK_CLOSELY_EVERY;

    /// A database that can do so much a second: a commit costs it 1, a relayed row as much. Commits go first, as
    /// gateways have more connections.
    struct Model {
        capacity: f64,
        now: Instant,
        committed: f64,
        relayed: f64,
        /// When each row was committed.
        times: Vec<Instant>,
    }

    impl Model {
        fn new(capacity: f64) -> Self {
            Self { capacity, now: Instant::now(), committed: 0.0, relayed: 0.0, times: Vec::new() }
        }

        fn run(&mut self, offered: f64, rate: Option<f64>, relays: bool) {
            let seconds = LOOK.as_secs_f64();
            let commits = offered.min(rate.unwrap_or(f64::INFINITY)).min(self.capacity * 0.7) * seconds;
            let relays = if relays { self.capacity * seconds - commits } else { 0.0 };
            self.now += LOOK;
            self.committed += commits;
            self.relayed = (self.relayed + relays).min(self.committed);
            while (self.times.len() as f64) < self.committed.floor() {
                self.times.push(self.now);
            }
        }

        fn sample(&self) -> Sample {
            let at = self.relayed as usize;
            let oldest = self.times.get(at).map(|time| OldestPending { id: at as i64 + 1, age: self.now - *time });
            let outbox = OutboxProgress { newest: self.times.len() as i64, oldest };
            Sample { at: self.now, outbox, committed: self.times.len() as u64 }
        }
    }

    /// The worst lag and the committed rows a second in the last half of a minute under this load.
    fn minute(offered: f64) -> (Duration, f64) {
        let (mut model, mut control) = (Model::new(3_000.0), PaceControl::new(TARGET));
        let (mut rate, mut worst, mut half) = (None, Duration::ZERO, 0.0);
        for look in 0..600 {
            model.run(offered, rate, true);
            let sample = model.sample();
            rate = control.update(sample);
            if look == 299 {
                half = model.committed;
            }
            if look > 299 {
                worst = worst.max(sample.outbox.lag());
            }
        }
        (worst, (model.committed - half) / 30.0)
    }

    #[test]
    fn below_capacity_nothing_is_slowed_down() {
        let (lag, committed) = minute(1_000.0);
        assert!(lag.is_zero() && (committed - 1_000.0).abs() < 1.0, "{lag:?}, {committed}");
    }

    /// In the model both sides can do 1,500 rows a second together.
    #[test]
    fn above_capacity_the_lag_is_bounded_and_little_is_lost() {
        for offered in [1_600.0, 2_000.0, 3_000.0, 12_000.0] {
            let (lag, committed) = minute(offered);
            assert!(lag < Duration::from_millis(400), "{offered}: {lag:?}");
            assert!(committed > 0.95 * 1_500.0, "{offered}: {committed}");
        }
    }

    #[test]
    fn while_nothing_is_relayed_at_all_storing_goes_on() {
        let (mut model, mut control) = (Model::new(3_000.0), PaceControl::new(TARGET));
        let mut rate = None;
        for _ in 0..40 {
            model.run(1_000.0, rate, false);
            rate = control.update(model.sample());
            assert_eq!(rate, None);
        }
    }

    #[test]
    fn an_outage_frees_lanes_that_were_slowed_down() {
        let (mut model, mut control) = (Model::new(3_000.0), PaceControl::new(TARGET));
        let mut rate = None;
        for look in 0..120 {
            model.run(12_000.0, rate, look < 100);
            rate = control.update(model.sample());
            assert!(look != 99 || rate.is_some());
        }
        assert_eq!(rate, None);
    }

    #[test]
    fn after_a_flood_lanes_are_free_again() {
        let (mut model, mut control) = (Model::new(3_000.0), PaceControl::new(TARGET));
        let mut rate = None;
        for offered in [12_000.0; 100].into_iter().chain([1_000.0; 50]) {
            model.run(offered, rate, true);
            rate = control.update(model.sample());
        }
        assert_eq!(rate, None);
    }

    #[test]
    fn lanes_take_their_time_one_after_the_other() {
        let (pace, now) = (Pace::default(), Instant::now());
        assert_eq!(pace.reserve(100, 1_000.0, now), now + Duration::from_millis(100));
        assert_eq!(pace.reserve(50, 1_000.0, now), now + Duration::from_millis(150));
        let later = now + Duration::from_secs(1);
        assert_eq!(pace.reserve(50, 1_000.0, later), later + Duration::from_millis(50));
    }
}
