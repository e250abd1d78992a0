//! Which of many equal failures are worth a log line: the first, one now and then, and the end. Pure: the clock is an
//! argument, and the caller writes the line.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between the lines about a failure that goes on.
const REMIND_AFTER: Duration = Duration::from_secs(60);
/// Without a failure for this long it is over, where nobody tells of successes.
const OVER_AFTER: Duration = Duration::from_secs(10);

/// Remembers whether something fails. Cheap to ask while nothing does.
#[derive(Debug, Default)]
pub struct OutageLog {
    fails: AtomicBool,
    outage: Mutex<Option<Outage>>,
}

#[derive(Debug)]
struct Outage {
    began: Instant,
    failures: u64,
    last: Instant,
    said: Instant,
}

/// What a log line says of an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutageLine {
    /// How long it has lasted.
    pub lasted: Duration,
    /// Failures since it began.
    pub failures: u64,
}

impl OutageLog {
    /// Nothing has failed yet.
    pub const fn new() -> Self {
        Self { fails: AtomicBool::new(false), outage: Mutex::new(None) }
    }

    /// Notes a failure. A line is due for the first one, and then once a minute.
    pub fn failed(&self, now: Instant) -> Option<OutageLine> {
        let mut outage = self.outage();
        self.fails.store(true, Ordering::Release);
        let is_new = outage.is_none();
        let outage = outage.get_or_insert(Outage { began: now, failures: 0, last: now, said: now });
        outage.failures += 1;
        outage.last = now;
        if !is_new && now.saturating_duration_since(outage.said) < REMIND_AFTER {
            return None;
        }
        outage.said = now;
        Some(outage.line(now))
    }

    /// The same where nobody tells of successes: after a silence it is a new failure.
    pub fn recurred(&self, now: Instant) -> Option<OutageLine> {
        let _over = self.quiet(now);
        self.failed(now)
    }

    /// Notes that it works. A line is due if it did not before.
    pub fn worked(&self, now: Instant) -> Option<OutageLine> {
        if !self.fails.load(Ordering::Acquire) {
            return None;
        }
        let mut outage = self.outage();
        self.fails.store(false, Ordering::Release);
        outage.take().map(|outage| outage.line(now))
    }

    /// Notes that it probably works, since nothing was heard of a failure for a while. A line is due if it did not
    /// before.
    pub fn quiet(&self, now: Instant) -> Option<OutageLine> {
        if !self.fails.load(Ordering::Acquire) {
            return None;
        }
        let mut outage = self.outage();
        let over = outage.take_if(|outage| now.saturating_duration_since(outage.last) >= OVER_AFTER)?;
        self.fails.store(false, Ordering::Release);
        Some(over.line(over.last))
    }

    fn outage(&self) -> MutexGuard<'_, Option<Outage>> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outage {
    fn line(&self, now: Instant) -> OutageLine {
        OutageLine { lasted: now.saturating_duration_since(self.began), failures: self.failures }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_outage_has_a_beginning_an_end_and_a_line_a_minute() {
        let (log, start) = (OutageLog::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(log.worked(at(0)), None);
        let lines: Vec<_> = (0..=150).filter_map(|second| log.failed(at(second))).collect();
        let lasted: Vec<_> = lines.iter().map(|line| line.lasted.as_secs()).collect();
        assert_eq!(lasted, [0, 60, 120]);
        let end = OutageLine { lasted: Duration::from_secs(200), failures: 151 };
        assert_eq!(log.worked(at(200)), Some(end));
        assert_eq!(log.worked(at(201)), None);
        assert_eq!(log.quiet(at(201)), None);
        let once = OutageLine { lasted: Duration::ZERO, failures: 1 };
        assert_eq!(log.failed(at(202)), Some(once));
        assert_eq!(log.quiet(at(203)), None);
        assert_eq!(log.quiet(at(212)), Some(once));
        assert_eq!(log.failed(at(213)), Some(once));
        assert_eq!(log.recurred(at(222)), None);
        assert_eq!(log.recurred(at(232)), Some(once));
    }
}
