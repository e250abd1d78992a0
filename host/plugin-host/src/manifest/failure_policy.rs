//! What happens to a plugin that keeps failing: the tables `[plugin.breaker]` and `[plugin.rollback]`.

use serde::Deserialize;

use crate::bounded::Bounded;

/// The table `[plugin.breaker]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BreakerConfig {
    /// Consecutive failures that open the breaker.
    pub(crate) failures: Bounded<1, 1_000_000>,
    /// How long the breaker stays open before one call probes the plugin. Each failed probe doubles the time, up to a
    /// minute.
    pub(crate) cool_down_ms: Bounded<1, 3_600_000>,
}

impl BreakerConfig {
    /// For dry runs: the plugin is called even if it keeps failing.
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
    /// Whether a failing version is rolled back without an operator.
    pub(crate) enabled: bool,
    /// How long a new version is on probation. The version before is kept for that time.
    pub(crate) window_s: Bounded<1, 86_400>,
    /// The number of calls over which failures are counted, before counting starts again.
    pub(crate) calls: Bounded<1, 1_000_000>,
    /// The share of failures among those calls, in percent, above which the version is rolled back.
    pub(crate) failures_percent: Bounded<0, 100>,
}

impl Default for RollbackConfig {
    fn default() -> Self {
        Self { enabled: true, window_s: Bounded::new(600), calls: Bounded::new(100), failures_percent: Bounded::new(5) }
    }
}

impl RollbackConfig {
    /// The number of failures that are allowed among `calls`.
    pub(crate) fn allowed_failures(&self) -> u64 {
        u64::from(self.calls.get()) * u64::from(self.failures_percent.get()) / 100
    }
}
