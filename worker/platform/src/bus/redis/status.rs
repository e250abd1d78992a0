//! Where the state of a connection is reported.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::health::Part;

/// Receives the state of one connection. Both calls may repeat the current state.
pub(super) trait StatusReporter: Send + Sync {
    fn up(&self);
    fn down(&self, reason: &str);
}

impl StatusReporter for Part {
    fn up(&self) {
        self.up();
    }

    fn down(&self, reason: &str) {
        self.down(reason);
    }
}

/// Reports to the log, once for each outage.
pub(super) struct LogReporter {
    used_for: &'static str,
    is_down: AtomicBool,
}

impl LogReporter {
    /// `used_for` says in the log what the connection is for.
    pub(super) fn new(used_for: &'static str) -> Self {
        Self { used_for, is_down: AtomicBool::default() }
    }
}

impl StatusReporter for LogReporter {
    fn up(&self) {
        if self.is_down.load(Ordering::Relaxed) && self.is_down.swap(false, Ordering::Relaxed) {
            tracing::info!(what = self.used_for, "Redis is available again");
        }
    }

    fn down(&self, reason: &str) {
        if !self.is_down.swap(true, Ordering::Relaxed) {
            tracing::warn!(what = self.used_for, reason, "Redis is unavailable");
        }
    }
}
