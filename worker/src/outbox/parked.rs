//! Rows that ran out of tries, for an operator to decide on.

use deadpool_postgres::Pool;
use serde::Serialize;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{OutboxError, Param, Transaction, sql};

/// How many rows are changed in one transaction.
const BATCH: usize = 1_000;

/// A parked row.
#[derive(Debug, Serialize)]
pub struct ParkedRow {
    /// `outbox.id`.
    pub id: i64,
    /// Its type, the beginning if it is long.
    #[serde(rename = "type")]
    pub kind: String,
    /// The conversation that would hear of it.
    pub conversation_id: Uuid,
    /// How often it failed.
    pub retry_count: i64,
    /// How it failed last.
    pub error: String,
    /// When it was parked; empty if it is not.
    pub parked_at: String,
    /// When it was inserted.
    pub created_at: String,
}

/// A row, parked or not, with what can be shown of its payload.
#[derive(Debug, Serialize)]
pub struct RowDetail {
    /// The row.
    #[serde(flatten)]
    pub row: ParkedRow,
    /// `parked`, `pending` or `processed`.
    pub state: String,
    /// The payload's size as stored, compressed.
    pub stored_bytes: i64,
    /// The beginning of the payload's text; none if it is large.
    pub payload: Option<String>,
}

/// What to do with parked rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Try again, with all tries.
    Requeue,
    Drop,
}

/// Parked rows after an id, by id, at most `limit`.
pub async fn list(pool: &Pool, after: i64, limit: i64) -> Result<Vec<ParkedRow>, OutboxError> {
    let rows = in_transaction(pool, sql::PARKED, &[(&after, Type::INT8), (&limit, Type::INT8)]).await?;
    rows.iter().map(read).collect()
}

/// A row in detail, if there is one.
pub async fn show(pool: &Pool, id: i64) -> Result<Option<RowDetail>, OutboxError> {
    let rows = in_transaction(pool, sql::SHOW, &[(&id, Type::INT8)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(RowDetail {
        row: read(row)?,
        state: row.try_get(7)?,
        stored_bytes: row.try_get(8)?,
        payload: row.try_get(9)?,
    }))
}

/// Decides on these rows; answers those that were parked, and so were changed.
pub async fn decide(pool: &Pool, decision: Decision, ids: &[i64]) -> Result<Vec<i64>, OutboxError> {
    let statement = match decision {
        Decision::Requeue => sql::REQUEUE,
        Decision::Drop => sql::DROP,
    };
    let mut changed = Vec::new();
    for batch in ids.chunks(BATCH) {
        for row in in_transaction(pool, statement, &[(&batch, Type::INT8_ARRAY)]).await? {
            changed.push(row.try_get(0)?);
        }
    }
    changed.sort_unstable();
    Ok(changed)
}

/// Decides on every row that is parked now; answers how many that were.
pub async fn decide_all(pool: &Pool, decision: Decision) -> Result<usize, OutboxError> {
    let (mut after, mut changed) = (0, 0);
    loop {
        // By id, so that a row which is parked again meanwhile is not taken twice.
        let page = list(pool, after, BATCH as i64).await?;
        let Some(last) = page.last() else { return Ok(changed) };
        after = last.id;
        let ids: Vec<i64> = page.iter().map(|row| row.id).collect();
        changed += decide(pool, decision, &ids).await?.len();
    }
}

async fn in_transaction(
    pool: &Pool,
    statement: &str,
    params: &[Param<'_>],
) -> Result<Vec<tokio_postgres::Row>, OutboxError> {
    let transaction = Transaction::begin(pool).await?;
    let rows = transaction.query(statement, params).await?;
    transaction.commit().await?;
    Ok(rows)
}

fn read(row: &tokio_postgres::Row) -> Result<ParkedRow, OutboxError> {
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
