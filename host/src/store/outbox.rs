//! The outbox as a gateway uses it: how far the relay is, what it told itself, and events other than changes.

use std::time::Duration;

use tokio_postgres::types::Type;
use uuid::Uuid;

use super::page::page;
use super::{Page, PageLimits, Param, Store, StoreError, sql};

/// An event other than a change, from the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEvent {
    pub id: i64,
    /// Its `type`.
    pub kind: String,
    /// The conversation that hears of it.
    pub conversation_id: Uuid,
    /// The payload's JSON text.
    pub payload: String,
}

/// How far the relay has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxProgress {
    /// The newest row of the outbox, or 0.
    pub newest: i64,
    /// None: everything is relayed.
    pub oldest: Option<OldestPending>,
}

impl OutboxProgress {
    /// How long the oldest row has waited.
    pub fn lag(&self) -> Duration {
        self.oldest.map_or(Duration::ZERO, |oldest| oldest.age)
    }

    /// Every row below this id is relayed, but for some that were committed late.
    pub fn relayed_up_to(&self) -> i64 {
        self.oldest.map_or(self.newest + 1, |oldest| oldest.id)
    }
}

/// The oldest row of the outbox that no worker has relayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldestPending {
    pub id: i64,
    /// The time since its transaction began.
    pub age: Duration,
}

impl Store {
    /// How far the relay has come. Rows before `from` are not looked at.
    pub async fn outbox_progress(&self, from: i64) -> Result<OutboxProgress, StoreError> {
        let rows = self.query(sql::OUTBOX_PROGRESS, &[(&from, Type::INT8)]).await?;
        let row = rows.first().ok_or_else(|| StoreError::NotUnderstood("no progress".to_owned()))?;
        let oldest = match row.try_get("id")? {
            None => None,
            Some(id) => {
                Some(OldestPending { id, age: Duration::try_from_secs_f64(row.try_get("age")?).unwrap_or_default() })
            }
        };
        Ok(OutboxProgress { newest: row.try_get("newest")?, oldest })
    }

    /// Marks rows of the outbox as told, but for those that a worker holds.
    pub async fn mark_told(&self, ids: &[i64]) -> Result<(), StoreError> {
        self.query(sql::MARK_TOLD, &[(&ids, Type::INT8_ARRAY)]).await.map(drop)
    }

    /// A page of events other than changes for these conversations, with an outbox id above `after_id`, by id.
    pub async fn other_events(
        &self,
        conversations: &[Uuid],
        after_id: i64,
        limits: PageLimits,
    ) -> Result<Page<OutboxEvent>, StoreError> {
        let (most_rows, most_bytes) = limits.as_int8();
        let parameters: [Param<'_>; 4] = [
            (&conversations, Type::UUID_ARRAY),
            (&after_id, Type::INT8),
            (&most_rows, Type::INT8),
            (&most_bytes, Type::INT8),
        ];
        page(self.transaction(sql::BEGIN_READ_EVENTS, sql::READ_EVENTS, &parameters).await?, |row| {
            let Some(payload) = row.try_get(3)? else { return Ok(None) };
            Ok(Some(OutboxEvent {
                id: row.try_get(0)?,
                kind: row.try_get(1)?,
                conversation_id: row.try_get(2)?,
                payload,
            }))
        })
    }

    /// The newest outbox id, or 0.
    pub async fn newest_outbox_id(&self) -> Result<i64, StoreError> {
        let rows = self.query(sql::NEWEST_OUTBOX_ID, &[]).await?;
        Ok(rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(0))
    }
}
