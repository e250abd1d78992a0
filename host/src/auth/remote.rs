//! An issuer's keys by their address. One task fetches them: now and then, and when a token comes whose key is not
//! known. Tokens only ask it to, and wait for a moment; so however many tokens come, and whatever they claim, the
//! issuer is asked no more often than [`RemoteKeys::keep_fresh`] says, and nobody whose key is known waits.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use arcyou_platform::backoff::{Backoff, jitter};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use metrics::{counter, describe_counter};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::algorithm::Algorithms;
use super::fetch::{Fetcher, JwksUrl};
use super::jwks::JwkKeys;

/// Between two requests that tokens cause …
const ASKED_EVERY: Duration = Duration::from_secs(10);
/// … but for so many at once: a rotation that comes soon after another one is served too.
const ASKED_AT_ONCE: NonZeroU32 = NonZeroU32::MIN.saturating_add(2);
/// After a failure, while the keys of before are in force …
const RETRY: Backoff = Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(30) };
/// … and while there are none, so that nobody gets in.
const RETRY_WITHOUT_KEYS: Backoff = Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(5) };
/// Each sleep is shortened by up to this part, so that gateways that started together do not ask together.
const SPREAD: f64 = 0.1;

/// The keys at one address.
pub struct RemoteKeys {
    url: JwksUrl,
    algorithms: Algorithms,
    refresh_every: Duration,
    keys: ArcSwapOption<JwkKeys>,
    attempts: watch::Sender<Attempts>,
    asked: DefaultDirectRateLimiter,
    /// Why the last attempt failed, if it did.
    failure: Mutex<Option<String>>,
}

/// Requests, numbered.
#[derive(Debug, Default, Clone, Copy)]
struct Attempts {
    begun: u64,
    done: u64,
    /// Whether somebody waits for one that has not begun.
    wanted: bool,
}

/// What waiting for keys came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaited {
    /// A request that began after this call is over: what is not there now is not to be had.
    Fresh,
    /// One that had begun before is over: it may have been too early. Or one was over before this call.
    Earlier,
    /// No keys came in time, or none may be asked for yet; after this time there may be others.
    NotYet(Duration),
}

impl RemoteKeys {
    /// Keys that are not there yet: [`RemoteKeys::keep_fresh`] fetches them.
    pub fn new(url: JwksUrl, algorithms: Algorithms, refresh_every: Duration) -> Self {
        let quota = Quota::with_period(ASKED_EVERY).unwrap_or(Quota::per_second(NonZeroU32::MIN));
        Self {
            url,
            algorithms,
            refresh_every,
            keys: ArcSwapOption::empty(),
            attempts: watch::Sender::default(),
            asked: RateLimiter::direct(quota.allow_burst(ASKED_AT_ONCE)),
            failure: Mutex::default(),
        }
    }

    /// Their address.
    pub fn url(&self) -> &JwksUrl {
        &self.url
    }

    /// Whether they were ever fetched.
    pub fn are_known(&self) -> bool {
        self.keys.load().is_some()
    }

    /// Why the newest attempt to fetch them failed, if it did.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn current(&self) -> Option<Arc<JwkKeys>> {
        self.keys.load_full()
    }

    /// Has them fetched at once, because an operator says so.
    pub fn fetch_now(&self) {
        self.attempts.send_modify(|attempts| attempts.wanted = true);
    }

    /// How many attempts are over; to be read before the keys.
    pub(super) fn attempts_done(&self) -> u64 {
        self.attempts.borrow().done
    }

    /// Waits for keys that may be newer than those after `seen` attempts, until then at most. One request is enough for
    /// all that wait.
    pub(super) async fn newer(&self, seen: u64, until: Instant) -> Awaited {
        let mut attempts = self.attempts.subscribe();
        let (mut target, mut awaited) = (0, Awaited::Fresh);
        self.attempts.send_if_modified(|now| {
            let is_new = now.begun == now.done && !now.wanted;
            if now.done > seen {
                (target, awaited) = (now.done, Awaited::Earlier);
                return false;
            }
            if now.begun > now.done {
                (target, awaited) = (now.begun, Awaited::Earlier);
            } else {
                target = now.begun + 1;
                if is_new {
                    match self.asked.check() {
                        Ok(()) => now.wanted = true,
                        Err(not_until) => {
                            awaited = Awaited::NotYet(not_until.wait_time_from(DefaultClock::default().now()));
                        }
                    }
                }
            }
            is_new && now.wanted
        });
        if let Awaited::NotYet(_) = awaited {
            return awaited;
        }
        match timeout_at(until, attempts.wait_for(|now| now.done >= target)).await {
            Ok(Ok(_)) if awaited == Awaited::Fresh && self.failure().is_some() => Awaited::NotYet(ASKED_EVERY),
            Ok(Ok(_)) => awaited,
            _ => Awaited::NotYet(ASKED_EVERY),
        }
    }

    /// Fetches the keys: at once, then every `refresh_every`, after a failure sooner, and when somebody waits. Tells
    /// `tell` after each attempt. Never ends.
    pub async fn keep_fresh(&self, tell: impl Fn()) {
        let mut wanted = self.attempts.subscribe();
        let mut failures = 0;
        loop {
            self.attempts.send_modify(|attempts| {
                attempts.begun += 1;
                attempts.wanted = false;
            });
            match self.fetch().await {
                Ok(()) => failures = 0,
                Err(reason) => {
                    failures += 1;
                    self.failed(reason);
                }
            }
            tell();
            self.attempts.send_modify(|attempts| attempts.done = attempts.begun);
            let pause = match failures {
                0 => self.refresh_every.mul_f64(1.0 - SPREAD * jitter()),
                _ => {
                    let retry = if self.are_known() { RETRY } else { RETRY_WITHOUT_KEYS };
                    retry.jittered(failures, jitter()).min(self.refresh_every)
                }
            };
            // The sender is here, so it cannot be gone.
            let _ = tokio::time::timeout(pause, wanted.wait_for(|attempts| attempts.wanted)).await;
        }
    }

    async fn fetch(&self) -> Result<(), String> {
        let fetcher = Fetcher::new(&self.url).map_err(|error| error.to_string())?;
        let text = fetcher.fetch().await.map_err(|error| error.to_string())?;
        let keys = JwkKeys::parse(&text, &self.algorithms).map_err(|error| error.to_string())?;
        count("fetched");
        let is_new = self.keys.load().as_ref().is_none_or(|before| before.names() != keys.names());
        if is_new {
            let names = keys.names().join(" ");
            tracing::info!(url = %self.url, keys = names, "tokens are verified with these keys of their issuer");
            for reason in &keys.passed_over {
                tracing::warn!(url = %self.url, reason, "a key of the issuer is passed over");
            }
        }
        self.keys.store(Some(Arc::new(keys)));
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    fn failed(&self, reason: String) {
        count("failed");
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }
}

fn count(outcome: &'static str) {
    counter!("arcyou_jwks_fetches_total", "outcome" => outcome).increment(1);
}

/// Begins what is counted here.
pub(crate) fn describe() {
    describe_counter!("arcyou_jwks_fetches_total", "Requests for issuers' keys, by outcome: fetched or failed");
    for outcome in ["fetched", "failed"] {
        counter!("arcyou_jwks_fetches_total", "outcome" => outcome).absolute(0);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
impl RemoteKeys {
    /// The keys of this set, which nobody fetches.
    pub(super) fn holding(set: &serde_json::Value, algorithms: &Algorithms) -> Self {
        let url = JwksUrl::parse("https://issuer.example/jwks", false).unwrap();
        let keys = Self::new(url, algorithms.clone(), Duration::from_secs(300));
        keys.keys.store(Some(Arc::new(JwkKeys::parse(set.to_string().as_bytes(), algorithms).unwrap())));
        keys
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn nowhere() -> Arc<RemoteKeys> {
        // Nobody listens there.
        let url = JwksUrl::parse("http://127.0.0.1:1/jwks", false).unwrap();
        Arc::new(RemoteKeys::new(url, Algorithms::default(), Duration::from_secs(300)))
    }

    #[tokio::test]
    async fn however_many_ask_only_a_few_requests_are_made() {
        let keys = nowhere();
        let soon = || Instant::now() + Duration::from_secs(30);
        let task = tokio::spawn({
            let keys = keys.clone();
            async move { keys.keep_fresh(|| {}).await }
        });
        let mut not_yet = 0;
        for _ in 0..200 {
            let awaited =
                futures_util::future::join_all((0..5).map(|_| keys.newer(keys.attempts_done(), soon()))).await;
            not_yet += awaited.iter().filter(|awaited| matches!(awaited, Awaited::NotYet(_))).count();
        }
        let begun = keys.attempts.borrow().begun;
        task.abort();
        // The first one, those that were asked for, and what time has brought.
        assert!((2..=8).contains(&begun) && not_yet > 900, "{begun} requests, {not_yet} of 1000 told to wait");
        assert!(!keys.are_known() && keys.failure().unwrap().contains("cannot be reached"), "{:?}", keys.failure());
    }

    #[tokio::test]
    async fn whoever_waits_for_an_issuer_that_is_silent_does_not_wait_long() {
        let keys = nowhere();
        // Nobody fetches.
        let until = Instant::now() + Duration::from_millis(20);
        assert!(matches!(keys.newer(0, until).await, Awaited::NotYet(_)));
        assert!(keys.attempts.borrow().wanted);
    }
}
