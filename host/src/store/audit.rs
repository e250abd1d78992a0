//! What plugins did to messages, for whoever asks later.

use std::time::Duration;

use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{Param, Store, StoreError, sql};
use crate::plugins::Provenance;

/// A message that a plugin kept from being stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The conversation it was for.
    pub conversation: Uuid,
    /// Who sent it.
    pub sender: Uuid,
    /// `rejected`, `discarded` or `failed`.
    pub verdict: &'static str,
    /// The plugin.
    pub by: std::sync::Arc<Provenance>,
    /// A rejection's token.
    pub code: Option<String>,
    /// A rejection's reason.
    pub reason: Option<String>,
}

impl Store {
    /// Writes a row for each. On an error none was written, save for [`StoreError::Lost`].
    pub async fn note_kept(&self, kept: &[Kept]) -> Result<(), StoreError> {
        let conversations: Vec<Uuid> = kept.iter().map(|kept| kept.conversation).collect();
        let senders: Vec<Uuid> = kept.iter().map(|kept| kept.sender).collect();
        let verdicts: Vec<&str> = kept.iter().map(|kept| kept.verdict).collect();
        let plugins: Vec<&str> = kept.iter().map(|kept| &*kept.by.plugin).collect();
        let versions: Vec<Option<&str>> = kept.iter().map(|kept| kept.by.version.as_deref()).collect();
        let digests: Vec<&str> = kept.iter().map(|kept| &*kept.by.sha256).collect();
        let codes: Vec<Option<&str>> = kept.iter().map(|kept| kept.code.as_deref()).collect();
        let reasons: Vec<Option<&str>> = kept.iter().map(|kept| kept.reason.as_deref()).collect();
        let parameters: [Param<'_>; 8] = [
            (&conversations, Type::UUID_ARRAY),
            (&senders, Type::UUID_ARRAY),
            (&verdicts, Type::TEXT_ARRAY),
            (&plugins, Type::TEXT_ARRAY),
            (&versions, Type::TEXT_ARRAY),
            (&digests, Type::TEXT_ARRAY),
            (&codes, Type::TEXT_ARRAY),
            (&reasons, Type::TEXT_ARRAY),
        ];
        self.query(sql::AUDIT_KEPT, &parameters).await.map(|_| ())
    }

    /// Removes the oldest rows, at most `limit`, that are older than `age`. Answers how many.
    pub async fn prune_audit(&self, age: Duration, limit: i64) -> Result<u64, StoreError> {
        let seconds = age.as_secs_f64();
        let rows = self.query(sql::AUDIT_PRUNE, &[(&seconds, Type::FLOAT8), (&limit, Type::INT8)]).await?;
        Ok(rows.len() as u64)
    }
}
