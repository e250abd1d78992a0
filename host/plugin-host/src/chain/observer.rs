//! Observation of a plugin's calls, while a new version is on probation.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The result of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallResult {
    Answered,
    Failed,
    /// The call failed, as the ones before for the same sender, whose messages may be the cause.
    FailedAgain,
    /// The call failed, and the breaker opened: the plugin will not be called for a while.
    FailedAndOpened,
}

/// Is notified of each call of a plugin.
pub(crate) trait CallObserver: Send + Sync {
    /// A call has ended.
    fn on_call(&self, result: CallResult, now: Instant);

    /// Whether the observation has expired.
    fn is_over(&self, now: Instant) -> bool;
}

/// A slot for one observer.
#[derive(Default)]
pub(crate) struct ObserverSlot {
    /// Mirrors `observer`, so that a normal call takes no lock.
    is_occupied: AtomicBool,
    observer: Mutex<Option<Arc<dyn CallObserver>>>,
}

impl ObserverSlot {
    pub(crate) fn set(&self, observer: Arc<dyn CallObserver>) {
        *self.observer() = Some(observer);
        self.is_occupied.store(true, Ordering::Release);
    }

    pub(crate) fn is_occupied(&self) -> bool {
        self.is_occupied.load(Ordering::Acquire)
    }

    /// Ends the observation. Returns whether there was one: of several concurrent callers, one gets true.
    pub(crate) fn clear(&self) -> bool {
        self.is_occupied.store(false, Ordering::Release);
        self.observer().take().is_some()
    }

    /// Ends an observation that has expired.
    pub(crate) fn expire(&self, now: Instant) {
        let over = |observer: &Arc<dyn CallObserver>| observer.is_over(now);
        if self.is_occupied() && self.observer().as_ref().is_some_and(over) {
            self.clear();
        }
    }

    pub(crate) fn notify(&self, result: CallResult, now: Instant) {
        if !self.is_occupied() {
            return;
        }
        // The lock is released first, since the observer may clear the slot.
        let observer = self.observer().clone();
        if let Some(observer) = observer {
            observer.on_call(result, now);
        }
    }

    fn observer(&self) -> MutexGuard<'_, Option<Arc<dyn CallObserver>>> {
        self.observer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
