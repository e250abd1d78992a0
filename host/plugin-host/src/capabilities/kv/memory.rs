//! Values in this process: for `dev`, for the command line, and for dry runs.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::store::{KvError, KvStore};

/// Limit for the keys of all plugins together. Expired keys are removed when it is reached.
const MAX_KEYS: usize = 100_000;

/// Values that are lost when the process ends.
#[derive(Debug, Default)]
pub struct MemoryKv(Mutex<HashMap<String, StoredValue>>);

#[derive(Debug)]
struct StoredValue {
    value: Vec<u8>,
    expires_at: Instant,
}

impl MemoryKv {
    /// Calls `work` with the entries, after removing `key` if it has expired.
    fn with_live_entries<T>(&self, key: &str, work: impl FnOnce(&mut HashMap<String, StoredValue>, Instant) -> T) -> T {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if kept.get(key).is_some_and(|kept| kept.expires_at <= now) {
            kept.remove(key);
        }
        work(&mut kept, now)
    }
}

fn insert(
    kept: &mut HashMap<String, StoredValue>,
    key: &str,
    value: Vec<u8>,
    now: Instant,
    ttl: Duration,
) -> Result<(), KvError> {
    if kept.len() >= MAX_KEYS && !kept.contains_key(key) {
        kept.retain(|_, kept| kept.expires_at > now);
        if kept.len() >= MAX_KEYS {
            return Err(KvError::Unavailable(format!("{MAX_KEYS} keys are kept already")));
        }
    }
    kept.insert(key.to_owned(), StoredValue { value, expires_at: now + ttl });
    Ok(())
}

#[async_trait]
impl KvStore for MemoryKv {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KvError> {
        Ok(self.with_live_entries(key, |kept, _| kept.get(key).map(|kept| kept.value.clone())))
    }

    async fn set(&self, key: &str, value: &[u8], ttl: Duration) -> Result<(), KvError> {
        self.with_live_entries(key, |kept, now| insert(kept, key, value.to_owned(), now, ttl))
    }

    async fn delete(&self, key: &str) -> Result<bool, KvError> {
        Ok(self.with_live_entries(key, |kept, _| kept.remove(key).is_some()))
    }

    async fn increment(&self, key: &str, by: i64, ttl: Duration) -> Result<i64, KvError> {
        self.with_live_entries(key, |kept, now| {
            let Some(found) = kept.get_mut(key) else {
                return insert(kept, key, by.to_string().into_bytes(), now, ttl).map(|()| by);
            };
            let number = std::str::from_utf8(&found.value).ok().and_then(|text| text.parse::<i64>().ok());
            let sum = number.and_then(|number| number.checked_add(by)).ok_or(KvError::NotANumber)?;
            found.value = sum.to_string().into_bytes();
            Ok(sum)
        })
    }
}
