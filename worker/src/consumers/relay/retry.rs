//! What happens to a row that failed by its own fault. Pure: randomness is an argument.

use std::time::Duration;

use arcyou_platform::backoff::Backoff;

/// What happens to a row that failed by its own fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetryDecision {
    /// It is tried again after this time.
    RetryAfter(Duration),
    /// It has used up its tries: an operator decides.
    Park,
}

impl RetryDecision {
    /// The decision after `failures` failures of the row, the latest one included. `jitter` is between 0 and 1.
    pub(super) fn after(failures: u32, max_failures: u32, backoff: Backoff, jitter: f64) -> Self {
        if failures >= max_failures { Self::Park } else { Self::RetryAfter(backoff.jittered(failures, jitter)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_try_parks() {
        let backoff = Backoff { first: Duration::from_millis(100), cap: Duration::from_secs(5) };
        let after = |failures| RetryDecision::after(failures, 5, backoff, 0.5);
        assert!(matches!(after(4), RetryDecision::RetryAfter(_)));
        assert_eq!(after(5), RetryDecision::Park);
        assert_eq!(after(9), RetryDecision::Park);
    }
}
