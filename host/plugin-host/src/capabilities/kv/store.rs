//! What a store of values must do.

use std::time::Duration;

use async_trait::async_trait;

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
