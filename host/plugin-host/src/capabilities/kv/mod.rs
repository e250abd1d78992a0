//! `kv`: what a plugin remembers beyond an instance.

mod memory;
mod redis;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use self::memory::MemoryKv;
pub use self::redis::RedisKv;
use super::waited::Waited;
use crate::bindings::host::kv::{Error, Host};
use crate::bounded::Within;

/// What is forgotten at the latest.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Where plugins' values are. Every call is atomic, and answers soon: a store that is away says so instead of waiting
/// for it.
#[async_trait]
pub trait KvStore: Send + Sync {
    /// The value of a key that is set and has not expired.
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KvError>;

    /// Sets a key for a while.
    async fn set(&self, key: &str, value: &[u8], ttl: Duration) -> Result<(), KvError>;

    /// Forgets a key; whether there was one.
    async fn delete(&self, key: &str) -> Result<bool, KvError>;

    /// Adds to a number. One that is not there is zero and gets this time to live; one that is there keeps its own.
    async fn increment(&self, key: &str, by: i64, ttl: Duration) -> Result<i64, KvError>;
}

/// Why a [`KvStore`] did nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// It cannot be reached, or has no room; the text is for the operator.
    #[error("the plugins' values cannot be reached: {0}")]
    Unavailable(String),
    /// The value is no number, or the sum is none.
    #[error("the value is no number that can be incremented")]
    NotANumber,
}

/// The table `[plugin.kv]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct KvLimits {
    /// Calls that one call of a hook may make.
    pub(crate) calls: Within<1, 10_000>,
    pub(crate) key_bytes: Within<1, 4096>,
    pub(crate) value_bytes: Within<1, { 1 << 20 }>,
}

impl Default for KvLimits {
    fn default() -> Self {
        Self { calls: Within::new(16), key_bytes: Within::new(256), value_bytes: Within::new(4096) }
    }
}

/// Where the values of one plugin are, and how it may use them.
#[derive(Clone)]
pub(super) struct KvGrant {
    pub(super) store: Arc<dyn KvStore>,
    pub(super) plugin: Arc<str>,
    pub(super) limits: KvLimits,
}

/// One instance's access to its plugin's values.
pub(crate) struct KvAccess {
    /// None: not granted, so that the plugin cannot even import it.
    grant: Option<KvGrant>,
    calls_left: u32,
    /// No call of a hook has begun yet: while an instance is configured nothing may wait.
    configuring: bool,
    pub(super) waited: Waited,
}

impl KvAccess {
    pub(super) fn new(grant: Option<KvGrant>) -> Self {
        Self { grant, calls_left: 0, configuring: true, waited: Waited::default() }
    }

    pub(super) fn renew(&mut self) {
        self.configuring = false;
        self.waited = Waited::default();
        self.calls_left = self.grant.as_ref().map_or(0, |grant| grant.limits.calls.get());
    }

    /// The grant and the key as the store has it, if this call may ask at all: plugins do not see one another's keys.
    fn admit(&mut self, key: &str) -> Result<(&KvGrant, String, &mut Waited), Error> {
        let grant = self.grant.as_ref().filter(|_| !self.configuring).ok_or(Error::Unavailable)?;
        self.calls_left = self.calls_left.checked_sub(1).ok_or(Error::Quota)?;
        if key.is_empty() || key.len() > grant.limits.key_bytes.get() as usize {
            return Err(Error::TooLarge);
        }
        Ok((grant, format!("arcyou:kv:{}:{key}", grant.plugin), &mut self.waited))
    }
}

impl KvGrant {
    fn is_too_large(&self, value: &[u8]) -> bool {
        value.len() > self.limits.value_bytes.get() as usize
    }

    fn error(&self, error: KvError) -> Error {
        match error {
            KvError::NotANumber => Error::NotANumber,
            KvError::Unavailable(reason) => {
                tracing::debug!(plugin = &*self.plugin, reason, "the plugin's values cannot be reached");
                metrics::counter!("arcyou_plugin_kv_unavailable_total", "plugin" => self.plugin.to_string())
                    .increment(1);
                Error::Unavailable
            }
        }
    }
}

fn ttl(ms: u64) -> Duration {
    Duration::from_millis(ms).clamp(Duration::from_millis(1), LONGEST)
}

impl Host for KvAccess {
    async fn get(&mut self, key: String) -> Result<Option<Vec<u8>>, Error> {
        let (grant, key, waited) = self.admit(&key)?;
        let found = waited.during(grant.store.get(&key)).await.map_err(|error| grant.error(error))?;
        match found {
            Some(value) if grant.is_too_large(&value) => Err(Error::TooLarge),
            found => Ok(found),
        }
    }

    async fn set(&mut self, key: String, value: Vec<u8>, ttl_ms: u64) -> Result<(), Error> {
        let (grant, key, waited) = self.admit(&key)?;
        if grant.is_too_large(&value) {
            return Err(Error::TooLarge);
        }
        waited.during(grant.store.set(&key, &value, ttl(ttl_ms))).await.map_err(|error| grant.error(error))
    }

    async fn delete(&mut self, key: String) -> Result<bool, Error> {
        let (grant, key, waited) = self.admit(&key)?;
        waited.during(grant.store.delete(&key)).await.map_err(|error| grant.error(error))
    }

    async fn increment(&mut self, key: String, by: i64, ttl_ms: u64) -> Result<i64, Error> {
        let (grant, key, waited) = self.admit(&key)?;
        waited.during(grant.store.increment(&key, by, ttl(ttl_ms))).await.map_err(|error| grant.error(error))
    }
}
