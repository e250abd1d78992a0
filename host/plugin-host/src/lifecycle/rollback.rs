//! The rules for rolling back a new version of a plugin. Pure; the time is an argument.

use std::time::{Duration, Instant};

use crate::chain::observer::CallResult;
use crate::manifest::RollbackConfig;

/// The state of a new version after a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProbationStatus {
    OnProbation,
    /// The version was good for the whole probation.
    Proven,
    /// The version must be rolled back.
    Failed {
        /// Failed calls.
        failures: u32,
        /// All calls that were counted.
        calls: u32,
    },
}

/// The probation of a new version.
#[derive(Debug, Clone)]
pub(crate) struct Probation {
    config: RollbackConfig,
    until: Instant,
    calls: u32,
    failures: u32,
}

impl Probation {
    pub(crate) fn new(config: RollbackConfig, now: Instant) -> Self {
        let until = now + Duration::from_secs(config.window_s.get().into());
        Self { config, until, calls: 0, failures: 0 }
    }

    /// Whether the probation has ended.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now >= self.until
    }

    /// Records a call, and returns the new state. A version whose breaker opens is as bad as one that fails too often.
    pub(crate) fn record(&mut self, result: CallResult, now: Instant) -> ProbationStatus {
        if self.is_over(now) {
            return ProbationStatus::Proven;
        }
        if result == CallResult::FailedAgain {
            return ProbationStatus::OnProbation;
        }
        self.calls += 1;
        self.failures += u32::from(result != CallResult::Answered);
        if result == CallResult::FailedAndOpened || u64::from(self.failures) > self.config.allowed_failures() {
            return ProbationStatus::Failed { failures: self.failures, calls: self.calls };
        }
        if self.calls >= self.config.calls.get() {
            (self.calls, self.failures) = (0, 0);
        }
        ProbationStatus::OnProbation
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bounded::Bounded;

    fn config(calls: u32, failures_percent: u32) -> RollbackConfig {
        RollbackConfig {
            calls: Bounded::new(calls),
            failures_percent: Bounded::new(failures_percent),
            ..RollbackConfig::default()
        }
    }

    proptest! {
        /// The version fails exactly at the first call with one failure too many among the calls that are counted
        /// together.
        #[test]
        fn a_version_fails_exactly_when_it_has_one_failure_too_many(
            calls in 1_u32..30, percent in 0_u32..=100, outcomes in prop::collection::vec(any::<bool>(), 0..200)
        ) {
            let now = Instant::now();
            let mut probation = Probation::new(config(calls, percent), now);
            let allowed = (calls * percent / 100) as usize;
            for block in outcomes.chunks(calls as usize) {
                for (at, well) in block.iter().enumerate() {
                    let failures = block[..=at].iter().filter(|well| !**well).count();
                    let status = probation.record(if *well { CallResult::Answered } else { CallResult::Failed }, now);
                    if failures > allowed {
                        let (failures, calls) = (failures as u32, at as u32 + 1);
                        prop_assert_eq!(status, ProbationStatus::Failed { failures, calls });
                        return Ok(());
                    }
                    prop_assert_eq!(status, ProbationStatus::OnProbation);
                }
            }
        }
    }

    #[test]
    fn a_version_whose_breaker_opens_fails_at_once() {
        let now = Instant::now();
        let mut probation = Probation::new(config(100, 50), now);
        assert_eq!(probation.record(CallResult::Failed, now), ProbationStatus::OnProbation);
        assert_eq!(
            probation.record(CallResult::FailedAndOpened, now),
            ProbationStatus::Failed { failures: 2, calls: 2 }
        );
    }

    #[test]
    fn one_senders_failures_are_no_reason() {
        let now = Instant::now();
        let mut probation = Probation::new(config(10, 0), now);
        for _ in 0..20 {
            assert_eq!(probation.record(CallResult::FailedAgain, now), ProbationStatus::OnProbation);
        }
    }

    #[test]
    fn a_version_is_proven_when_its_probation_ends() {
        let now = Instant::now();
        let mut probation = Probation::new(config(100, 0), now);
        assert_eq!(
            probation.record(CallResult::Answered, now + Duration::from_secs(599)),
            ProbationStatus::OnProbation
        );
        assert_eq!(
            probation.record(CallResult::FailedAndOpened, now + Duration::from_secs(600)),
            ProbationStatus::Proven
        );
    }
}
