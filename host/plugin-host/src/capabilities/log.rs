//! `log`: lines in the gateway's log. Every plugin has it.

use std::sync::Arc;

use crate::bindings::host::log::{Host, Level};
use crate::text::sanitize;

/// Bytes of a log line that are kept; the rest is cut off.
pub(crate) const MAX_LINE_BYTES: usize = 4096;

/// Bytes that are kept of the last error of a call, which says why a call failed.
const MAX_LAST_ERROR_BYTES: usize = 1024;

/// The number of lines that an instance may log in each call.
pub(crate) struct LogBudget {
    plugin: Arc<str>,
    lines: u32,
    lines_left: u32,
    lines_dropped: u32,
    /// Beyond the limit, one error line is still logged, so that the message of a panic is not lost.
    error_line_left: bool,
    /// The last error line of the call, cut off.
    last_error: Option<String>,
}

impl LogBudget {
    pub(super) fn new(plugin: Arc<str>, lines: u32) -> Self {
        Self { plugin, lines, lines_left: lines, lines_dropped: 0, error_line_left: true, last_error: None }
    }

    pub(super) fn reset(&mut self) {
        (self.lines_left, self.error_line_left, self.last_error) = (self.lines, true, None);
    }

    /// The last error line of the call.
    pub(super) fn take_last_error(&mut self) -> Option<String> {
        self.last_error.take()
    }

    /// Logs the number of lines that were dropped since the last report.
    pub(super) fn report_dropped(&mut self) {
        let dropped = std::mem::take(&mut self.lines_dropped);
        if dropped > 0 {
            tracing::warn!(target: "plugin", plugin = &*self.plugin, dropped, "more log lines than the limit");
        }
    }

    fn take_line(&mut self, level: Level) -> bool {
        if self.lines_left > 0 {
            self.lines_left -= 1;
        } else if matches!(level, Level::Error) && self.error_line_left {
            self.error_line_left = false;
        } else {
            self.lines_dropped = self.lines_dropped.saturating_add(1);
            return false;
        }
        true
    }
}

impl Host for LogBudget {
    fn log(&mut self, level: Level, line: String) {
        if !self.take_line(level) {
            return;
        }
        let line = sanitize(&line, MAX_LINE_BYTES);
        if matches!(level, Level::Error) {
            self.last_error = Some(sanitize(&line, MAX_LAST_ERROR_BYTES).into_owned());
        }
        let plugin = &*self.plugin;
        match level {
            Level::Error => tracing::error!(target: "plugin", plugin, "{line}"),
            Level::Warn => tracing::warn!(target: "plugin", plugin, "{line}"),
            Level::Info => tracing::info!(target: "plugin", plugin, "{line}"),
            Level::Debug => tracing::debug!(target: "plugin", plugin, "{line}"),
        }
    }
}
