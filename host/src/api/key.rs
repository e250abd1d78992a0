//! Keys of services: what a request is let do, and how often.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arcyou_protocol::{ErrorCode, Failure};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::{FromRef, FromRequestParts};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use clap::ValueEnum;
use clap::builder::PossibleValue;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use uuid::{Uuid, uuid};

use super::kept_connection::KeptConnection;
use super::problem::{ApiCode, Problem};
use crate::store::{ApiKey, Store};

/// What begins each key, so that scanners for leaked secrets know it.
const PREFIX: &str = "arcyou_";
const SECRET_BYTES: usize = 32;
/// For how long the database's answer about a key is believed: a revoked one works no longer than that.
const BELIEVED: Duration = Duration::from_secs(2);
/// Look-ups a second of keys that this gateway has not met: guessing is hopeless, and may not cost the database more. While
/// somebody guesses, a good key that is used for the first time may have to ask again.
const UNKNOWN_PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(49);
/// Keys that are remembered at once.
const MOST_REMEMBERED: usize = 10_000;

/// What a key lets a service do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Read messages.
    MessagesRead,
    /// Send, edit, delete and react.
    MessagesWrite,
    /// See conversations and who participates.
    ConversationsRead,
    /// Make and delete conversations, change who participates.
    ConversationsWrite,
    /// End the sessions of users.
    UsersWrite,
    /// See and decide on held messages.
    HeldWrite,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 6] = [
        Self::MessagesRead,
        Self::MessagesWrite,
        Self::ConversationsRead,
        Self::ConversationsWrite,
        Self::UsersWrite,
        Self::HeldWrite,
    ];

    /// As keys and commands write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MessagesRead => "messages:read",
            Self::MessagesWrite => "messages:write",
            Self::ConversationsRead => "conversations:read",
            Self::ConversationsWrite => "conversations:write",
            Self::UsersWrite => "users:write",
            Self::HeldWrite => "held:write",
        }
    }
}

impl ValueEnum for Scope {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()))
    }
}

/// A key's text: its id, which is no secret, and its secret.
pub struct KeyText {
    pub id: Uuid,
    secret: [u8; SECRET_BYTES],
}

/// A text that is no key.
#[derive(Debug, PartialEq, Eq)]
pub struct NoKey;

impl KeyText {
    /// The key of the private database of `arcyou-gateway dev`, the same for everybody.
    pub const DEVELOPMENT: Self =
        Self { id: uuid!("de7e1000-0000-4000-8000-000000000001"), secret: *b"this key is for development only" };

    /// A new one.
    ///
    /// # Errors
    /// Fails if the system has no random numbers.
    pub fn generate() -> anyhow::Result<Self> {
        let mut secret = [0; SECRET_BYTES];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| anyhow::anyhow!("the system gave no random numbers"))?;
        Ok(Self { id: Uuid::new_v4(), secret })
    }

    /// What is stored of it. It has 256 random bits: a plain hash is as good as a slow one.
    pub fn sha256(&self) -> Vec<u8> {
        digest(&SHA256, &self.secret).as_ref().to_vec()
    }
}

impl fmt::Display for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [self.id.as_bytes().as_slice(), &self.secret].concat();
        write!(f, "{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for KeyText {
    type Err = NoKey;

    fn from_str(text: &str) -> Result<Self, NoKey> {
        let bytes = text.strip_prefix(PREFIX).and_then(|text| BASE64_URL_SAFE_NO_PAD.decode(text).ok()).ok_or(NoKey)?;
        let (id, secret) = bytes.split_at_checked(16).ok_or(NoKey)?;
        let id = Uuid::from_slice(id).map_err(|_| NoKey)?;
        Ok(Self { id, secret: secret.try_into().map_err(|_| NoKey)? })
    }
}

/// The service that a request comes from.
pub(super) struct Caller {
    key: Arc<ApiKey>,
}

impl Caller {
    /// Refuses what the key is not for.
    pub(super) fn may(&self, scope: Scope) -> Result<(), Problem> {
        if self.key.scopes.iter().any(|held| held == scope.name()) {
            return Ok(());
        }
        let name = scope.name();
        Err(Problem::new(ApiCode::MissingScope, format!("the key lacks the scope {name}; make another one with it")))
    }

    /// The user that the request acts for: the key's, or the one that it names.
    pub(super) fn sender(&self, named: Option<Uuid>) -> Result<Option<Uuid>, Problem> {
        match (self.key.sender, named) {
            (Some(own), Some(named)) if own != named => {
                let text = format!("the key acts for the user {own} alone; name that one or none");
                Err(Problem::new(ApiCode::OtherSender, text))
            }
            (own, named) => Ok(own.or(named)),
        }
    }

    /// The same where somebody must be named.
    pub(super) fn required_sender(&self, named: Option<Uuid>) -> Result<Uuid, Problem> {
        self.sender(named)?.ok_or_else(|| {
            Problem::new(ApiCode::SenderRequired, "say which user it is from, or use a key that acts for one")
        })
    }

    /// As audit rows name whoever decides.
    pub(super) fn name(&self) -> &str {
        &self.key.name
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller
where
    Access: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let text = header.and_then(|value| value.split_once(' '));
        let text = text.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, text)| text.trim());
        let Some(text) = text else {
            let text = "the request must have the header Authorization: Bearer arcyou_…; `arcyou-gateway key create` makes keys";
            return Err(Problem::new(ApiCode::InvalidApiKey, text));
        };
        let key = Access::from_ref(state).caller(text).await?;
        if let Some(connection) = parts.extensions.get::<KeptConnection>() {
            connection.keep();
        }
        Ok(Self { key })
    }
}

/// Who may ask. Clones share what is known.
#[derive(Clone)]
pub(super) struct Access {
    store: Store,
    keys: Arc<Keys>,
}

/// What this gateway knows of keys.
struct Keys {
    known: Mutex<HashMap<Uuid, Known>>,
    unknown: DefaultDirectRateLimiter,
}

struct Known {
    key: Arc<ApiKey>,
    at: Instant,
    /// Of its requests.
    limiter: Arc<DefaultDirectRateLimiter>,
}

impl Access {
    /// Keys are looked up in this database.
    pub(super) fn new(store: Store) -> Self {
        let keys =
            Keys { known: Mutex::default(), unknown: RateLimiter::direct(Quota::per_second(UNKNOWN_PER_SECOND)) };
        Self { store, keys: Arc::new(keys) }
    }

    /// Whose key this is, if it may ask for one more thing now.
    async fn caller(&self, text: &str) -> Result<Arc<ApiKey>, Problem> {
        let unknown = || Problem::new(ApiCode::InvalidApiKey, "this key is not known, or was revoked");
        let text: KeyText = text.parse().map_err(|NoKey| unknown())?;
        let fresh = self.remembered(text.id, |known| known.at.elapsed() < BELIEVED);
        let (key, limiter) = match fresh {
            Some(found) => found,
            None => self.look_up(text.id).await?.ok_or_else(unknown)?,
        };
        verify_slices_are_equal(&key.secret_sha256, &text.sha256()).map_err(|_| unknown())?;
        match limiter.check() {
            Ok(()) => Ok(key),
            Err(until) => {
                let wait = until.wait_time_from(DefaultClock::default().now());
                Err(too_fast(format!("this key may ask {} times a second; wait, then ask again", key.rate), wait))
            }
        }
    }

    fn remembered(
        &self,
        id: Uuid,
        fits: impl FnOnce(&Known) -> bool,
    ) -> Option<(Arc<ApiKey>, Arc<DefaultDirectRateLimiter>)> {
        let known = self.keys.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&id).filter(|known| fits(known)).map(|known| (known.key.clone(), known.limiter.clone()))
    }

    /// Asks the database. What was known before and is not any more is forgotten.
    async fn look_up(&self, id: Uuid) -> Result<Option<(Arc<ApiKey>, Arc<DefaultDirectRateLimiter>)>, Problem> {
        let before = self.remembered(id, |_| true);
        if before.is_none()
            && let Err(until) = self.keys.unknown.check()
        {
            let wait = until.wait_time_from(DefaultClock::default().now());
            return Err(too_fast("too many unknown keys were tried; wait, then ask again", wait));
        }
        let found = self.store.api_key(id).await?;
        let mut known = self.keys.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(key) = found.map(Arc::new) else {
            known.remove(&id);
            return Ok(None);
        };
        // A key keeps its allowance for as long as its rate is the same.
        let limiter = before
            .filter(|(old, _)| old.rate == key.rate)
            .map_or_else(|| Arc::new(RateLimiter::direct(Quota::per_second(rate(key.rate)))), |(_, limiter)| limiter);
        if known.len() >= MOST_REMEMBERED {
            known.clear();
        }
        known.insert(id, Known { key: key.clone(), at: Instant::now(), limiter: limiter.clone() });
        Ok(Some((key, limiter)))
    }
}

fn rate(rate: i32) -> NonZeroU32 {
    NonZeroU32::new(rate.unsigned_abs()).unwrap_or(NonZeroU32::MIN)
}

fn too_fast(text: impl Into<String>, wait: Duration) -> Problem {
    let mut failure = Failure::new(ErrorCode::RateLimited, text);
    failure.retry_after_ms = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1));
    failure.into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let key = KeyText::generate().unwrap();
        let text = key.to_string();
        let read: KeyText = text.parse().unwrap();
        assert_eq!((read.id, read.sha256(), read.to_string()), (key.id, key.sha256(), text.clone()));
        for wrong in ["", "arcyou_", &text[1..], &text[..text.len() - 2], &format!("{text}AA"), "arcyou_!"] {
            assert!(wrong.parse::<KeyText>().is_err(), "{wrong}");
        }
    }
}
