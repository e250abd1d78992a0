//! What plugins did to messages, for whoever asks later.

use std::future::Future;
use std::time::Duration;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};
use uuid::Uuid;

use super::commit::NewMessage;
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
        let By { plugins, versions, digests } = By::of(kept.iter().map(|kept| &*kept.by));
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

/// Columns of the plugins that decided.
struct By<'a> {
    plugins: Vec<&'a str>,
    versions: Vec<Option<&'a str>>,
    digests: Vec<&'a str>,
}

impl<'a> By<'a> {
    fn of(all: impl Iterator<Item = &'a Provenance> + Clone) -> Self {
        Self {
            plugins: all.clone().map(|by| &*by.plugin).collect(),
            versions: all.clone().map(|by| by.version.as_deref()).collect(),
            digests: all.map(|by| &*by.sha256).collect(),
        }
    }
}

/// Inside a batch's transaction, after its insert: a row for each message of it that was held, or stored with another body.
/// Sends nothing when there is none.
pub(super) fn note_batch<'a>(
    client: &'a Client,
    batch: &'a [&NewMessage],
) -> impl Future<Output = Result<(), Error>> + 'a {
    let decided: Vec<(&NewMessage, &Provenance)> =
        batch.iter().filter_map(|message| Some((*message, message.decided_by()?))).collect();
    async move {
        if decided.is_empty() {
            return Ok(());
        }
        let conversations: Vec<Uuid> = decided.iter().map(|(message, _)| message.conversation()).collect();
        let senders: Vec<Uuid> = decided.iter().map(|(message, _)| message.sender()).collect();
        let By { plugins, versions, digests } = By::of(decided.iter().map(|(_, by)| *by));
        let most = i64::try_from(batch.len()).unwrap_or(i64::MAX);
        let parameters: [Param<'_>; 6] = [
            (&conversations, Type::UUID_ARRAY),
            (&senders, Type::UUID_ARRAY),
            (&plugins, Type::TEXT_ARRAY),
            (&versions, Type::TEXT_ARRAY),
            (&digests, Type::TEXT_ARRAY),
            (&most, Type::INT8),
        ];
        client.query_typed(sql::AUDIT_BATCH, &parameters).await.map(|_| ())
    }
}
