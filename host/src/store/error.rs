//! What can go wrong in the database, sorted by what a caller may do about it.

use arcyou_platform::database::{Fault, describe, describe_pool};
use arcyou_protocol::{ErrorCode, Failure};
use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

/// A failed statement or transaction. The texts are for the log; clients are told a code.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection could be had, or no server behind it that takes writes: nothing happened.
    #[error("the database cannot be reached: {0}")]
    Unreachable(String),
    /// Others have all the turns: nothing was sent.
    #[error("{0}")]
    Busy(&'static str),
    /// The connection broke, or nothing came back in time, after something was sent: it may have happened or not. To
    /// who only reads that is one.
    #[error("the database's answer was lost: {0}")]
    Lost(String),
    /// The same of a change that this gateway does not ask for again.
    #[error("the database's answer to a change was lost, and it may be made: {0}")]
    Unknown(String),
    /// Rolled back for a reason that passes: a lock, a time-out, a deadlock, a serialization failure.
    #[error("the database refused for now: {}", describe(.0))]
    Transient(tokio_postgres::Error),
    /// Rolled back because of the data itself.
    #[error("the database refused the data: {}", describe(.0))]
    Data(tokio_postgres::Error),
    /// Rolled back for any other reason, such as a missing table or right.
    #[error("the database refused the statement: {}", describe(.0))]
    Refused(tokio_postgres::Error),
    /// It answered with something that this gateway does not know: it may have happened or not.
    #[error("the database's answer is not understood ({0}); is its schema newer than this gateway?")]
    NotUnderstood(String),
}

impl StoreError {
    pub(super) fn unknown_status(status: &str) -> Self {
        Self::NotUnderstood(format!("status {status:?}"))
    }

    /// What the error of a statement means for whoever asked for a change.
    pub(super) fn of_change(self) -> Self {
        match self {
            Self::Lost(cause) => Self::Unknown(cause),
            other => other,
        }
    }

    /// Whether nothing happened, and the same may go well a moment later.
    pub const fn did_nothing_for_now(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Busy(_) | Self::Transient(_))
    }

    /// Whether this role of the database may not do that.
    pub fn lacks_a_right(&self) -> bool {
        matches!(self, Self::Refused(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE))
    }

    /// Whether every request fails for the same reason.
    pub const fn is_an_outage(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Lost(_) | Self::Unknown(_))
    }

    /// What a client is told: that nothing was changed, and asking again is safe, or that nobody knows.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Data(_) | Self::Refused(_) | Self::NotUnderstood(_) => Failure::internal(),
            Self::Unreachable(_) | Self::Lost(_) => {
                Failure::new(ErrorCode::Unavailable, "the database cannot be reached for now; try again in a moment")
            }
            Self::Transient(_) => Failure::new(
                ErrorCode::Unavailable,
                "another transaction was in the way of this one; nothing was changed, try again in a moment",
            ),
            Self::Busy(_) => {
                let text = "too many changes wait before this one; nothing was changed, try again in a moment";
                let mut failure = Failure::new(ErrorCode::Overloaded, text);
                failure.retry_after_ms = Some(1000);
                failure
            }
            Self::Unknown(_) => Failure::new(
                ErrorCode::OutcomeUnknown,
                "the database's answer was lost, and the change may be made; look what stands, or repeat it",
            ),
        }
    }

    /// The words of [`kind`](Self::kind).
    pub const KINDS: &[&str] = &["unreachable", "busy", "lost", "transient", "data", "refused", "not_understood"];

    /// A stable word for metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Busy(_) => "busy",
            Self::Lost(_) | Self::Unknown(_) => "lost",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_answer_means_more_to_a_change_than_to_a_question() {
        let lost = || StoreError::Lost("gone".to_owned());
        assert_eq!(lost().failure().code, ErrorCode::Unavailable);
        assert_eq!(lost().of_change().failure().code, ErrorCode::OutcomeUnknown);
        let unreachable = StoreError::Unreachable("away".to_owned()).of_change();
        assert_eq!(unreachable.failure().code, ErrorCode::Unavailable);
        let busy = StoreError::Busy("full").failure();
        assert_eq!((busy.code, busy.retry_after_ms), (ErrorCode::Overloaded, Some(1000)));
    }
}
