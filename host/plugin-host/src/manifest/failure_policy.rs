//! What becomes of a plugin that keeps failing: the tables `[plugin.breaker]` and `[plugin.rollback]`.

use serde::Deserialize;

use crate::bounded::Bounded;

/// The table `[plugin.breaker]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BreakerConfig {
    /// Failures in a row that open it.
    pub(crate) failures: Bounded<1, 1_000_000>,
    /// How long it stays open before one call may try; doubled by each attempt that fails, up to a minute.
    pub(crate) cool_down_ms: Bounded<1, 3_600_000>,
}

impl BreakerConfig {
    /// For what is asked on purpose, also when it is known to fail.
    pub(crate) const NEVER_OPENS: Self = Self { failures: Bounded::new(u32::MAX), cool_down_ms: Bounded::new(1) };
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { failures: Bounded::new(5), cool_down_ms: Bounded::new(5_000) }
    }
}

/// The table `[plugin.rollback]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RollbackConfig {
    /// Whether a version that fails is replaced without an operator.
    pub(crate) enabled: bool,
    /// How long a new version is watched, and the one before it kept.
    pub(crate) window_s: Bounded<1, 86_400>,
    /// Failures are counted over so many calls, again and again.
    pub(crate) calls: Bounded<1, 1_000_000>,
    /// More than this share of those calls, in percent, is too many.
    pub(crate) failures_percent: Bounded<0, 100>,
}

impl Default for RollbackConfig {
    fn default() -> Self {
        Self { enabled: true, window_s: Bounded::new(600), calls: Bounded::new(100), failures_percent: Bounded::new(5) }
    }
}

impl RollbackConfig {
    /// Failures that may happen within the calls over which they are counted.
    pub(crate) fn allowed_failures(&self) -> u64 {
        u64::from(self.calls.get()) * u64::from(self.failures_percent.get()) / 100
    }
}
