//! The worker's side of PostgreSQL. Statements are in `sql.rs`, what they mean is here.

mod claim;
pub mod parked;
mod sql;

use std::future::Future;
use std::time::Duration;

use deadpool_postgres::{Pool, PoolError};
use tokio_postgres::types::{ToSql, Type};

pub(crate) use claim::{Claim, Content, Failure, Limits, Postponed, Row};

use arcyou_platform::database::{Fault, Lease, describe, describe_pool};

/// The longest that one step may take. Beyond every time-out of the server, for servers and networks that do not
/// answer.
const STEP: Duration = Duration::from_secs(20);

/// The outbox could not be read or written. Never a row's fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// No connection could be had.
    #[error("{}", describe_pool(.0))]
    Pool(#[from] PoolError),
    /// The database refused, or the connection broke.
    #[error("{}", describe(.0))]
    Database(#[from] tokio_postgres::Error),
    /// Nothing was heard in time.
    #[error("no answer within {} seconds", STEP.as_secs())]
    Silent,
}

type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// A transaction with the time-outs of [`sql::BEGIN`]. Dropped before its end, it closes the connection.
struct Transaction(Lease);

impl Transaction {
    async fn begin(pool: &Pool) -> Result<Self, OutboxError> {
        let lease = Lease::take(pool).await?;
        let (begun, pinned) = tokio::join!(
            biased;
            bounded(lease.batch_execute(sql::BEGIN)),
            bounded(lease.batch_execute(sql::PIN)),
        );
        begun?;
        pinned?;
        Ok(Self(lease))
    }

    async fn query(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<tokio_postgres::Row>, OutboxError> {
        bounded(self.0.query_typed(sql, params)).await
    }

    async fn end(self, with: &str) -> Result<(), OutboxError> {
        bounded(self.0.batch_execute(with)).await?;
        self.0.release();
        Ok(())
    }

    async fn commit(self) -> Result<(), OutboxError> {
        self.end("COMMIT").await
    }

    /// Rolls back after an error, so that the locks are gone before the next try; a closed connection would take a
    /// while to be noticed on the other side.
    async fn failed(self, error: OutboxError) -> OutboxError {
        let OutboxError::Database(cause) = &error else { return error };
        match Fault::of(cause) {
            fault @ (Fault::Lost | Fault::Away) => self.0.release_after(fault),
            Fault::Passing | Fault::Data | Fault::Refused => {
                if let Err(error) = self.end("ROLLBACK").await {
                    tracing::debug!(%error, "a transaction could not be rolled back; its connection is closed");
                }
            }
        }
        error
    }
}

async fn bounded<T>(work: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, OutboxError> {
    match tokio::time::timeout(STEP, work).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(OutboxError::Silent),
    }
}

/// What waits in the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Depth {
    pub(crate) pending: i64,
    pub(crate) parked: i64,
    /// How long the first pending row has waited.
    pub(crate) oldest: Duration,
}

/// Counts what waits, each up to `most`.
pub(crate) async fn depth(pool: &Pool, most: i64) -> Result<Depth, OutboxError> {
    let transaction = Transaction::begin(pool).await?;
    let rows = transaction.query(sql::DEPTH, &[(&most, Type::INT8)]).await?;
    transaction.commit().await?;
    let mut depth = Depth { pending: 0, parked: 0, oldest: Duration::ZERO };
    if let Some(row) = rows.first() {
        depth = Depth { pending: row.try_get(0)?, parked: row.try_get(1)?, oldest: millis(row.try_get(2)?) };
    }
    Ok(depth)
}

/// What pruning found on a page of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pruned {
    /// The page's last row; the next page begins after it.
    pub(crate) last: i64,
    pub(crate) seen: i64,
    pub(crate) deleted: i64,
    /// Nothing here or later can be old enough.
    pub(crate) all_young: bool,
}

/// Looks at the rows after an id, and deletes those that were processed longer ago than `keep`.
pub(crate) async fn prune(pool: &Pool, after: i64, page: i64, keep: Duration) -> Result<Pruned, OutboxError> {
    let keep = i64::try_from(keep.as_secs()).unwrap_or(i64::MAX);
    let transaction = Transaction::begin(pool).await?;
    let params: [Param<'_>; 3] = [(&after, Type::INT8), (&page, Type::INT8), (&keep, Type::INT8)];
    let rows = transaction.query(sql::PRUNE, &params).await?;
    transaction.commit().await?;
    let Some(row) = rows.first() else { return Ok(Pruned { last: after, seen: 0, deleted: 0, all_young: true }) };
    Ok(Pruned { last: row.try_get(0)?, seen: row.try_get(1)?, deleted: row.try_get(2)?, all_young: row.try_get(3)? })
}

/// Rows may carry times of a clock that was ahead.
fn millis(value: i64) -> Duration {
    Duration::from_millis(u64::try_from(value).unwrap_or_default())
}
