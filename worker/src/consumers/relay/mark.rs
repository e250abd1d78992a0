//! Records what became of claimed rows: the relay's progress and its failures.

use std::time::Duration;

use tokio_postgres::types::Type;

use super::retry::RetryDecision;
use super::sql;
use crate::outbox::{OutboxError, Param, Transaction};

/// The longest `error` that is stored, in characters: a sentence or two for an operator.
const MAX_ERROR_CHARS: usize = 500;

/// What became of the rows of one claim.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    /// Ids of the rows that the bus has taken.
    pub(super) published: Vec<i64>,
    pub(super) failed: Vec<FailedRow>,
    pub(super) postponed: Vec<PostponedRow>,
}

/// A row that failed by its own fault.
#[derive(Debug)]
pub(super) struct FailedRow {
    pub(super) id: i64,
    pub(super) error: String,
    pub(super) decision: RetryDecision,
}

/// A row that could not be published through no fault of its own, and is tried again after a while.
#[derive(Debug)]
pub(super) struct PostponedRow {
    pub(super) id: i64,
    pub(super) delay: Duration,
}

/// Marks, records and commits, in one round trip.
pub(super) async fn commit(transaction: &Transaction, outcomes: &Outcomes) -> Result<(), OutboxError> {
    let Outcomes { published, failed, postponed } = outcomes;
    let all_published = failed.is_empty() && postponed.is_empty();
    let mark = async {
        if published.is_empty() {
            return Ok(());
        }
        transaction.query(sql::MARK, &[(published, Type::INT8_ARRAY)]).await.map(drop)
    };
    let pin = async { if all_published { Ok(()) } else { transaction.pin().await } };
    let fail = record_failed(transaction, failed);
    let postpone = record_postponed(transaction, postponed);
    // Failures must survive a crash of the server, or a row could be tried for ever. A mark need not: see COMMIT_MARKS.
    let commit = transaction.execute(if all_published { sql::COMMIT_MARKS } else { "COMMIT" });
    // Sent in this order, without waiting in between. After a failed statement the commit rolls back without an error,
    // so each result is checked.
    let (marked, pinned, failed, postponed, committed) = tokio::join!(biased; mark, pin, fail, postpone, commit);
    marked?;
    pinned?;
    failed?;
    postponed?;
    committed
}

async fn record_failed(transaction: &Transaction, rows: &[FailedRow]) -> Result<(), OutboxError> {
    if rows.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let errors: Vec<String> = rows.iter().map(|row| storable(&row.error)).collect();
    let delays: Vec<i64> = rows.iter().map(|row| delay_parameter(row.decision)).collect();
    let params: [Param<'_>; 3] = [(&ids, Type::INT8_ARRAY), (&errors, Type::TEXT_ARRAY), (&delays, Type::INT8_ARRAY)];
    transaction.query(sql::FAIL, &params).await.map(drop)
}

async fn record_postponed(transaction: &Transaction, rows: &[PostponedRow]) -> Result<(), OutboxError> {
    if rows.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let delays: Vec<i64> = rows.iter().map(|row| milliseconds(row.delay)).collect();
    transaction.query(sql::POSTPONE, &[(&ids, Type::INT8_ARRAY), (&delays, Type::INT8_ARRAY)]).await.map(drop)
}

/// Text that PostgreSQL accepts, of a bounded length.
fn storable(error: &str) -> String {
    error.chars().filter(|c| *c != '\0').take(MAX_ERROR_CHARS).collect()
}

/// Milliseconds until the next try; -1 parks the row.
fn delay_parameter(decision: RetryDecision) -> i64 {
    match decision {
        RetryDecision::RetryAfter(delay) => milliseconds(delay),
        RetryDecision::Park => -1,
    }
}

fn milliseconds(delay: Duration) -> i64 {
    i64::try_from(delay.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_cut_to_what_the_column_takes() {
        assert_eq!(storable("a\0b"), "ab");
        assert_eq!(storable(&"한".repeat(1_000)).chars().count(), MAX_ERROR_CHARS);
    }
}
