//! The interface of a store of values.

use std::time::Duration;

use async_trait::async_trait;

/// Stores plugins' values. Every call is atomic. A call fails quickly while the store is unreachable, instead of
/// waiting for it to return.
#[async_trait]
pub trait KvStore: Send + Sync {
    /// The value of a key, unless it has expired.
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KvError>;

    /// Sets a key, which expires after `ttl`.
    async fn set(&self, key: &str, value: &[u8], ttl: Duration) -> Result<(), KvError>;

    /// Deletes a key. Returns whether it existed.
    async fn delete(&self, key: &str) -> Result<bool, KvError>;

    /// Adds to a number and returns the sum. A missing key counts as zero and expires after `ttl`; an existing key
    /// keeps its time to live.
    async fn increment(&self, key: &str, by: i64, ttl: Duration) -> Result<i64, KvError>;
}

/// Why a [`KvStore`] did not carry out a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// The store is unreachable or full. The text is for the operator.
    #[error("the plugins' values cannot be reached: {0}")]
    Unavailable(String),
    /// The value is not a number, or the sum overflows.
    #[error("the value is not a number that can be incremented")]
    NotANumber,
}
