//! A circuit breaker: a plugin that keeps failing is not called for a while. Pure; the time is an argument.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::manifest::BreakerConfig;

/// The longest time between probes, unless the configured cool-down is longer.
const LONGEST: Duration = Duration::from_secs(60);

/// The state of an open breaker.
#[derive(Debug, Clone, Copy)]
struct Open {
    next_probe: Instant,
    cool_down: Duration,
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

#[derive(Debug)]
pub(crate) struct Breaker {
    config: BreakerConfig,
    failures: AtomicU32,
    /// Mirrors `open`, so that a normal call takes no lock.
    is_open: AtomicBool,
    open: Mutex<Option<Open>>,
}

impl Breaker {
    pub(crate) fn new(config: BreakerConfig) -> Self {
        Self { config, failures: AtomicU32::new(0), is_open: AtomicBool::new(false), open: Mutex::new(None) }
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cool_down(&self) -> Duration {
        Duration::from_millis(self.config.cool_down_ms.get().into())
    }

    pub(crate) fn state(&self) -> BreakerState {
        if self.is_open.load(Ordering::Acquire) { BreakerState::Open } else { BreakerState::Closed }
    }

    /// Whether the plugin may be called now. While the breaker is open, one caller per cool-down may probe.
    pub(crate) fn permits(&self, now: Instant) -> bool {
        if !self.is_open.load(Ordering::Acquire) {
            return true;
        }
        match &mut *self.open() {
            None => true,
            Some(open) if now >= open.next_probe => {
                // Schedules the next probe as if this one failed. If it succeeds, the schedule does not matter; if it
                // is never reported, the next probe still comes.
                open.cool_down = (open.cool_down * 2).min(LONGEST.max(self.cool_down()));
                open.next_probe = now + open.cool_down;
                true
            }
            Some(_) => false,
        }
    }

    /// Records a successful call. Returns whether it closed the breaker.
    pub(crate) fn succeeded(&self) -> bool {
        if self.failures.load(Ordering::Relaxed) == 0 {
            return false;
        }
        self.failures.store(0, Ordering::Relaxed);
        let closed = self.open().take().is_some();
        self.is_open.store(false, Ordering::Release);
        closed
    }

    /// Records a failed call. Returns whether it opened the breaker.
    pub(crate) fn failed(&self, now: Instant) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let mut open = self.open();
        // Calls that were running when the breaker opened do not count.
        if open.is_some() || failures < self.config.failures.get() {
            return false;
        }
        let cool_down = self.cool_down();
        *open = Some(Open { next_probe: now + cool_down, cool_down });
        self.is_open.store(true, Ordering::Release);
        true
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

    #[test]
    fn opens_after_failures_in_a_row_and_not_before() {
        let (breaker, now) = (breaker(3), Instant::now());
        for _ in 0..5 {
            assert!(!breaker.failed(now) && !breaker.failed(now));
            assert!(!breaker.succeeded());
        }
        assert!(!breaker.failed(now) && !breaker.failed(now) && breaker.failed(now));
        assert_eq!(breaker.state(), BreakerState::Open);
        assert!(!breaker.permits(now));
        assert!(!breaker.failed(now), "calls that were under way do not open it twice, nor for longer");
        assert!(breaker.permits(now + SECOND));
    }

    #[test]
    fn closes_after_a_successful_probe() {
        let (breaker, now) = (breaker(1), Instant::now());
        assert!(breaker.failed(now));
        assert!(!breaker.permits(now + SECOND / 2));
        assert!(breaker.permits(now + SECOND));
        assert!(!breaker.permits(now + SECOND), "one probe at a time");
        assert!(breaker.succeeded());
        assert_eq!(breaker.state(), BreakerState::Closed);
        assert!(breaker.permits(now + SECOND) && breaker.permits(now + SECOND));
    }

    #[test]
    fn waits_longer_after_each_failed_probe_within_a_bound() {
        let (breaker, mut now) = (breaker(1), Instant::now());
        breaker.failed(now);
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            let wait = SECOND * wait;
            assert!(!breaker.permits(now + wait - Duration::from_millis(1)));
            now += wait;
            assert!(breaker.permits(now));
            assert!(!breaker.failed(now), "it was open already");
        }
    }

    #[test]
    fn a_probe_that_is_never_reported_is_not_the_last() {
        let (breaker, now) = (breaker(1), Instant::now());
        breaker.failed(now);
        assert!(breaker.permits(now + SECOND));
        assert!(!breaker.permits(now + SECOND * 2) && breaker.permits(now + SECOND * 3));
    }
}
