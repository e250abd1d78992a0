//! How often an address may send tokens, or keys of services, that are refused: checking one costs time that everybody
//! shares, and an address that sends hundreds is guessing, or broken.

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

/// The addresses whose secrets were refused of late.
pub struct RefusedSecrets<C: Clock = DefaultClock> {
    limiter: Limiter<C>,
    /// The time in which one more may be refused.
    interval: Duration,
    known: Mutex<Known<C::Instant>>,
}

/// The limiter can be asked only about a secret that was refused. Whether the next one is worth a look stands here.
struct Known<I> {
    suspects: HashMap<ClientAddress, Suspect<I>>,
    since_sweep: u32,
}

/// An address of which a secret was refused.
#[derive(Clone, Copy)]
struct Suspect<I> {
    /// Its secrets are refused unseen until then.
    until: I,
    /// Whether it had as many refused as it may, when one was refused last.
    guesses: bool,
}

/// What is known of an address whose secret may be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repute {
    /// None of its secrets was refused of late.
    Clean,
    /// Some were.
    Suspect,
}

impl RefusedSecrets {
    /// An address may have so many secrets refused in a minute, also all at once.
    pub fn new(per_minute: NonZeroU32) -> Self {
        Self::with_clock(per_minute, DefaultClock::default())
    }
}

impl<C: Clock + Clone> RefusedSecrets<C> {
    /// The same with a clock.
    pub fn with_clock(per_minute: NonZeroU32, clock: C) -> Self {
        let quota = Quota::per_minute(per_minute);
        let limiter = RateLimiter::hashmap_with_clock(quota, clock).with_middleware();
        let known = Mutex::new(Known { suspects: HashMap::new(), since_sweep: 0 });
        Self { limiter, interval: quota.replenish_interval(), known }
    }

    /// How long the secrets of `address` are refused unseen, if they are.
    pub fn wait(&self, address: ClientAddress) -> Option<Duration> {
        // After the lock: what another thread notes meanwhile is no time of the future.
        let until = self.lock().suspects.get(&address)?.until;
        let now = self.limiter.clock().now();
        (until > now).then(|| until.duration_since(now).into())
    }

    /// Lets a secret of `address` be looked at. An error is how long to wait. Of those that an address which guesses
    /// sends at once when its wait is over, one is looked at.
    pub fn admit(&self, address: ClientAddress) -> Result<Repute, Duration> {
        let mut known = self.lock();
        let now = self.limiter.clock().now();
        let Some(suspect) = known.suspects.get_mut(&address) else { return Ok(Repute::Clean) };
        if suspect.until > now {
            return Err(suspect.until.duration_since(now).into());
        }
        if suspect.guesses {
            suspect.until = now + self.interval.into();
        }
        Ok(Repute::Suspect)
    }

    /// A secret of `address` was refused.
    pub fn refused(&self, address: ClientAddress) {
        let now = self.limiter.clock().now();
        let wait = match self.limiter.check_key(&address) {
            Ok(state) if state.remaining_burst_capacity() > 0 => None,
            Ok(_) => Some(self.interval),
            Err(not_until) => Some(not_until.wait_time_from(now)),
        };
        let mut known = self.lock();
        let suspect = Suspect { until: now + wait.unwrap_or_default().into(), guesses: wait.is_some() };
        known.suspects.insert(address, suspect);
        known.since_sweep += 1;
        if known.since_sweep >= SWEEP_EVERY {
            known.since_sweep = 0;
            known.suspects.retain(|_, suspect| suspect.until > now);
            self.limiter.retain_recent();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known<C::Instant>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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
        let tokens = RefusedSecrets::with_clock(NonZeroU32::new(60).unwrap(), clock.clone());
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
    fn one_of_many_that_come_at_once_is_looked_at_after_a_wait() {
        let clock = FakeRelativeClock::default();
        let keys = RefusedSecrets::with_clock(NonZeroU32::new(60).unwrap(), clock.clone());
        assert_eq!(keys.admit(address(1)), Ok(Repute::Clean));
        keys.refused(address(1));
        assert_eq!([keys.admit(address(1)), keys.admit(address(1))], [Ok(Repute::Suspect); 2]);
        (1..60).for_each(|_| keys.refused(address(1)));
        let wait = Err(Duration::from_secs(1));
        assert_eq!((keys.admit(address(1)), keys.admit(address(2))), (wait, Ok(Repute::Clean)));
        clock.advance(Duration::from_secs(1));
        assert_eq!([keys.admit(address(1)), keys.admit(address(1))], [Ok(Repute::Suspect), wait]);
    }

    #[test]
    fn addresses_are_forgotten_in_time() {
        let clock = FakeRelativeClock::default();
        let tokens = RefusedSecrets::with_clock(NonZeroU32::MIN, clock.clone());
        (0..=255).for_each(|last| tokens.refused(address(last)));
        clock.advance(Duration::from_secs(3600));
        (0..SWEEP_EVERY).for_each(|_| tokens.refused(address(1)));
        assert_eq!((tokens.limiter.len(), tokens.lock().suspects.len()), (1, 1));
    }
}
