//! Rows that are this worker's until their transaction ends.

use std::time::Duration;

use arcyou_platform::database::Lease;
use deadpool_postgres::Pool;
use tokio::time::Instant;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{OutboxError, Param, Transaction, bounded, millis, sql};
use crate::retry::Verdict;

/// The longest `type`, in characters.
const LONGEST_TYPE: usize = 1024;
/// The longest `error`, in characters.
const LONGEST_ERROR: usize = 500;
/// After this time of reading payloads apart, the rest is left for the next batch.
const APART: Duration = Duration::from_secs(4);

/// How much may be claimed at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) rows: i64,
    pub(crate) payload_bytes: i64,
    pub(crate) batch_bytes: i64,
    /// Read each payload by itself: slower, but one that cannot be read is known by its row.
    pub(crate) apart: bool,
}

/// A claimed row.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) conversation_id: Uuid,
    /// Failures before this time.
    pub(crate) retries: u32,
    /// Since it was inserted.
    pub(crate) age: Duration,
    pub(crate) content: Content,
}

/// What is to be published of a row.
#[derive(Debug)]
pub(crate) enum Content {
    Event {
        kind: String,
        payload: String,
    },
    /// It cannot be published, for a reason of its own.
    Unusable(String),
}

/// A row's failure, and what follows.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) id: i64,
    pub(crate) error: String,
    pub(crate) verdict: Verdict,
}

/// A row that is not to blame, to be tried again after a while.
#[derive(Debug)]
pub(crate) struct Postponed {
    pub(crate) id: i64,
    pub(crate) delay: Duration,
}

/// Rows that no other worker can claim while this lives. Dropped, they are as they were.
pub(crate) struct Claim {
    transaction: Transaction,
    pub(crate) rows: Vec<Row>,
    /// There is probably more to claim.
    pub(crate) more: bool,
}

impl Claim {
    /// Claims rows with an id above `after` whose time has come, by id. One round trip, and one more for each payload
    /// that is read apart: that of a row which failed before always is.
    pub(crate) async fn take(pool: &Pool, after: i64, limits: Limits) -> Result<Self, OutboxError> {
        let transaction = Transaction(Lease::take(pool).await?);
        match transaction.claim(after, limits).await {
            Ok((rows, more)) => Ok(Self { transaction, rows, more }),
            Err(error) => Err(transaction.failed(error).await),
        }
    }

    /// Records what became of the rows. Rows that are named in no list are free again.
    ///
    /// After an error it is not known whether it was recorded; then what was published will be published again.
    pub(crate) async fn finish(
        self,
        published: &[i64],
        failures: &[Failure],
        postponed: &[Postponed],
    ) -> Result<(), OutboxError> {
        match self.transaction.finish(published, failures, postponed).await {
            Ok(()) => {
                self.transaction.0.release();
                Ok(())
            }
            Err(error) => Err(self.transaction.failed(error).await),
        }
    }

    /// Gives the rows back as they were. When the database does not hear it, it will find out by itself.
    pub(crate) async fn abandon(self) {
        if let Err(error) = self.transaction.end("ROLLBACK").await {
            tracing::debug!(%error, "claimed rows could not be given back");
        }
    }
}

impl OutboxError {
    /// Whether it may be about what a row holds (too much for the database, corrupt, without end), so that taking rows
    /// one by one tells which.
    pub(crate) fn may_be_a_row(&self) -> bool {
        let Self::Database(error) = self else { return false };
        // Data exceptions, out of memory, limits exceeded, internal errors, a statement's time-out.
        let classes = ["22", "53200", "54", "XX", "57014"];
        error.code().is_some_and(|code| classes.iter().any(|class| code.code().starts_with(class)))
    }
}

impl Transaction {
    /// The rows, and whether there are probably more.
    async fn claim(&self, after: i64, limits: Limits) -> Result<(Vec<Row>, bool), OutboxError> {
        let params: [Param<'_>; 5] = [
            (&after, Type::INT8),
            (&limits.rows, Type::INT8),
            (&limits.payload_bytes, Type::INT8),
            (&limits.batch_bytes, Type::INT8),
            (&limits.apart, Type::BOOL),
        ];
        // Polled in this order, and so sent in this order, without waiting in between.
        let (begun, found) = tokio::join!(
            biased;
            bounded(self.0.batch_execute(sql::BEGIN)),
            self.query(sql::CLAIM, &params),
        );
        begun?;
        let found = found?;
        let locked: i64 = found.first().map(|row| row.try_get(6)).transpose()?.unwrap_or_default();
        let mut rows = Vec::with_capacity(found.len());
        let (started, mut bytes) = (Instant::now(), 0_i64);
        for row in &found {
            let retries = u32::try_from(row.try_get::<_, i64>(3)?).unwrap_or_default();
            let apart = limits.apart || retries > 0;
            if apart && (started.elapsed() > APART || bytes > limits.batch_bytes) {
                break;
            }
            let (id, kind) = (row.try_get(0)?, row.try_get::<_, String>(1)?);
            let content = if kind.chars().count() > LONGEST_TYPE {
                Content::Unusable(format!("the type is longer than {LONGEST_TYPE} characters"))
            } else {
                match if apart { self.payload(id, limits).await? } else { Ok(row.try_get(5)?) } {
                    Ok(Some(payload)) => {
                        bytes += i64::try_from(payload.len()).unwrap_or(i64::MAX);
                        Content::Event { kind, payload }
                    }
                    Ok(None) => Content::Unusable(format!("the payload is larger than {} bytes", limits.payload_bytes)),
                    Err(error) => Content::Unusable(format!("the payload cannot be read: {error}")),
                }
            };
            let (conversation_id, age) = (row.try_get(2)?, millis(row.try_get(4)?));
            rows.push(Row { id, conversation_id, retries, age, content });
        }
        let more = locked >= limits.rows || usize::try_from(locked).is_ok_and(|locked| locked > rows.len());
        Ok((rows, more))
    }

    /// Marks, records and commits.
    async fn finish(
        &self,
        published: &[i64],
        failures: &[Failure],
        postponed: &[Postponed],
    ) -> Result<(), OutboxError> {
        let mark = async {
            match published {
                [] => Ok(Vec::new()),
                ids => self.query(sql::MARK, &[(&ids, Type::INT8_ARRAY)]).await,
            }
        };
        let ids: Vec<i64> = failures.iter().map(|failure| failure.id).collect();
        let errors: Vec<String> = failures.iter().map(|failure| storable(&failure.error)).collect();
        let delays: Vec<i64> = failures.iter().map(|failure| delay(failure.verdict)).collect();
        let params: [Param<'_>; 3] =
            [(&ids, Type::INT8_ARRAY), (&errors, Type::TEXT_ARRAY), (&delays, Type::INT8_ARRAY)];
        let pin = async {
            match (failures, postponed) {
                ([], []) => Ok(()),
                _ => bounded(self.0.batch_execute(sql::PIN)).await,
            }
        };
        let fail = async {
            match failures {
                [] => Ok(Vec::new()),
                _ => self.query(sql::FAIL, &params).await,
            }
        };
        let postpone = self.postpone(postponed);
        // What is known about a row's failures must outlive a crash of the server; that it was published need not.
        let commit = if failures.is_empty() && postponed.is_empty() { sql::COMMIT_MARKS } else { "COMMIT" };
        let commit = bounded(self.0.batch_execute(commit));
        // Sent without waiting in between. After a failed statement the commit rolls back, and says nothing of it.
        let (marked, pinned, failed, postponed, committed) = tokio::join!(biased; mark, pin, fail, postpone, commit);
        marked?;
        pinned?;
        failed?;
        postponed?;
        committed?;
        Ok(())
    }

    async fn postpone(&self, rows: &[Postponed]) -> Result<(), OutboxError> {
        if rows.is_empty() {
            return Ok(());
        }
        let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
        let delays: Vec<i64> = rows.iter().map(|row| milliseconds(row.delay)).collect();
        self.query(sql::POSTPONE, &[(&ids, Type::INT8_ARRAY), (&delays, Type::INT8_ARRAY)]).await.map(drop)
    }

    /// A row's payload, if it is not too large; the inner error is the row's own.
    async fn payload(&self, id: i64, limits: Limits) -> Result<Result<Option<String>, OutboxError>, OutboxError> {
        let params: [Param<'_>; 2] = [(&id, Type::INT8), (&limits.payload_bytes, Type::INT8)];
        let (before, read, after) = tokio::join!(
            biased;
            bounded(self.0.batch_execute(sql::BEFORE_PAYLOAD)),
            self.query(sql::PAYLOAD, &params),
            bounded(self.0.batch_execute(sql::AFTER_PAYLOAD)),
        );
        before?;
        match read {
            Ok(rows) => {
                after?;
                Ok(Ok(rows.first().map(|row| row.try_get(0)).transpose()?.flatten()))
            }
            Err(error) if error.may_be_a_row() => {
                bounded(self.0.batch_execute(sql::PAYLOAD_FAILED)).await?;
                Ok(Err(error))
            }
            Err(error) => Err(error),
        }
    }
}

/// Text that PostgreSQL takes, of a bounded length.
fn storable(error: &str) -> String {
    error.chars().filter(|c| *c != '\0').take(LONGEST_ERROR).collect()
}

fn delay(verdict: Verdict) -> i64 {
    match verdict {
        Verdict::Later(delay) => milliseconds(delay),
        Verdict::Park => -1,
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
        assert_eq!(storable(&"한".repeat(1_000)).chars().count(), LONGEST_ERROR);
    }
}
