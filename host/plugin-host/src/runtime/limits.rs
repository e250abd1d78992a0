//! Resource limits of a plugin.

use serde::{Deserialize, Serialize};

use crate::bounded::Bounded;

/// The table `[plugin.limits]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// For one call. Far above what a call takes, since the pauses of a busy machine count too.
    pub(crate) deadline_ms: Bounded<1, 10_000>,
    /// For one call of a plugin that may wait, in wall-clock time. `deadline_ms` counts only the time in which it
    /// computes.
    pub(crate) wall_ms: Bounded<1, 60_000>,
    /// Concurrent calls of a plugin that may wait. More calls queue, within their time limit.
    pub(crate) waiting: Bounded<1, 1_000>,
    /// For starting an instance, including its configuration.
    pub(crate) startup_ms: Bounded<1, 60_000>,
    /// Linear memory of one instance.
    pub(crate) memory_mib: Bounded<1, MAX_MEMORY_MIB>,
    /// Bytes that one call may pass to the gateway: its judgement, and each of its log lines.
    pub(crate) output_bytes: Bounded<1024, { 16 << 20 }>,
    /// Lines that one call may log. More are counted and dropped.
    pub(crate) log_lines: Bounded<0, 10_000>,
    pub(crate) instances: Bounded<1, 256>,
    /// Calls after which an instance is replaced, so that small leaks stay small.
    pub(crate) calls_per_instance: Bounded<1, { u32::MAX }>,
}

/// The pooling allocator needs this bound in advance.
pub(crate) const MAX_MEMORY_MIB: u32 = 512;

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline_ms: Bounded::new(100),
            wall_ms: Bounded::new(1_000),
            waiting: Bounded::new(100),
            startup_ms: Bounded::new(2_000),
            memory_mib: Bounded::new(16),
            output_bytes: Bounded::new(256 << 10),
            log_lines: Bounded::new(32),
            instances: Bounded::new(16),
            calls_per_instance: Bounded::new(50_000),
        }
    }
}

impl Limits {
    pub(crate) fn memory_bytes(&self) -> usize {
        (self.memory_mib.get() as usize) << 20
    }
}

/// How long an instance lives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Isolation {
    /// For many calls, one after another.
    #[default]
    Warm,
    /// For one call: a plugin cannot carry anything from one message to another.
    Fresh,
}
