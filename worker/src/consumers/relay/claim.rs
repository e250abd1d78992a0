//! Rows that belong to this worker until its transaction ends.

use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::time::Instant;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::mark::{self, Outcomes};
use super::sql;
use crate::outbox::{OutboxError, Param, Transaction};

/// The longest `type`, in characters: far more than a name needs, and little beside a payload.
const MAX_TYPE_CHARS: usize = 1024;
/// After this time of reading payloads one by one, the rest is left for the next batch. The server ends the transaction
/// if it is idle for 8 seconds, and publishing may take 6.
const SEPARATE_READ_BUDGET: Duration = Duration::from_secs(4);

/// How much one claim may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClaimLimits {
    pub(super) rows: i64,
    /// Rows with a larger payload cannot be published.
    pub(super) payload_bytes: i64,
    /// The payloads of the claim together, about.
    pub(super) batch_bytes: i64,
    /// Read each payload with a statement of its own: slower, but shows which row has a payload that cannot be read.
    pub(super) separate_payloads: bool,
}

/// A claimed row.
#[derive(Debug)]
pub(super) struct ClaimedRow {
    pub(super) id: i64,
    pub(super) conversation_id: Uuid,
    /// How often the row has failed already.
    pub(super) failures: u32,
    /// The time since it was inserted.
    pub(super) age: Duration,
    pub(super) content: Content,
}

/// What is to be published of a row.
#[derive(Debug)]
pub(super) enum Content {
    Event {
        kind: String,
        payload: String,
    },
    /// The row cannot be published, by its own fault; with the reason.
    Unpublishable(String),
}

/// Rows that no other worker can claim while this exists. Dropped, they are as they were before the claim.
pub(super) struct Claim {
    transaction: Transaction,
    pub(super) rows: Vec<ClaimedRow>,
    /// There is probably more to claim.
    pub(super) more: bool,
}

impl Claim {
    /// Claims due rows with an id above `after_id`, in the order of ids. One round trip, and one more for each payload
    /// that is read separately, which is always done for a row that failed before.
    pub(super) async fn take(pool: &Pool, after_id: i64, limits: ClaimLimits) -> Result<Self, OutboxError> {
        let transaction = Transaction::connect(pool).await?;
        match claim(&transaction, after_id, limits).await {
            Ok((rows, more)) => Ok(Self { transaction, rows, more }),
            Err(error) => Err(transaction.failed(error).await),
        }
    }

    /// Records what became of the rows and commits. Rows that `outcomes` does not name can be claimed again.
    ///
    /// After an error it is unknown whether the outcomes were recorded. If not, the rows are published again.
    pub(super) async fn commit(self, outcomes: &Outcomes) -> Result<(), OutboxError> {
        match mark::commit(&self.transaction, outcomes).await {
            Ok(()) => {
                self.transaction.ended();
                Ok(())
            }
            Err(error) => Err(self.transaction.failed(error).await),
        }
    }

    /// Releases the rows as they were. If that does not reach the database, its time-outs release them.
    pub(super) async fn abandon(self) {
        if let Err(error) = self.transaction.roll_back().await {
            tracing::debug!(%error, "claimed rows could not be released; the database does it after a time-out");
        }
    }
}

impl OutboxError {
    /// Whether the content of a row may be the cause: too large for the database, corrupt, or never finished. Reading
    /// rows one by one then shows which row it is.
    pub(super) fn may_be_caused_by_a_row(&self) -> bool {
        let Self::Database(error) = self else { return false };
        // Data exceptions, out of memory, limits exceeded, internal errors, a statement's time-out.
        let classes = ["22", "53200", "54", "XX", "57014"];
        error.code().is_some_and(|code| classes.iter().any(|class| code.code().starts_with(class)))
    }
}

/// A row's age as the database calculated it. Negative if the row carries the time of a clock that was ahead: then 0.
pub(super) fn age_from_millis(value: i64) -> Duration {
    Duration::from_millis(u64::try_from(value).unwrap_or_default())
}

/// The rows, and whether there are probably more.
async fn claim(
    transaction: &Transaction,
    after_id: i64,
    limits: ClaimLimits,
) -> Result<(Vec<ClaimedRow>, bool), OutboxError> {
    let params: [Param<'_>; 5] = [
        (&after_id, Type::INT8),
        (&limits.rows, Type::INT8),
        (&limits.payload_bytes, Type::INT8),
        (&limits.batch_bytes, Type::INT8),
        (&limits.separate_payloads, Type::BOOL),
    ];
    let found = transaction.begin_with(sql::CLAIM, &params).await?;
    let locked: i64 = found.first().map(|row| row.try_get(6)).transpose()?.unwrap_or_default();
    let mut rows = Vec::with_capacity(found.len());
    let (started, mut bytes) = (Instant::now(), 0_i64);
    for row in &found {
        let failures = u32::try_from(row.try_get::<_, i64>(3)?).unwrap_or_default();
        let separate = limits.separate_payloads || failures > 0;
        if separate && (started.elapsed() > SEPARATE_READ_BUDGET || bytes > limits.batch_bytes) {
            break;
        }
        let (id, kind) = (row.try_get(0)?, row.try_get::<_, String>(1)?);
        let content = if kind.chars().count() > MAX_TYPE_CHARS {
            Content::Unpublishable(format!("the type is longer than {MAX_TYPE_CHARS} characters"))
        } else {
            match if separate { read_payload(transaction, id, limits).await? } else { Ok(row.try_get(5)?) } {
                Ok(Some(payload)) => {
                    bytes += i64::try_from(payload.len()).unwrap_or(i64::MAX);
                    Content::Event { kind, payload }
                }
                Ok(None) => Content::Unpublishable(format!(
                    "the payload has more than {} bytes as text (MAX_PAYLOAD_BYTES)",
                    limits.payload_bytes
                )),
                Err(error) => Content::Unpublishable(format!("the payload cannot be read: {error}")),
            }
        };
        let (conversation_id, age) = (row.try_get(2)?, age_from_millis(row.try_get(4)?));
        rows.push(ClaimedRow { id, conversation_id, failures, age, content });
    }
    let more = locked >= limits.rows || usize::try_from(locked).is_ok_and(|locked| locked > rows.len());
    Ok((rows, more))
}

/// A row's payload; None if it is too large. The inner error is caused by the row itself.
async fn read_payload(
    transaction: &Transaction,
    id: i64,
    limits: ClaimLimits,
) -> Result<Result<Option<String>, OutboxError>, OutboxError> {
    let params: [Param<'_>; 2] = [(&id, Type::INT8), (&limits.payload_bytes, Type::INT8)];
    // Sent in this order, without waiting in between.
    let (before, read, after) = tokio::join!(
        biased;
        transaction.execute(sql::BEFORE_PAYLOAD),
        transaction.query(sql::PAYLOAD, &params),
        transaction.execute(sql::AFTER_PAYLOAD),
    );
    before?;
    match read {
        Ok(rows) => {
            after?;
            Ok(Ok(rows.first().map(|row| row.try_get(0)).transpose()?.flatten()))
        }
        Err(error) if error.may_be_caused_by_a_row() => {
            transaction.execute(sql::PAYLOAD_FAILED).await?;
            Ok(Err(error))
        }
        Err(error) => Err(error),
    }
}
