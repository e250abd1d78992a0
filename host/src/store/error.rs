//! What can go wrong in the database, sorted by what a caller may do about it.

use arcyou_outbox_worker::database::{describe, describe_pool};
use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

/// A failed statement or transaction. The texts are for the log; clients are told a code.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection could be had: nothing was sent, nothing happened.
    #[error("the database cannot be reached: {0}")]
    Unreachable(String),
    /// The connection broke, or nothing came back in time, after something was sent: it may have happened or not.
    #[error("the database's answer was lost: {0}")]
    Lost(String),
    /// Rolled back for a reason that passes: a lock, a time-out, a deadlock, a shutdown.
    #[error("the database refused for now: {}", describe(.0))]
    Transient(#[source] tokio_postgres::Error),
    /// Rolled back because of the data itself.
    #[error("the database refused the data: {}", describe(.0))]
    Data(#[source] tokio_postgres::Error),
    /// Rolled back for any other reason, such as a missing table or right.
    #[error("the database refused the statement: {}", describe(.0))]
    Refused(#[source] tokio_postgres::Error),
}

impl StoreError {
    /// A stable word for metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Lost(_) => "lost",
            Self::Transient(_) => "transient",
            Self::Data(_) => "data",
            Self::Refused(_) => "refused",
        }
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(state) = error.code() else { return Self::Lost(describe(&error)) };
        let transient = [
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::QUERY_CANCELED,
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::READ_ONLY_SQL_TRANSACTION,
            SqlState::OBJECT_IN_USE,
        ];
        match &state.code()[..2] {
            _ if transient.contains(state) => Self::Transient(error),
            // The server ends the session; whether a commit before it took effect is not known.
            "08" | "57" => Self::Lost(describe(&error)),
            // Out of memory, disk or connections.
            "53" => Self::Transient(error),
            "22" | "23" | "54" => Self::Data(error),
            _ => Self::Refused(error),
        }
    }
}

impl From<PoolError> for StoreError {
    fn from(error: PoolError) -> Self {
        Self::Unreachable(describe_pool(&error))
    }
}
