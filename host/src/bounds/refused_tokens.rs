//! How often an address may send tokens that are refused: checking one costs time that everybody shares, and an address
//! that sends hundreds is guessing, or broken.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock, Reference as _};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use super::addresses::ClientAddress;

/// After so many refusals the addresses that had none for a while are forgotten.
const SWEEP_EVERY: u32 = 1024;

type Limiter<C> = RateLimiter<ClientAddress, HashMapStateStore<ClientAddress>, C, StateInformationMiddleware>;

/// The addresses whose tokens were refused of late.
pub struct RefusedTokens<C: Clock = DefaultClock> {
    limiter: Limiter<C>,
    /// The time in which one more may be refused.
    interval: Duration,
    blocked: Mutex<Blocked<C::Instant>>,
}

/// The limiter can be asked only about a token that was refused. Whether the next one is worth a look stands here.
struct Blocked<I> {
    until: HashMap<ClientAddress, I>,
    since_sweep: u32,
}

impl RefusedTokens {
    /// An address may have so many tokens refused in a minute, also all at once.
    pub fn new(per_minute: NonZeroU32) -> Self {
        Self::with_clock(per_minute, DefaultClock::default())
    }
}

impl<C: Clock + Clone> RefusedTokens<C> {
    /// The same with a clock.
    pub fn with_clock(per_minute: NonZeroU32, clock: C) -> Self {
        let quota = Quota::per_minute(per_minute);
        let limiter = RateLimiter::hashmap_with_clock(quota, clock).with_middleware();
        let blocked = Mutex::new(Blocked { until: HashMap::new(), since_sweep: 0 });
        Self { limiter, interval: quota.replenish_interval(), blocked }
    }

    /// How long the tokens of `address` are refused unseen, if they are.
    pub fn wait(&self, address: ClientAddress) -> Option<Duration> {
        let now = self.limiter.clock().now();
        let until = *self.lock().until.get(&address)?;
        (until > now).then(|| until.duration_since(now).into())
    }

    /// A token of `address` was refused.
    pub fn refused(&self, address: ClientAddress) {
        let now = self.limiter.clock().now();
        let wait = match self.limiter.check_key(&address) {
            Ok(state) if state.remaining_burst_capacity() > 0 => None,
            Ok(_) => Some(self.interval),
            Err(not_until) => Some(not_until.wait_time_from(now)),
        };
        let mut blocked = self.lock();
        if let Some(wait) = wait {
            blocked.until.insert(address, now + wait.into());
        }
        blocked.since_sweep += 1;
        if blocked.since_sweep >= SWEEP_EVERY {
            blocked.since_sweep = 0;
            blocked.until.retain(|_, until| *until > now);
            self.limiter.retain_recent();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Blocked<C::Instant>> {
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::IpAddr;

    use governor::clock::FakeRelativeClock;

    use super::*;

    fn address(last: u8) -> ClientAddress {
        IpAddr::from([192, 0, 2, last]).into()
    }

    #[test]
    fn an_address_with_too_many_refused_tokens_waits_and_no_other_does() {
        let clock = FakeRelativeClock::default();
        let tokens = RefusedTokens::with_clock(NonZeroU32::new(60).unwrap(), clock.clone());
        for _ in 0..60 {
            assert_eq!(tokens.wait(address(1)), None);
            tokens.refused(address(1));
        }
        assert_eq!((tokens.wait(address(1)), tokens.wait(address(2))), (Some(Duration::from_secs(1)), None));
        clock.advance(Duration::from_secs(1));
        assert_eq!(tokens.wait(address(1)), None);
        // One in a second, and no more.
        tokens.refused(address(1));
        assert_eq!(tokens.wait(address(1)), Some(Duration::from_secs(1)));
    }

    #[test]
    fn addresses_are_forgotten_in_time() {
        let clock = FakeRelativeClock::default();
        let tokens = RefusedTokens::with_clock(NonZeroU32::MIN, clock.clone());
        (0..=255).for_each(|last| tokens.refused(address(last)));
        clock.advance(Duration::from_secs(3600));
        (0..SWEEP_EVERY).for_each(|_| tokens.refused(address(1)));
        assert_eq!((tokens.limiter.len(), tokens.lock().until.len()), (1, 1));
    }
}
