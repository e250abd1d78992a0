//! Whether transactions go well, for operators: on `/ready`, where the database may answer and store nothing all the
//! same, and in the log.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arcyou_platform::health::Part;
use arcyou_platform::outage_log::OutageLog;

use crate::store::StoreError;

/// Failures that follow one another for this long are not one message's.
const IS_AN_OUTAGE: Duration = Duration::from_secs(1);
/// After this time without another failure nobody knows.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// What lanes and the tasks beside them report.
pub struct CommitHealth {
    part: Part,
    log: OutageLog,
    /// Of what others hold. Nothing ends it but silence, since other batches go well meanwhile.
    locks: OutageLog,
    failing: Mutex<Option<Failing>>,
}

#[derive(Debug, Clone, Copy)]
struct Failing {
    first: Instant,
    last: Instant,
}

impl CommitHealth {
    /// Nothing has failed yet.
    pub fn new(part: Part) -> Self {
        part.up();
        Self { part, log: OutageLog::new(), locks: OutageLog::new(), failing: Mutex::default() }
    }

    pub(super) fn worked(&self) {
        let now = Instant::now();
        if let Some(line) = self.log.worked(now) {
            let (seconds, failures) = (line.lasted.as_secs(), line.failures);
            tracing::info!(seconds, failures, "batches are committed again");
            *self.failing() = None;
            self.part.up();
        }
    }

    /// Data is a message's own fault, and a lock its neighbour's.
    pub(super) fn failed(&self, error: &StoreError, messages: usize) {
        let now = Instant::now();
        match error {
            StoreError::Data(_) => return tracing::warn!(%error, messages, "a batch was not committed"),
            StoreError::Transient(_) | StoreError::Busy(_) => {
                if let Some(line) = self.locks.recurred(now) {
                    let (seconds, failures) = (line.lasted.as_secs(), line.failures);
                    tracing::warn!(%error, messages, seconds, failures, "a batch was not committed");
                }
                return;
            }
            _ => {}
        }
        if let Some(line) = self.log.failed(now) {
            let (seconds, failures) = (line.lasted.as_secs(), line.failures);
            tracing::warn!(%error, messages, seconds, failures, "a batch was not committed");
        }
        let lasts = {
            let mut failing = self.failing();
            let failing = failing.get_or_insert(Failing { first: now, last: now });
            failing.last = now;
            now.saturating_duration_since(failing.first)
        };
        if lasts >= IS_AN_OUTAGE {
            self.part.down(format!("no message can be stored: {error}"));
        }
    }

    /// To be called now and then while the database answers: nothing may be sent any more that shows it works.
    pub fn forget(&self, now: Instant) {
        let is_old = |failing: &Failing| now.saturating_duration_since(failing.last) >= FORGOTTEN_AFTER;
        if self.failing().take_if(|failing| is_old(failing)).is_some() {
            self.part.up();
        }
    }

    fn failing(&self) -> MutexGuard<'_, Option<Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
