//! Where the state of a connection is reported.

use std::time::Instant;

use crate::health::Part;
use crate::outage_log::OutageLog;

/// Receives the state of one connection. Both calls may repeat the current state.
pub(super) trait StatusReporter: Send + Sync {
    fn up(&self);
    fn down(&self, reason: &str);

    /// It works, but the user's ACL does not allow what it is for.
    fn denied(&self, reason: &str) {
        self.down(reason);
    }
}

impl StatusReporter for Part {
    fn denied(&self, reason: &str) {
        self.needs_mending(reason);
    }

    fn up(&self) {
        self.up();
    }

    fn down(&self, reason: &str) {
        self.down(reason);
    }
}

/// Reports to the log: once for each outage, and each minute while it lasts.
pub(super) struct LogReporter {
    used_for: &'static str,
    outage: OutageLog,
}

impl LogReporter {
    /// `used_for` says in the log what the connection is for.
    pub(super) fn new(used_for: &'static str) -> Self {
        Self { used_for, outage: OutageLog::new() }
    }
}

impl StatusReporter for LogReporter {
    fn up(&self) {
        if let Some(line) = self.outage.worked(Instant::now()) {
            tracing::info!(what = self.used_for, seconds = line.lasted.as_secs(), "Redis is available again");
        }
    }

    fn down(&self, reason: &str) {
        if let Some(line) = self.outage.failed(Instant::now()) {
            tracing::warn!(what = self.used_for, reason, seconds = line.lasted.as_secs(), "Redis is unavailable");
        }
    }
}
