//! Who may ask: what this gateway knows of keys, how often each may ask, and what becomes of those that it does not
//! know.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arcyou_protocol::{ErrorCode, Failure};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::http::HeaderMap;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use uuid::Uuid;

use super::key::KeyText;
use super::problem::{ApiCode, Problem};
use crate::bounds::addresses::ClientAddress;
use crate::bounds::connections::ConnectionBounds;
use crate::bounds::refused_secrets::Repute;
use crate::store::{ApiKey, Store};

/// For how long the database's answer about a key is believed: a revoked one works no longer than that.
const BELIEVED: Duration = Duration::from_secs(2);
/// Look-ups a second for all addresses together of which a key was refused of late. Others are not held up: who guesses
/// from many addresses pays with each of them, and a good key's first request waits for nobody.
const SUSPECTS_PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(49);
/// Keys that are remembered at once.
const MOST_REMEMBERED: usize = 10_000;

/// Who may ask. Clones share what is known.
#[derive(Clone)]
pub(super) struct Access {
    store: Store,
    bounds: Arc<ConnectionBounds>,
    keys: Arc<Keys>,
}

/// What this gateway knows of keys.
struct Keys {
    known: Mutex<HashMap<Uuid, Known>>,
    suspects: DefaultDirectRateLimiter,
}

#[derive(Clone)]
struct Known {
    key: Arc<ApiKey>,
    at: Instant,
    /// Of its requests.
    limiter: Arc<DefaultDirectRateLimiter>,
}

impl Known {
    fn is_fresh(&self) -> bool {
        self.at.elapsed() < BELIEVED
    }

    /// Whether it is this key, and not only one with the same id.
    fn is(&self, text: &KeyText) -> bool {
        verify_slices_are_equal(&self.key.secret_sha256, &text.sha256()).is_ok()
    }
}

impl Access {
    /// Keys are looked up in this database, within what `bounds` allow to an address.
    pub(super) fn new(store: Store, bounds: Arc<ConnectionBounds>) -> Self {
        let keys =
            Keys { known: Mutex::default(), suspects: RateLimiter::direct(Quota::per_second(SUSPECTS_PER_SECOND)) };
        Self { store, bounds, keys: Arc::new(keys) }
    }

    /// The key that this text is, if it may ask for one more thing now.
    pub(super) async fn key(&self, text: &str, peer: IpAddr, headers: &HeaderMap) -> Result<Arc<ApiKey>, Problem> {
        let text: Option<KeyText> = text.parse().ok();
        let met = text.as_ref().and_then(|text| self.remembered(text.id).filter(|known| known.is(text)));
        let known = match (met, &text) {
            (Some(known), _) if known.is_fresh() => known,
            // A key that was good is no guess, whatever its address does besides.
            (Some(known), Some(text)) => self.look_up(text.id, Some(known)).await?.ok_or_else(unknown)?,
            _ => self.strangers_key(text, self.bounds.client(peer, headers)).await?,
        };
        known.limiter.check().map_err(|until| {
            let wait = until.wait_time_from(DefaultClock::default().now());
            too_fast(format!("this key may ask {} times a second; wait, then ask again", known.key.rate), wait)
        })?;
        Ok(known.key)
    }

    /// A key that this gateway has not met, or that is none. The database is asked only for an address that does not
    /// guess.
    async fn strangers_key(&self, text: Option<KeyText>, address: ClientAddress) -> Result<Known, Problem> {
        let guesses = |wait| too_fast("too many keys of your address were refused; wait, then ask again", wait);
        let repute = self.bounds.admit_key(address).map_err(guesses)?;
        let refused = || {
            self.bounds.key_refused(address);
            unknown()
        };
        let text = text.ok_or_else(refused)?;
        // What is remembered under this id has another secret.
        if self.remembered(text.id).is_some_and(|known| known.is_fresh()) {
            return Err(refused());
        }
        if repute == Repute::Suspect {
            self.keys.suspects.check().map_err(|until| guesses(until.wait_time_from(DefaultClock::default().now())))?;
        }
        let found = self.look_up(text.id, self.remembered(text.id)).await?;
        found.filter(|known| known.is(&text)).ok_or_else(refused)
    }

    fn remembered(&self, id: Uuid) -> Option<Known> {
        self.keys.known.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Asks the database. What was known `before` and is not any more is forgotten.
    async fn look_up(&self, id: Uuid, before: Option<Known>) -> Result<Option<Known>, Problem> {
        let found = self.store.api_key(id).await?;
        let mut known = self.keys.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(key) = found.map(Arc::new) else {
            known.remove(&id);
            return Ok(None);
        };
        // A key keeps its allowance for as long as its rate is the same.
        let limiter = before
            .filter(|before| before.key.rate == key.rate)
            .map_or_else(|| Arc::new(RateLimiter::direct(Quota::per_second(rate(key.rate)))), |before| before.limiter);
        if known.len() >= MOST_REMEMBERED {
            known.clear();
        }
        let found = Known { key, at: Instant::now(), limiter };
        known.insert(id, found.clone());
        Ok(Some(found))
    }
}

fn unknown() -> Problem {
    Problem::new(ApiCode::InvalidApiKey, "this key is not known, or was revoked")
}

fn rate(rate: i32) -> NonZeroU32 {
    NonZeroU32::new(rate.unsigned_abs()).unwrap_or(NonZeroU32::MIN)
}

fn too_fast(text: impl Into<String>, wait: Duration) -> Problem {
    let mut failure = Failure::new(ErrorCode::RateLimited, text);
    failure.retry_after_ms = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1));
    failure.into()
}
