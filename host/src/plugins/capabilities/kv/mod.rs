//! `kv`: what a plugin remembers beyond an instance.

mod memory;
mod redis;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use self::memory::MemoryKv;
pub use self::redis::RedisKv;
use super::timed;
use crate::plugins::contract::host::kv::{Error, Host};
use crate::plugins::instance::State;
use crate::plugins::limits::Within;

/// What is forgotten at the latest.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Where plugins' values are. Every call is atomic, and answers soon: a store that is away says so instead of waiting for it.
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
    /// Of a key.
    pub(crate) key_bytes: Within<1, 4096>,
    /// Of a value.
    pub(crate) value_bytes: Within<1, { 1 << 20 }>,
}

impl Default for KvLimits {
    fn default() -> Self {
        Self { calls: Within::new(16), key_bytes: Within::new(256), value_bytes: Within::new(4096) }
    }
}

/// One instance's access to its plugin's values.
pub(super) struct KvHeld {
    store: Arc<dyn KvStore>,
    plugin: Arc<str>,
    limits: KvLimits,
    calls_left: u32,
}

impl KvHeld {
    pub(super) fn new(store: Arc<dyn KvStore>, plugin: Arc<str>, limits: KvLimits) -> Self {
        Self { store, plugin, limits, calls_left: 0 }
    }

    pub(super) fn renew(&mut self) {
        self.calls_left = self.limits.calls.get();
    }

    /// The key as the store has it: plugins do not see one another's.
    fn admit(&mut self, key: &str) -> Result<String, Error> {
        self.calls_left = self.calls_left.checked_sub(1).ok_or(Error::Quota)?;
        if key.is_empty() || key.len() > self.limits.key_bytes.get() as usize {
            return Err(Error::TooLarge);
        }
        Ok(format!("arcyou:kv:{}:{key}", self.plugin))
    }

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

impl State {
    /// The store and the key, if this call may ask at all.
    fn kv(&mut self, key: &str) -> Result<(&mut KvHeld, String), Error> {
        if !self.held.awake {
            return Err(Error::Unavailable);
        }
        // Only a plugin that is granted `kv` may import it.
        let held = self.held.kv.as_mut().ok_or(Error::Unavailable)?;
        let key = held.admit(key)?;
        Ok((held, key))
    }
}

impl Host for State {
    async fn get(&mut self, key: String) -> Result<Option<Vec<u8>>, Error> {
        let (held, key) = self.kv(&key)?;
        let (found, took) = timed(held.store.get(&key)).await;
        let found = found.map_err(|error| held.error(error));
        let found = found.and_then(|found| match found {
            Some(value) if held.is_too_large(&value) => Err(Error::TooLarge),
            found => Ok(found),
        });
        self.held.waited += took;
        found
    }

    async fn set(&mut self, key: String, value: Vec<u8>, ttl_ms: u64) -> Result<(), Error> {
        let (held, key) = self.kv(&key)?;
        if held.is_too_large(&value) {
            return Err(Error::TooLarge);
        }
        let (done, took) = timed(held.store.set(&key, &value, ttl(ttl_ms))).await;
        let done = done.map_err(|error| held.error(error));
        self.held.waited += took;
        done
    }

    async fn delete(&mut self, key: String) -> Result<bool, Error> {
        let (held, key) = self.kv(&key)?;
        let (done, took) = timed(held.store.delete(&key)).await;
        let done = done.map_err(|error| held.error(error));
        self.held.waited += took;
        done
    }

    async fn increment(&mut self, key: String, by: i64, ttl_ms: u64) -> Result<i64, Error> {
        let (held, key) = self.kv(&key)?;
        let (sum, took) = timed(held.store.increment(&key, by, ttl(ttl_ms))).await;
        let sum = sum.map_err(|error| held.error(error));
        self.held.waited += took;
        sum
    }
}
