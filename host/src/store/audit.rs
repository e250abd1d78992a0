//! What plugins did to messages, for whoever asks later.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arcyou_plugin_host::{KeptRecord, Provenance};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{Param, Store, StoreError, sql};

/// A message that a plugin kept from being stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// The conversation it was for.
    pub conversation: Uuid,
    pub sender: Uuid,
    /// `rejected`, `discarded` or `failed`.
    pub verdict: &'static str,
    pub by: Arc<Provenance>,
    pub code: Option<String>,
    pub reason: Option<String>,
    /// When the plugin had decided.
    pub at: Instant,
}

impl Store {
    /// Writes a row for each, without the reason if its sender was disconnected since or just before: a user who is
    /// erased leaves no text. On an error none was written, save for [`StoreError::Lost`].
    pub async fn insert_audit(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        let conversations: Vec<Uuid> = entries.iter().map(|entry| entry.conversation).collect();
        let senders: Vec<Uuid> = entries.iter().map(|entry| entry.sender).collect();
        let verdicts: Vec<&str> = entries.iter().map(|entry| entry.verdict).collect();
        let plugins: Vec<&str> = entries.iter().map(|entry| &*entry.by.plugin).collect();
        let versions: Vec<Option<&str>> = entries.iter().map(|entry| entry.by.version.as_deref()).collect();
        let digests: Vec<&str> = entries.iter().map(|entry| &*entry.by.sha256).collect();
        let codes: Vec<Option<&str>> = entries.iter().map(|entry| entry.code.as_deref()).collect();
        let reasons: Vec<Option<&str>> = entries.iter().map(|entry| entry.reason.as_deref()).collect();
        let ages: Vec<f64> = entries.iter().map(|entry| entry.at.elapsed().as_secs_f64()).collect();
        let parameters: [Param<'_>; 9] = [
            (&conversations, Type::UUID_ARRAY),
            (&senders, Type::UUID_ARRAY),
            (&verdicts, Type::TEXT_ARRAY),
            (&plugins, Type::TEXT_ARRAY),
            (&versions, Type::TEXT_ARRAY),
            (&digests, Type::TEXT_ARRAY),
            (&codes, Type::TEXT_ARRAY),
            (&reasons, Type::TEXT_ARRAY),
            (&ages, Type::FLOAT8_ARRAY),
        ];
        self.transaction(sql::BEGIN_READ_COMMITTED, sql::AUDIT_KEPT, &parameters).await.map(drop)
    }

    /// The records that may quote what was deleted: a message of their sender was, since `before` the record was
    /// written, or their conversation. `before` covers what two clocks differ by.
    pub async fn quoting_deleted(
        &self,
        records: &[KeptRecord],
        before: Duration,
    ) -> Result<Vec<KeptRecord>, StoreError> {
        let conversations: Vec<Uuid> = records.iter().map(|record| record.conversation).collect();
        let senders: Vec<Uuid> = records.iter().map(|record| record.sender).collect();
        let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(before);
        let times: Vec<f64> = records.iter().map(|record| since(record.written).as_secs_f64()).collect();
        let parameters: [Param<'_>; 3] =
            [(&conversations, Type::UUID_ARRAY), (&senders, Type::UUID_ARRAY), (&times, Type::FLOAT8_ARRAY)];
        let rows = self.query(sql::DELETED_SINCE, &parameters).await?;
        let place = |row: &Row| Ok(usize::try_from(row.try_get::<_, i64>(0)?).unwrap_or_default());
        let places: Vec<usize> = rows.iter().map(place).collect::<Result<_, StoreError>>()?;
        Ok(places.into_iter().filter_map(|place| records.get(place.wrapping_sub(1)).cloned()).collect())
    }

    /// Removes the oldest rows, at most `limit`, that are older than `age`. Answers how many.
    pub async fn prune_audit(&self, age: Duration, limit: i64) -> Result<u64, StoreError> {
        let seconds = age.as_secs_f64();
        let rows = self.query(sql::AUDIT_PRUNE, &[(&seconds, Type::FLOAT8), (&limit, Type::INT8)]).await?;
        Ok(rows.len() as u64)
    }
}
