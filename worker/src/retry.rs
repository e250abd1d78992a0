//! What happens to a row that failed by itself. Pure: randomness is an argument.

use std::time::Duration;

use arcyou_platform::backoff::Backoff;

/// What happens to a row that failed by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is tried again after this time.
    Later(Duration),
    /// It is out of tries: an operator decides.
    Park,
}

/// The verdict after a row's failures, the one that just happened included.
pub(crate) fn verdict(failures: u32, max_failures: u32, backoff: Backoff, jitter: f64) -> Verdict {
    if failures >= max_failures { Verdict::Park } else { Verdict::Later(backoff.jittered(failures, jitter)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_try_parks() {
        let backoff = Backoff { first: Duration::from_millis(100), cap: Duration::from_secs(5) };
        assert!(matches!(verdict(4, 5, backoff, 0.5), Verdict::Later(_)));
        assert_eq!(verdict(5, 5, backoff, 0.5), Verdict::Park);
        assert_eq!(verdict(9, 5, backoff, 0.5), Verdict::Park);
    }
}
