//! How long to wait before trying again. Pure: randomness is an argument.

use std::time::Duration;

/// Doubling delays with a cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Before the second try.
    pub first: Duration,
    /// The longest.
    pub cap: Duration,
}

impl Backoff {
    /// The delay after so many failures (1, 2, …), without jitter.
    pub fn delay(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(30);
        self.first.saturating_mul(1 << doublings).min(self.cap)
    }

    /// The same, shortened by up to half: `luck` between 0 and 1 says by how much. Many that failed together do not
    /// come back together.
    pub fn jittered(self, failures: u32, luck: f64) -> Duration {
        self.delay(failures).mul_f64(1.0 - luck.clamp(0.0, 1.0) / 2.0)
    }
}

/// What happens to a row that failed by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is tried again after this time.
    Later(Duration),
    /// It is out of tries: an operator decides.
    Park,
}

/// The verdict after a row's failures, the one that just happened included.
pub fn verdict(failures: u32, max_failures: u32, backoff: Backoff, luck: f64) -> Verdict {
    if failures >= max_failures { Verdict::Park } else { Verdict::Later(backoff.jittered(failures, luck)) }
}

/// A number between 0 and 1 that differs at each call.
pub(crate) fn luck() -> f64 {
    let bits = uuid::Uuid::new_v4().as_u128() as u32;
    f64::from(bits) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), cap: Duration::from_secs(5) };

    #[test]
    fn delays_double_up_to_the_cap() {
        let delays: Vec<u128> = (1..=8).map(|failures| BACKOFF.delay(failures).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert_eq!(BACKOFF.delay(u32::MAX), BACKOFF.cap);
    }

    #[test]
    fn the_last_try_parks() {
        assert!(matches!(verdict(4, 5, BACKOFF, 0.5), Verdict::Later(_)));
        assert_eq!(verdict(5, 5, BACKOFF, 0.5), Verdict::Park);
        assert_eq!(verdict(9, 5, BACKOFF, 0.5), Verdict::Park);
    }

    proptest! {
        #[test]
        fn jitter_only_shortens_and_at_most_by_half(failures in 0_u32..100, luck in -1.0_f64..2.0) {
            let (whole, jittered) = (BACKOFF.delay(failures), BACKOFF.jittered(failures, luck));
            prop_assert!(jittered <= whole && jittered >= whole / 2);
        }
    }
}
