//! Delays between attempts. Pure, except for [`jitter`]: randomness is an argument.

use std::time::Duration;

/// Doubling delays with a cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The delay after the first failure.
    pub first: Duration,
    /// The longest delay.
    pub cap: Duration,
}

impl Backoff {
    /// The delay after this many failures in a row (1, 2, …), without jitter.
    pub fn delay(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(30);
        self.first.saturating_mul(1 << doublings).min(self.cap)
    }

    /// The delay shortened by up to half, in proportion to `jitter` (0 to 1), so that clients that failed together do
    /// not retry together.
    pub fn jittered(self, failures: u32, jitter: f64) -> Duration {
        self.delay(failures).mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
    }
}

/// A random number between 0 and 1.
pub fn jitter() -> f64 {
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

    proptest! {
        #[test]
        fn jitter_only_shortens_and_at_most_by_half(failures in 0_u32..100, jitter in -1.0_f64..2.0) {
            let (whole, jittered) = (BACKOFF.delay(failures), BACKOFF.jittered(failures, jitter));
            prop_assert!(jittered <= whole && jittered >= whole / 2);
        }
    }
}
