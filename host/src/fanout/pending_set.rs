//! What one task wants another to look at.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// A set that wakes its reader. Not a queue: wishing for the same thing twice is one wish, so its size is bounded by
/// the number of things there are, and nothing is lost for want of space.
#[derive(Debug)]
pub(super) struct PendingSet<T> {
    set: Mutex<HashSet<T>>,
    wake: Notify,
}

impl<T> Default for PendingSet<T> {
    fn default() -> Self {
        Self { set: Mutex::default(), wake: Notify::new() }
    }
}

impl<T: Eq + Hash> PendingSet<T> {
    pub(super) fn add(&self, wish: T) {
        self.set.lock().unwrap_or_else(PoisonError::into_inner).insert(wish);
        self.wake.notify_one();
    }

    pub(super) fn take(&self) -> HashSet<T> {
        std::mem::take(&mut *self.set.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Completes when something was added since it last completed. For one reader; safe to cancel.
    pub(super) async fn added(&self) {
        self.wake.notified().await;
    }
}
