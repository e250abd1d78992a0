//! An instance's access to the store, within its plugin's limits.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::store::{KvError, KvStore};
use crate::bindings::host::kv::{Error, Host};
use crate::bounded::Bounded;
use crate::capabilities::wait_time::WaitTime;

/// The longest time to live.
const MAX_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// The table `[plugin.kv]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct KvLimits {
    /// Calls to the store that one call of a hook may make.
    pub(crate) calls: Bounded<1, 10_000>,
    pub(crate) key_bytes: Bounded<1, 4096>,
    pub(crate) value_bytes: Bounded<1, { 1 << 20 }>,
}

impl Default for KvLimits {
    fn default() -> Self {
        Self { calls: Bounded::new(16), key_bytes: Bounded::new(256), value_bytes: Bounded::new(4096) }
    }
}

/// The store and the limits of one plugin.
#[derive(Clone)]
pub(in crate::capabilities) struct KvResource {
    pub(in crate::capabilities) store: Arc<dyn KvStore>,
    pub(in crate::capabilities) plugin: Arc<str>,
    pub(in crate::capabilities) limits: KvLimits,
}

/// One instance's access to its plugin's values.
pub(crate) struct KvAccess {
    /// None if the capability is not granted. The plugin cannot even import it then.
    resource: Option<KvResource>,
    calls_left: u32,
    /// Whether no hook has been called yet. An instance must not wait while it is configured.
    configuring: bool,
    pub(in crate::capabilities) waited: WaitTime,
}

impl KvAccess {
    pub(in crate::capabilities) fn new(resource: Option<KvResource>) -> Self {
        Self { resource, calls_left: 0, configuring: true, waited: WaitTime::default() }
    }

    pub(in crate::capabilities) fn reset(&mut self) {
        self.configuring = false;
        self.waited = WaitTime::default();
        self.calls_left = self.resource.as_ref().map_or(0, |resource| resource.limits.calls.get());
    }

    /// Checks the quota and the key. Returns the store's key, which has the plugin's name in front: plugins do not see
    /// each other's keys.
    fn admit(&mut self, key: &str) -> Result<(&KvResource, String, &mut WaitTime), Error> {
        let resource = self.resource.as_ref().filter(|_| !self.configuring).ok_or(Error::Unavailable)?;
        self.calls_left = self.calls_left.checked_sub(1).ok_or(Error::Quota)?;
        if key.is_empty() || key.len() > resource.limits.key_bytes.get() as usize {
            return Err(Error::TooLarge);
        }
        Ok((resource, format!("{}:{key}", resource.plugin), &mut self.waited))
    }
}

impl KvResource {
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
    Duration::from_millis(ms).clamp(Duration::from_millis(1), MAX_TTL)
}

impl Host for KvAccess {
    async fn get(&mut self, key: String) -> Result<Option<Vec<u8>>, Error> {
        let (resource, key, waited) = self.admit(&key)?;
        let found = waited.measure(resource.store.get(&key)).await.map_err(|error| resource.error(error))?;
        match found {
            Some(value) if resource.is_too_large(&value) => Err(Error::TooLarge),
            found => Ok(found),
        }
    }

    async fn set(&mut self, key: String, value: Vec<u8>, ttl_ms: u64) -> Result<(), Error> {
        let (resource, key, waited) = self.admit(&key)?;
        if resource.is_too_large(&value) {
            return Err(Error::TooLarge);
        }
        waited.measure(resource.store.set(&key, &value, ttl(ttl_ms))).await.map_err(|error| resource.error(error))
    }

    async fn delete(&mut self, key: String) -> Result<bool, Error> {
        let (resource, key, waited) = self.admit(&key)?;
        waited.measure(resource.store.delete(&key)).await.map_err(|error| resource.error(error))
    }

    async fn increment(&mut self, key: String, by: i64, ttl_ms: u64) -> Result<i64, Error> {
        let (resource, key, waited) = self.admit(&key)?;
        waited.measure(resource.store.increment(&key, by, ttl(ttl_ms))).await.map_err(|error| resource.error(error))
    }
}
