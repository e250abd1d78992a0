//! Parked rows: they have used up their tries, and an operator decides what happens to them.

use deadpool_postgres::Pool;
use serde::Serialize;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::sql;
use crate::outbox::{OutboxError, Transaction};

/// How many rows one transaction changes: it holds their locks only briefly.
const BATCH_ROWS: usize = 1_000;

/// A parked row.
#[derive(Debug, Serialize)]
pub struct ParkedRow {
    /// `outbox.id`.
    pub id: i64,
    /// The event's type, at most its first 200 characters.
    #[serde(rename = "type")]
    pub kind: String,
    /// The conversation that the event belongs to.
    pub conversation_id: Uuid,
    /// How often publishing it has failed.
    pub retry_count: i64,
    /// The last failure; empty if there was none.
    pub error: String,
    /// When it was parked, as PostgreSQL writes times; empty if it is not parked.
    pub parked_at: String,
    /// When it was inserted, as PostgreSQL writes times.
    pub created_at: String,
}

/// A row, parked or not, with what can be shown of its payload.
#[derive(Debug, Serialize)]
pub struct RowDetail {
    #[serde(flatten)]
    pub row: ParkedRow,
    /// `parked`, `pending` or `processed`.
    pub state: String,
    /// Bytes of the payload's text, which `MAX_PAYLOAD_BYTES` limits; None if it is too large to be read.
    pub payload_bytes: Option<i64>,
    /// Bytes on disk, where it is compressed.
    pub stored_bytes: i64,
    /// The first 4,096 characters of the payload's text; None if it is too large to be read.
    pub payload: Option<String>,
}

/// What an operator does with parked rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// They get all their tries again.
    Requeue,
    /// They are deleted unpublished.
    Drop,
}

/// At most `limit` parked rows with an id above `after`, in the order of ids.
pub async fn list(pool: &Pool, after: i64, limit: i64) -> Result<Vec<ParkedRow>, OutboxError> {
    let rows = Transaction::run(pool, sql::PARKED, &[(&after, Type::INT8), (&limit, Type::INT8)]).await?;
    rows.iter().map(parked_row).collect()
}

/// A row in detail, whatever its state; None if there is no such row.
pub async fn show(pool: &Pool, id: i64) -> Result<Option<RowDetail>, OutboxError> {
    let read =
        async |payload: bool| Transaction::run(pool, sql::SHOW, &[(&id, Type::INT8), (&payload, Type::BOOL)]).await;
    let rows = match read(true).await {
        Err(error) if error.may_be_caused_by_a_row() => read(false).await?,
        rows => rows?,
    };
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(RowDetail {
        row: parked_row(row)?,
        state: row.try_get(7)?,
        stored_bytes: row.try_get(8)?,
        payload_bytes: row.try_get(9)?,
        payload: row.try_get(10)?,
    }))
}

/// Applies a decision to these rows. Returns, in ascending order, the ids of those that were parked and therefore
/// changed. After an error a part of them may have been changed.
pub async fn decide(pool: &Pool, decision: Decision, ids: &[i64]) -> Result<Vec<i64>, OutboxError> {
    let statement = match decision {
        Decision::Requeue => sql::REQUEUE,
        Decision::Drop => sql::DROP,
    };
    let mut changed = Vec::new();
    for batch in ids.chunks(BATCH_ROWS) {
        for row in Transaction::run(pool, statement, &[(&batch, Type::INT8_ARRAY)]).await? {
            changed.push(row.try_get(0)?);
        }
    }
    changed.sort_unstable();
    Ok(changed)
}

/// Applies a decision to every row that is parked now. Returns how many that were.
pub async fn decide_all(pool: &Pool, decision: Decision) -> Result<usize, OutboxError> {
    let (mut after, mut changed) = (0, 0);
    loop {
        // In the order of ids, so that a row that is parked again meanwhile is not taken twice.
        let page = list(pool, after, BATCH_ROWS as i64).await?;
        let Some(last) = page.last() else { return Ok(changed) };
        after = last.id;
        let ids: Vec<i64> = page.iter().map(|row| row.id).collect();
        changed += decide(pool, decision, &ids).await?.len();
    }
}

fn parked_row(row: &tokio_postgres::Row) -> Result<ParkedRow, OutboxError> {
    Ok(ParkedRow {
        id: row.try_get(0)?,
        kind: row.try_get(1)?,
        conversation_id: row.try_get(2)?,
        retry_count: row.try_get(3)?,
        error: row.try_get(4)?,
        parked_at: row.try_get(5)?,
        created_at: row.try_get(6)?,
    })
}
