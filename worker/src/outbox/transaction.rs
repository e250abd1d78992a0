//! A transaction on the outbox, each step of it with a time-out.

use std::future::Future;
use std::time::Duration;

use arcyou_platform::database::{Fault, Lease};
use deadpool_postgres::Pool;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::error::OutboxError;
use super::sql;

/// The longest that one step may take. Longer than every time-out of the server: it is for servers and networks that do
/// not answer at all.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);

/// A statement's parameter with its type, so that nothing needs to be prepared.
pub(crate) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// A transaction with the time-outs of [`sql::BEGIN`]. Dropped before its end, it closes the connection, which makes
/// the server roll back.
pub(crate) struct Transaction(Lease);

impl Transaction {
    /// Takes a connection. Nothing has begun on it: the first call is [`begin_with`](Self::begin_with).
    pub(crate) async fn connect(pool: &Pool) -> Result<Self, OutboxError> {
        Ok(Self(Lease::take(pool).await?))
    }

    /// Begins with pinned plans.
    pub(crate) async fn begin(pool: &Pool) -> Result<Self, OutboxError> {
        let transaction = Self::connect(pool).await?;
        let (begun, pinned) = tokio::join!(biased; transaction.execute(sql::BEGIN), transaction.pin());
        begun?;
        pinned?;
        Ok(transaction)
    }

    /// Begins and queries in one round trip.
    pub(crate) async fn begin_with(&self, statement: &str, params: &[Param<'_>]) -> Result<Vec<Row>, OutboxError> {
        // Polled in this order, and so sent in this order, without waiting in between.
        let (begun, found) = tokio::join!(biased; self.execute(sql::BEGIN), self.query(statement, params));
        begun?;
        found
    }

    /// Runs one statement in a transaction of its own, with pinned plans.
    pub(crate) async fn run(pool: &Pool, statement: &str, params: &[Param<'_>]) -> Result<Vec<Row>, OutboxError> {
        let transaction = Self::begin(pool).await?;
        let rows = transaction.query(statement, params).await?;
        transaction.end("COMMIT").await?;
        Ok(rows)
    }

    pub(crate) async fn query(&self, statement: &str, params: &[Param<'_>]) -> Result<Vec<Row>, OutboxError> {
        within_step(self.0.query_typed(statement, params)).await
    }

    /// Runs statements without parameters or results.
    pub(crate) async fn execute(&self, statements: &str) -> Result<(), OutboxError> {
        within_step(self.0.batch_execute(statements)).await
    }

    /// Pins the plans of the statements that follow.
    pub(crate) async fn pin(&self) -> Result<(), OutboxError> {
        self.execute(sql::PIN).await
    }

    pub(crate) async fn roll_back(self) -> Result<(), OutboxError> {
        self.end("ROLLBACK").await
    }

    /// Gives the connection back after a statement that ended the transaction.
    pub(crate) fn ended(self) {
        self.0.release();
    }

    /// Rolls back after an error and returns that error. The locks are then free before the next attempt, whereas the
    /// server notices a closed connection only after a while.
    pub(crate) async fn failed(self, error: OutboxError) -> OutboxError {
        let OutboxError::Database(cause) = &error else { return error };
        match Fault::of(cause) {
            fault @ (Fault::Lost | Fault::Unavailable) => self.0.release_after(fault),
            Fault::Transient | Fault::Data | Fault::Other => {
                if let Err(error) = self.roll_back().await {
                    tracing::debug!(%error, "a transaction could not be rolled back; its connection is closed");
                }
            }
        }
        error
    }

    async fn end(self, statement: &str) -> Result<(), OutboxError> {
        self.execute(statement).await?;
        self.ended();
        Ok(())
    }
}

async fn within_step<T>(work: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, OutboxError> {
    match tokio::time::timeout(STEP_TIMEOUT, work).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(OutboxError::TimedOut(STEP_TIMEOUT)),
    }
}
