//! Why the outbox could not be read or written.

use std::time::Duration;

use arcyou_platform::database::{describe, describe_pool};
use deadpool_postgres::PoolError;

/// The outbox could not be read or written. It says nothing about any row.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// The pool gave no connection.
    #[error("{}", describe_pool(.0))]
    Pool(#[from] PoolError),
    /// The database reported an error, or the connection broke.
    #[error("{}", describe(.0))]
    Database(#[from] tokio_postgres::Error),
    /// The database did not answer within this time.
    #[error("no answer within {} seconds", .0.as_secs())]
    TimedOut(Duration),
    /// Nothing can be published without a key.
    #[error("the table `installation` is empty, and it has the key that events are marked with")]
    NoEventKey,
}
