//! What can go wrong in the database, sorted by what a caller may do about it.

use arcyou_platform::database::{Fault, describe, describe_pool};
use arcyou_protocol::{ErrorCode, Failure};
use deadpool_postgres::PoolError;

/// A failed statement or transaction. The texts are for the log; clients are told a code.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection could be had, or no server behind it that takes writes: nothing happened.
    #[error("the database cannot be reached: {0}")]
    Unreachable(String),
    /// The connection broke, or nothing came back in time, after something was sent: it may have happened or not.
    #[error("the database's answer was lost: {0}")]
    Lost(String),
    /// Rolled back for a reason that passes: a lock, a time-out, a deadlock, a serialization failure.
    #[error("the database refused for now: {}", describe(.0))]
    Transient(#[source] tokio_postgres::Error),
    /// Rolled back because of the data itself.
    #[error("the database refused the data: {}", describe(.0))]
    Data(#[source] tokio_postgres::Error),
    /// Rolled back for any other reason, such as a missing table or right.
    #[error("the database refused the statement: {}", describe(.0))]
    Refused(#[source] tokio_postgres::Error),
    /// It answered with something that this gateway does not know: it may have happened or not.
    #[error("the database's answer is not understood ({0}); is its schema newer than this gateway?")]
    NotUnderstood(String),
}

impl StoreError {
    pub(super) fn unknown_status(status: &str) -> Self {
        Self::NotUnderstood(format!("status {status:?}"))
    }

    /// Whether nothing happened, and the same may go well a moment later.
    pub const fn did_nothing_for_now(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Transient(_))
    }

    /// Whether every request fails for the same reason.
    pub const fn is_an_outage(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Lost(_))
    }

    /// What a client is told whose request only reads: whatever went wrong, nothing was changed, and asking again is
    /// safe.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Data(_) | Self::Refused(_) | Self::NotUnderstood(_) => Failure::internal(),
            Self::Unreachable(_) | Self::Lost(_) | Self::Transient(_) => {
                Failure::new(ErrorCode::Unavailable, "the database cannot be reached for now; try again in a moment")
            }
        }
    }

    /// The words of [`kind`](Self::kind).
    pub const KINDS: &[&str] = &["unreachable", "lost", "transient", "data", "refused", "not_understood"];

    /// A stable word for metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Lost(_) => "lost",
            Self::Transient(_) => "transient",
            Self::Data(_) => "data",
            Self::Refused(_) => "refused",
            Self::NotUnderstood(_) => "not_understood",
        }
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        match Fault::of(&error) {
            Fault::Lost => Self::Lost(describe(&error)),
            Fault::Unavailable => Self::Unreachable(describe(&error)),
            Fault::Transient => Self::Transient(error),
            Fault::Data => Self::Data(error),
            Fault::Other => Self::Refused(error),
        }
    }
}

impl From<PoolError> for StoreError {
    fn from(error: PoolError) -> Self {
        Self::Unreachable(describe_pool(&error))
    }
}
