//! What one user may do and cost over all sockets of this gateway.
//!
//! A socket that has authenticated holds a [`Place`], and with it the user's [`UserBounds`], so that a frame costs no
//! look-up. The bounds outlive the last socket until the allowances are full again: a reconnect does not renew them.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use uuid::Uuid;

/// Users without a socket whose allowances are not full yet. At more, the one that is nearest to it is forgotten: who
/// has so many accounts can do as much with one socket each.
const MAX_REMEMBERED: usize = 100_000;
/// Between looks for users whom nothing is left to remember of.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// Bytes are counted in pieces of this size: finer than this, a limiter of many bytes a second would not be exact. A
/// page costs one piece at least, since no read is free.
const PIECE: usize = 1024;
/// So many seconds' worth of bytes may be read at once.
const READ_BURST_SECONDS: u32 = 8;

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// What is added in a second.
    pub per_second: NonZeroU32,
    /// What it holds.
    pub burst: NonZeroU32,
}

impl Rate {
    /// Bytes of stored messages that may be read, in the pieces in which they are counted; none: unlimited.
    pub fn of_reads(bytes_per_second: u32) -> Option<Self> {
        let per_second = NonZeroU32::new(bytes_per_second.div_ceil(PIECE as u32))?;
        Some(Self {
            per_second,
            burst: per_second.saturating_mul(NonZeroU32::MIN.saturating_add(READ_BURST_SECONDS - 1)),
        })
    }

    /// A bucket of this kind, full, by the clock of this process.
    pub fn limiter(self) -> Limiter {
        self.limiter_by(&DefaultClock::default())
    }

    fn limiter_by<C: Clock + Clone>(self, clock: &C) -> Limiter<C> {
        RateLimiter::direct_with_clock(Quota::per_second(self.per_second).allow_burst(self.burst), clock.clone())
    }

    /// After so long it is full, however empty it was.
    fn refill(self) -> Duration {
        self.refill_of(self.burst.get())
    }

    fn refill_of(self, cells: u32) -> Duration {
        Duration::from_secs(1).mul_f64(f64::from(cells) / f64::from(self.per_second.get()))
    }
}

/// A token bucket in use.
pub type Limiter<C = DefaultClock> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// Takes so many cells, never more than the bucket holds when it is full. An error is how long to wait for them.
pub fn take<C: Clock>(limiter: &Limiter<C>, cells: NonZeroU32, now: C::Instant) -> Result<(), Duration> {
    // More than it ever holds would never be given.
    limiter.check_n(cells).unwrap_or(Ok(())).map_err(|not_until| not_until.wait_time_from(now))
}

/// What every user may do and cost.
#[derive(Debug, Clone, Copy)]
pub struct UserLimits {
    /// Sockets at once.
    pub max_sockets: usize,
    /// Frames; none: unlimited.
    pub frames: Option<Rate>,
    /// Bytes of stored messages that are read, as [`Rate::of_reads`]; none: unlimited.
    pub reads: Option<Rate>,
}

/// The user has as many sockets as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManySockets {
    /// [`UserLimits::max_sockets`].
    pub limit: usize,
}

/// All users of this gateway who have a socket, or whose allowances are not full.
#[derive(Debug)]
pub struct Users<C: Clock = DefaultClock> {
    limits: UserLimits,
    clock: C,
    meter: Arc<Meter>,
    state: Mutex<State<C>>,
}

#[derive(Debug)]
struct State<C: Clock> {
    users: HashMap<Uuid, Entry<C>>,
    /// Those without a socket, by the time at which their allowances are full.
    absent: BTreeSet<(C::Instant, Uuid)>,
}

#[derive(Debug)]
struct Entry<C: Clock> {
    bounds: Arc<UserBounds<C>>,
    sockets: usize,
    /// Where it is in `absent`, if it is.
    full_at: Option<C::Instant>,
}

impl Users {
    /// Nobody yet.
    pub fn new(limits: UserLimits) -> Self {
        Self::with_clock(limits, DefaultClock::default())
    }

    /// Forgets, now and then, whom nothing is left to remember of.
    pub async fn keep_sweeping(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            self.sweep();
        }
    }
}

impl<C: Clock + Clone> Users<C> {
    /// Nobody yet; time is what `clock` says.
    pub fn with_clock(limits: UserLimits, clock: C) -> Self {
        let state = Mutex::new(State { users: HashMap::new(), absent: BTreeSet::new() });
        Self { limits, clock, meter: Arc::new(Meter::new()), state }
    }

    /// A place for one more socket of the user.
    pub fn enter(self: &Arc<Self>, user: Uuid) -> Result<Place<C>, TooManySockets> {
        let mut state = self.lock();
        let State { users, absent } = &mut *state;
        let entry = users.entry(user).or_insert_with(|| Entry {
            bounds: Arc::new(UserBounds::new(self.limits, &self.clock, self.meter.clone())),
            sockets: 0,
            full_at: None,
        });
        if entry.sockets >= self.limits.max_sockets {
            self.meter.refused_sockets.increment(1);
            return Err(TooManySockets { limit: self.limits.max_sockets });
        }
        if let Some(full_at) = entry.full_at.take() {
            absent.remove(&(full_at, user));
        }
        entry.sockets += 1;
        let bounds = entry.bounds.clone();
        self.meter.users.set(users.len() as f64);
        Ok(Place { users: self.clone(), user, bounds })
    }

    /// Forgets the users whose allowances are full and who have no socket.
    pub fn sweep(&self) {
        let now = self.clock.now();
        let mut state = self.lock();
        while let Some((_, user)) = state.absent.first().copied().filter(|(full_at, _)| *full_at <= now) {
            state.forget_first_absent(user);
        }
        self.meter.users.set(state.users.len() as f64);
    }

    fn leave(&self, user: Uuid) {
        let mut state = self.lock();
        let State { users, absent } = &mut *state;
        let Some(entry) = users.get_mut(&user) else { return };
        entry.sockets -= 1;
        if entry.sockets > 0 {
            return;
        }
        let full_at = self.clock.now() + entry.bounds.refill().into();
        entry.full_at = Some(full_at);
        absent.insert((full_at, user));
        if absent.len() > MAX_REMEMBERED
            && let Some((_, nearest)) = absent.first().copied()
        {
            state.forget_first_absent(nearest);
            self.meter.forgotten.increment(1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Clock> State<C> {
    fn forget_first_absent(&mut self, user: Uuid) {
        self.absent.pop_first();
        self.users.remove(&user);
    }
}

/// A socket's place among those of its user. Dropping it gives the place back.
#[derive(Debug)]
#[must_use = "dropping it gives the place back"]
pub struct Place<C: Clock + Clone = DefaultClock> {
    users: Arc<Users<C>>,
    user: Uuid,
    bounds: Arc<UserBounds<C>>,
}

impl<C: Clock + Clone> Deref for Place<C> {
    type Target = UserBounds<C>;

    fn deref(&self) -> &UserBounds<C> {
        &self.bounds
    }
}

impl<C: Clock + Clone> Drop for Place<C> {
    fn drop(&mut self) {
        self.users.leave(self.user);
    }
}

/// What one user may still do.
#[derive(Debug)]
pub struct UserBounds<C: Clock = DefaultClock> {
    frames: Option<Limiter<C>>,
    reads: Option<Reads<C>>,
    limits: UserLimits,
    clock: C,
    meter: Arc<Meter>,
}

/// Bytes of stored messages. How many a page has is known when it was read: it is owed then, and paid before the next
/// one, whichever of the user's sockets reads that.
#[derive(Debug)]
struct Reads<C: Clock> {
    limiter: Limiter<C>,
    rate: Rate,
    owed: Mutex<u32>,
}

impl<C: Clock + Clone> UserBounds<C> {
    fn new(limits: UserLimits, clock: &C, meter: Arc<Meter>) -> Self {
        let reads = limits.reads.map(|rate| Reads { limiter: rate.limiter_by(clock), rate, owed: Mutex::new(0) });
        Self { frames: limits.frames.map(|rate| rate.limiter_by(clock)), reads, limits, clock: clock.clone(), meter }
    }

    /// Takes so many frames from the allowance, which are never more than its burst. An error is how long to wait.
    pub fn admit_frames(&self, frames: NonZeroU32) -> Result<(), Duration> {
        let Some(limiter) = &self.frames else { return Ok(()) };
        take(limiter, frames, self.clock.now()).inspect_err(|_| self.meter.refused_frames.increment(1))
    }

    /// Whether a request may read stored messages. An error is how long to wait; the request is refused.
    pub fn admit_history(&self) -> Result<(), Duration> {
        self.may_read().inspect_err(|_| self.meter.refused_history.increment(1))
    }

    /// Whether a catch-up may go on with its next page. An error is how long it waits.
    pub fn admit_backfill(&self) -> Result<(), Duration> {
        self.may_read().inspect_err(|_| self.meter.backfill_waits.increment(1))
    }

    /// Notes that a page of so many bytes was read.
    pub fn note_read(&self, bytes: usize) {
        self.meter.bytes_read.increment(bytes as u64);
        let pieces = u32::try_from(bytes.div_ceil(PIECE).max(1)).unwrap_or(u32::MAX);
        if let Some(reads) = &self.reads {
            let mut owed = reads.owed();
            *owed = owed.saturating_add(pieces);
        }
    }

    fn may_read(&self) -> Result<(), Duration> {
        self.reads.as_ref().map_or(Ok(()), |reads| reads.pay(self.clock.now()))
    }

    /// After so long every allowance is full, if none is used.
    fn refill(&self) -> Duration {
        self.limits.frames.map(Rate::refill).max(self.reads.as_ref().map(Reads::refill)).unwrap_or_default()
    }
}

impl<C: Clock> Reads<C> {
    /// Pays what is owed, as far as the allowance goes. An error is how long to wait for the rest.
    fn pay(&self, now: C::Instant) -> Result<(), Duration> {
        let mut owed = self.owed();
        while let Some(part) = NonZeroU32::new(*owed).map(|owed| owed.min(self.rate.burst)) {
            // A part is never more than the bucket holds.
            if let Ok(Err(not_until)) = self.limiter.check_n(part) {
                return Err(not_until.wait_time_from(now));
            }
            *owed -= part.get();
        }
        Ok(())
    }

    fn refill(&self) -> Duration {
        self.rate.refill() + self.rate.refill_of(*self.owed())
    }

    fn owed(&self) -> MutexGuard<'_, u32> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is counted about users. Handles are made once: a frame looks nothing up.
#[derive(Debug)]
struct Meter {
    users: Gauge,
    forgotten: Counter,
    refused_sockets: Counter,
    refused_frames: Counter,
    refused_history: Counter,
    backfill_waits: Counter,
    bytes_read: Counter,
}

impl Meter {
    fn new() -> Self {
        describe_gauge!("arcyou_users", "Users with a socket, or whose allowances are not full again");
        describe_counter!("arcyou_users_forgotten_total", "Users without a socket whose allowances were renewed early");
        describe_counter!("arcyou_refused_users_total", "Requests refused by what a user may do, by bound");
        describe_counter!(
            "arcyou_backfill_waits_total",
            "Times that a catch-up waited for its user's READ_BYTES_PER_SECOND"
        );
        describe_counter!(
            "arcyou_stored_bytes_read_total",
            "Bytes of stored messages that were read for catch-ups and history"
        );
        let refused = |bound| counter!("arcyou_refused_users_total", "bound" => bound);
        Self {
            users: gauge!("arcyou_users"),
            forgotten: counter!("arcyou_users_forgotten_total"),
            refused_sockets: refused("sockets"),
            refused_frames: refused("frames"),
            refused_history: refused("read_bytes"),
            backfill_waits: counter!("arcyou_backfill_waits_total"),
            bytes_read: counter!("arcyou_stored_bytes_read_total"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    const USER: Uuid = Uuid::from_u128(1);
    const KIB: usize = 1024;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate { per_second: NonZeroU32::new(per_second).unwrap(), burst: NonZeroU32::new(burst).unwrap() }
    }

    fn users(limits: UserLimits) -> (Arc<Users<FakeRelativeClock>>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Arc::new(Users::with_clock(limits, clock.clone())), clock)
    }

    /// How many are remembered, and how many of them have no socket.
    fn remembered(users: &Users<FakeRelativeClock>) -> (usize, usize) {
        let state = users.lock();
        (state.users.len(), state.absent.len())
    }

    fn admitted(place: &Place<FakeRelativeClock>) -> usize {
        std::iter::repeat_with(|| place.admit_frames(NonZeroU32::MIN)).take_while(Result::is_ok).count()
    }

    #[test]
    fn sockets_of_one_user_share_frames_and_a_reconnect_does_not_renew_them() {
        let (users, clock) = users(UserLimits { max_sockets: 9, frames: Some(rate(10, 20)), reads: None });
        let (first, second) = (users.enter(USER).unwrap(), users.enter(USER).unwrap());
        let other = users.enter(Uuid::from_u128(2)).unwrap();
        assert_eq!((admitted(&first), admitted(&second), admitted(&other)), (20, 0, 20));
        assert_eq!(second.admit_frames(NonZeroU32::MIN), Err(Duration::from_millis(100)));
        drop((first, second));
        users.sweep();
        assert_eq!(admitted(&users.enter(USER).unwrap()), 0);
        clock.advance(Duration::from_secs(1));
        users.sweep();
        assert_eq!(admitted(&users.enter(USER).unwrap()), 10);
    }

    #[test]
    fn a_user_is_forgotten_when_nothing_is_left_to_remember() {
        let (users, clock) =
            users(UserLimits { max_sockets: 1, frames: Some(rate(10, 20)), reads: Rate::of_reads(1024) });
        let place = users.enter(USER).unwrap();
        clock.advance(Duration::from_secs(3600));
        users.sweep();
        place.note_read(100 * KIB);
        drop(place);
        // 100 seconds for what is owed, and 8 for the burst.
        clock.advance(Duration::from_secs(107));
        users.sweep();
        assert_eq!(remembered(&users), (1, 1));
        let back = users.enter(USER).unwrap();
        assert_eq!(remembered(&users), (1, 0));
        drop(back);
        clock.advance(Duration::from_secs(108));
        users.sweep();
        assert_eq!(remembered(&users), (0, 0));
    }

    #[test]
    fn a_user_has_so_many_sockets_and_no_more() {
        let (users, _) = users(UserLimits { max_sockets: 2, frames: None, reads: None });
        let (first, second) = (users.enter(USER).unwrap(), users.enter(USER).unwrap());
        assert_eq!(users.enter(USER).unwrap_err(), TooManySockets { limit: 2 });
        assert!(users.enter(Uuid::from_u128(2)).is_ok());
        drop(first);
        assert!(users.enter(USER).is_ok());
        drop(second);
    }

    #[test]
    fn what_was_read_is_paid_before_more_is_read() {
        let (users, clock) = users(UserLimits { max_sockets: 2, frames: None, reads: Rate::of_reads(64 * 1024) });
        let (first, second) = (users.enter(USER).unwrap(), users.enter(USER).unwrap());
        // The burst, and one page on credit.
        for _ in 0..8 {
            assert_eq!(first.admit_history(), Ok(()));
            first.note_read(64 * KIB);
        }
        assert_eq!(second.admit_backfill(), Ok(()));
        second.note_read(32 * KIB);
        assert_eq!(first.admit_history(), Err(Duration::from_millis(500)));
        clock.advance(Duration::from_millis(499));
        assert!(second.admit_backfill().is_err());
        clock.advance(Duration::from_millis(1));
        assert_eq!(second.admit_backfill(), Ok(()));
    }

    #[test]
    fn a_page_larger_than_the_burst_is_paid_in_parts() {
        let (users, clock) = users(UserLimits { max_sockets: 2, frames: None, reads: Rate::of_reads(1024) });
        let place = users.enter(USER).unwrap();
        place.note_read(20 * KIB);
        let mut waited = Duration::ZERO;
        while let Err(wait) = place.admit_backfill() {
            waited += wait;
            clock.advance(wait);
        }
        assert_eq!(waited, Duration::from_secs(12), "8 are there, 12 are waited for");
    }

    #[test]
    fn who_is_remembered_is_bounded() {
        let (users, _) = users(UserLimits { max_sockets: 1, frames: Some(rate(1, 1)), reads: None });
        for user in 0..MAX_REMEMBERED as u128 + 10 {
            drop(users.enter(Uuid::from_u128(user)).unwrap());
        }
        assert_eq!(remembered(&users), (MAX_REMEMBERED, MAX_REMEMBERED));
    }
}
