//! A circuit breaker: a plugin that keeps failing is not called for a while. One sender's messages alone do not open it
//! for others: they open it for that sender. Pure; the time is an argument.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::manifest::BreakerConfig;

/// The longest time between probes, unless the configured cool-down is longer.
const LONGEST: Duration = Duration::from_secs(60);
/// The breaker opens for everybody after failures in a row with this many senders or more. Fewer could be one person
/// who has found what the plugin fails on.
const SENDERS: usize = 3;
/// Senders whose last call failed, of which the breaker knows. The one that failed longest ago is forgotten first.
const MAX_FAILING_SENDERS: usize = 1_000;

/// The state of an open breaker.
#[derive(Debug, Clone, Copy)]
struct Open {
    next_probe: Instant,
    cool_down: Duration,
}

impl Open {
    fn new(now: Instant, cool_down: Duration) -> Self {
        Self { next_probe: now + cool_down, cool_down }
    }

    /// Whether a probe may be made now. If so, the next one is scheduled as if this one failed: if it succeeds, the
    /// schedule does not matter; if it is never reported, the next probe still comes.
    fn probe(&mut self, now: Instant, longest: Duration) -> bool {
        let is_due = now >= self.next_probe;
        if is_due {
            *self = Self::new(now, (self.cool_down * 2).min(longest));
        }
        is_due
    }
}

/// The state of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BreakerState {
    /// The plugin is called.
    Closed,
    /// The plugin is not called, except for probes.
    Open,
}

/// What a failed call does to the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Whether it opened the breaker, and for whom.
    pub(crate) opened: Option<OpenedFor>,
    /// How many calls in a row have failed for this sender.
    pub(crate) of_sender: u32,
}

/// Who is refused by an open breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenedFor {
    Everybody,
    Sender,
}

#[derive(Debug)]
pub(crate) struct Breaker {
    config: BreakerConfig,
    /// Failures in a row, whoever the senders are.
    failures: AtomicU32,
    /// Mirrors `open` and the number of `failing` senders, so that a normal call takes no lock.
    is_open: AtomicBool,
    failing_senders: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: Option<Open>,
    /// The number of the current streak of failures in a row.
    streak: u64,
    /// By sender.
    failing: HashMap<Box<str>, FailingSender>,
}

/// A sender whose last call failed.
#[derive(Debug)]
struct FailingSender {
    failures: u32,
    last: Instant,
    open: Option<Open>,
    /// The streak of the last failure.
    streak: u64,
}

impl Breaker {
    pub(crate) fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            failures: AtomicU32::new(0),
            is_open: AtomicBool::new(false),
            failing_senders: AtomicUsize::new(0),
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cool_down(&self) -> Duration {
        Duration::from_millis(self.config.cool_down_ms.get().into())
    }

    /// Whether it is open for everybody.
    pub(crate) fn state(&self) -> BreakerState {
        if self.is_open.load(Ordering::Acquire) { BreakerState::Open } else { BreakerState::Closed }
    }

    /// For how many senders it is open.
    pub(crate) fn refused_senders(&self) -> usize {
        if self.failing_senders.load(Ordering::Acquire) == 0 {
            return 0;
        }
        self.lock().failing.values().filter(|sender| sender.open.is_some()).count()
    }

    /// Whether the plugin may be called now. While the breaker is open, one caller per cool-down may probe.
    pub(crate) fn permits(&self, sender: &str, now: Instant) -> bool {
        if !self.is_open.load(Ordering::Acquire) && self.failing_senders.load(Ordering::Acquire) == 0 {
            return true;
        }
        let longest = LONGEST.max(self.cool_down());
        let mut state = self.lock();
        let open = state.failing.get_mut(sender).and_then(|failing| failing.open.as_mut());
        open.is_none_or(|open| open.probe(now, longest))
            && state.open.as_mut().is_none_or(|open| open.probe(now, longest))
    }

    /// Records a successful call. Returns whether it closed the breaker for everybody.
    pub(crate) fn succeeded(&self, sender: &str) -> bool {
        if self.failures.load(Ordering::Relaxed) == 0 && self.failing_senders.load(Ordering::Acquire) == 0 {
            return false;
        }
        let mut state = self.lock();
        state.failing.remove(sender);
        state.streak += u64::from(self.failures.swap(0, Ordering::Relaxed) > 0);
        self.failing_senders.store(state.failing.len(), Ordering::Release);
        let closed = state.open.take().is_some();
        self.is_open.store(false, Ordering::Release);
        closed
    }

    /// Records a failed call.
    pub(crate) fn failed(&self, sender: &str, now: Instant) -> Failure {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let (needed, cool_down) = (self.config.failures.get(), self.cool_down());
        let mut state = self.lock();
        let streak = state.streak;
        let new = FailingSender { failures: 0, last: now, open: None, streak };
        let failing = state.failing.entry(sender.into()).or_insert(new);
        failing.failures = failing.failures.saturating_add(1);
        failing.last = now;
        failing.streak = streak;
        let of_sender = failing.failures;
        // Calls that were running when it opened do not count.
        let opens_for_sender = failing.open.is_none() && of_sender >= needed;
        if opens_for_sender {
            failing.open = Some(Open::new(now, cool_down));
        }
        if state.failing.len() > MAX_FAILING_SENDERS {
            let oldest = state.failing.iter().min_by_key(|(_, failing)| failing.last).map(|(name, _)| name.clone());
            oldest.and_then(|oldest| state.failing.remove(&oldest));
        }
        self.failing_senders.store(state.failing.len(), Ordering::Release);
        let senders = state.failing.values().filter(|failing| failing.streak == streak).count();
        let opens = state.open.is_none() && failures >= needed && senders >= SENDERS.min(needed as usize);
        if opens {
            state.open = Some(Open::new(now, cool_down));
            self.is_open.store(true, Ordering::Release);
        }
        let opened = match (opens, opens_for_sender) {
            (true, _) => Some(OpenedFor::Everybody),
            (false, true) => Some(OpenedFor::Sender),
            (false, false) => None,
        };
        Failure { opened, of_sender }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounded::Bounded;

    fn breaker(failures: u32) -> Breaker {
        Breaker::new(BreakerConfig { failures: Bounded::new(failures), cool_down_ms: Bounded::new(1000) })
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// A failure with a sender whom nobody has seen.
    fn fails(breaker: &Breaker, now: Instant) -> bool {
        static SENDERS: AtomicU32 = AtomicU32::new(0);
        let sender = SENDERS.fetch_add(1, Ordering::Relaxed).to_string();
        breaker.failed(&sender, now).opened == Some(OpenedFor::Everybody)
    }

    #[test]
    fn opens_after_failures_in_a_row_and_not_before() {
        let (breaker, now) = (breaker(3), Instant::now());
        for _ in 0..5 {
            assert!(!fails(&breaker, now) && !fails(&breaker, now));
            assert!(!breaker.succeeded("a"));
        }
        assert!(!fails(&breaker, now) && !fails(&breaker, now) && fails(&breaker, now));
        assert_eq!(breaker.state(), BreakerState::Open);
        assert!(!breaker.permits("a", now));
        assert!(!fails(&breaker, now), "calls that were under way do not open it twice, nor for longer");
        assert!(breaker.permits("a", now + SECOND));
    }

    #[test]
    fn one_sender_opens_it_for_nobody_else() {
        let (breaker, mut now) = (breaker(5), Instant::now());
        let opened: Vec<_> = (0..7).map(|_| breaker.failed("a", now).opened).collect();
        assert_eq!(opened, [None, None, None, None, Some(OpenedFor::Sender), None, None]);
        assert!(!breaker.permits("a", now) && breaker.permits("b", now));
        assert_eq!((breaker.state(), breaker.refused_senders()), (BreakerState::Closed, 1));
        assert!(!breaker.succeeded("b"));
        assert!(!breaker.permits("a", now), "another's success is not his");
        // Two more people do the same: with successes between, that is theirs too.
        for sender in ["c", "d"] {
            assert!((0..4).all(|_| breaker.failed(sender, now).opened.is_none()));
            assert_eq!(breaker.failed(sender, now).opened, Some(OpenedFor::Sender));
            breaker.succeeded("b");
        }
        assert_eq!(breaker.refused_senders(), 3);
        now += SECOND;
        assert!(breaker.permits("a", now) && !breaker.permits("a", now), "he may try once");
        breaker.succeeded("a");
        assert!(breaker.permits("a", now) && breaker.permits("a", now));
        // All of them in a row are a failing plugin.
        assert!((0..2).all(|_| breaker.failed("a", now).opened.is_none()));
        assert!((0..2).all(|_| breaker.failed("b", now).opened.is_none()));
        assert_eq!(breaker.failed("e", now).opened, Some(OpenedFor::Everybody));
        assert!(!breaker.permits("f", now));
    }

    #[test]
    fn it_remembers_only_so_many_senders() {
        let (breaker, start) = (breaker(1_000_000), Instant::now());
        for n in 0..2 * MAX_FAILING_SENDERS {
            breaker.failed(&n.to_string(), start + SECOND * n as u32);
        }
        assert_eq!(breaker.lock().failing.len(), MAX_FAILING_SENDERS);
        assert!(!breaker.lock().failing.contains_key("0"));
    }

    #[test]
    fn closes_after_a_successful_probe() {
        let (breaker, now) = (breaker(1), Instant::now());
        fails(&breaker, now);
        assert!(!breaker.permits("a", now + SECOND / 2));
        assert!(breaker.permits("a", now + SECOND));
        assert!(!breaker.permits("a", now + SECOND), "one probe at a time");
        assert!(breaker.succeeded("a"));
        assert_eq!(breaker.state(), BreakerState::Closed);
        assert!(breaker.permits("a", now + SECOND) && breaker.permits("a", now + SECOND));
    }

    #[test]
    fn waits_longer_after_each_failed_probe_within_a_bound() {
        let (breaker, mut now) = (breaker(1), Instant::now());
        fails(&breaker, now);
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            let wait = SECOND * wait;
            assert!(!breaker.permits("a", now + wait - Duration::from_millis(1)));
            now += wait;
            assert!(breaker.permits("a", now));
            assert!(!fails(&breaker, now), "it was open already");
        }
    }

    #[test]
    fn a_probe_that_is_never_reported_is_not_the_last() {
        let (breaker, now) = (breaker(1), Instant::now());
        fails(&breaker, now);
        assert!(breaker.permits("a", now + SECOND));
        assert!(!breaker.permits("a", now + SECOND * 2) && breaker.permits("a", now + SECOND * 3));
    }
}
