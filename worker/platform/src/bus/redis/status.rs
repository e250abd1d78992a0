//! Where the state of a connection is reported.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::health::{Health, Part};

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

/// Reports to the log, once for each outage. A right that is missing also becomes a part of the health report, which it
/// then stays: nothing else shows it.
pub(super) struct LogReporter {
    used_for: &'static str,
    is_down: AtomicBool,
    part_if_denied: Option<(Health, &'static str)>,
    part: OnceLock<Part>,
}

impl LogReporter {
    /// `used_for` says in the log what the connection is for; `part_if_denied` names the part.
    pub(super) fn new(used_for: &'static str, part_if_denied: Option<(Health, &'static str)>) -> Self {
        Self { used_for, is_down: AtomicBool::default(), part_if_denied, part: OnceLock::new() }
    }
}

impl StatusReporter for LogReporter {
    fn up(&self) {
        if self.is_down.load(Ordering::Relaxed) && self.is_down.swap(false, Ordering::Relaxed) {
            tracing::info!(what = self.used_for, "Redis is available again");
            if let Some(part) = self.part.get() {
                part.up();
            }
        }
    }

    fn down(&self, reason: &str) {
        if !self.is_down.swap(true, Ordering::Relaxed) {
            tracing::warn!(what = self.used_for, reason, "Redis is unavailable");
        }
    }

    fn denied(&self, reason: &str) {
        self.down(reason);
        if let Some((health, name)) = &self.part_if_denied {
            self.part.get_or_init(|| health.part(name)).needs_mending(reason);
        }
    }
}
