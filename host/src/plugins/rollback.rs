//! Whether a new version of a plugin does so badly that the one before must take its place again. Pure; the clock is an
//! argument.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::limits::Within;

/// The table `[plugin.rollback]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RollbackConfig {
    /// Whether a version that fails goes by itself.
    pub(crate) enabled: bool,
    /// How long a new version is watched, and the one before it kept.
    pub(crate) window_s: Within<1, 86_400>,
    /// Failures are counted over so many calls, again and again.
    pub(crate) calls: Within<1, 1_000_000>,
    /// More than this share of those calls, in percent, is too many.
    pub(crate) failures_percent: Within<0, 100>,
}

impl Default for RollbackConfig {
    fn default() -> Self {
        Self { enabled: true, window_s: Within::new(600), calls: Within::new(100), failures_percent: Within::new(5) }
    }
}

impl RollbackConfig {
    /// Failures that may happen within the calls over which they are counted.
    fn allowed(&self) -> u64 {
        u64::from(self.calls.get()) * u64::from(self.failures_percent.get()) / 100
    }
}

/// How one call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Went {
    /// It was answered.
    Well,
    /// It failed.
    Badly,
    /// It failed, and was one too many for the breaker: the plugin will not be called for a while.
    BadlyOnceTooOften,
}

/// What is known of a new version after a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Nothing yet.
    Watching,
    /// It has done well for as long as it is watched.
    Proven,
    /// The version before must take its place: so many failures in so many calls.
    Failed {
        /// Failures among the calls.
        failures: u32,
        /// The calls that were counted.
        calls: u32,
    },
}

/// The first time of a new version.
#[derive(Debug, Clone)]
pub(crate) struct Probation {
    config: RollbackConfig,
    until: Instant,
    calls: u32,
    failures: u32,
}

impl Probation {
    /// Begins now.
    pub(crate) fn new(config: RollbackConfig, now: Instant) -> Self {
        let until = now + Duration::from_secs(config.window_s.get().into());
        Self { config, until, calls: 0, failures: 0 }
    }

    /// Whether the time is over.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now >= self.until
    }

    /// Judges after each call. A version that the breaker would put to rest is as bad as one that fails too often.
    pub(crate) fn called(&mut self, went: Went, now: Instant) -> Finding {
        if self.is_over(now) {
            return Finding::Proven;
        }
        self.calls += 1;
        self.failures += u32::from(went != Went::Well);
        if went == Went::BadlyOnceTooOften || u64::from(self.failures) > self.config.allowed() {
            return Finding::Failed { failures: self.failures, calls: self.calls };
        }
        if self.calls >= self.config.calls.get() {
            (self.calls, self.failures) = (0, 0);
        }
        Finding::Watching
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config(calls: u32, failures_percent: u32) -> RollbackConfig {
        RollbackConfig {
            calls: Within::new(calls),
            failures_percent: Within::new(failures_percent),
            ..RollbackConfig::default()
        }
    }

    proptest! {
        /// It ends at the first call that makes one failure too many among the calls counted together, and at no other.
        #[test]
        fn a_version_goes_exactly_when_it_fails_too_often(
            calls in 1_u32..30, percent in 0_u32..=100, went in prop::collection::vec(any::<bool>(), 0..200)
        ) {
            let now = Instant::now();
            let mut probation = Probation::new(config(calls, percent), now);
            let allowed = (calls * percent / 100) as usize;
            for block in went.chunks(calls as usize) {
                for (at, well) in block.iter().enumerate() {
                    let failures = block[..=at].iter().filter(|well| !**well).count();
                    let finding = probation.called(if *well { Went::Well } else { Went::Badly }, now);
                    if failures > allowed {
                        let (failures, calls) = (failures as u32, at as u32 + 1);
                        prop_assert_eq!(finding, Finding::Failed { failures, calls });
                        return Ok(());
                    }
                    prop_assert_eq!(finding, Finding::Watching);
                }
            }
        }
    }

    #[test]
    fn a_version_that_would_rest_goes_at_once() {
        let now = Instant::now();
        let mut probation = Probation::new(config(100, 50), now);
        assert_eq!(probation.called(Went::Badly, now), Finding::Watching);
        assert_eq!(probation.called(Went::BadlyOnceTooOften, now), Finding::Failed { failures: 2, calls: 2 });
    }

    #[test]
    fn what_has_done_well_for_long_enough_is_proven() {
        let now = Instant::now();
        let mut probation = Probation::new(config(100, 0), now);
        assert_eq!(probation.called(Went::Well, now + Duration::from_secs(599)), Finding::Watching);
        assert_eq!(probation.called(Went::BadlyOnceTooOften, now + Duration::from_secs(600)), Finding::Proven);
    }
}
