//! What an idempotency key stands for already.

use arcyou_protocol::{StoredChange, StoredIds};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{Param, Store, StoreError, rows, sql};

/// Where an idempotency key was used before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExistingSend {
    /// The message is stored.
    Stored {
        ids: StoredIds,
        /// Its body's text as it stands, if that may be another one than was sent: a plugin decided about it, or it was
        /// edited since.
        body: Option<String>,
    },
    /// The message is held for review, under this id.
    Held(i64),
}

/// Where an edit's idempotency key was used before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExistingEdit {
    /// The edit is stored.
    Stored {
        message_id: i64,
        change: StoredChange,
        /// As of [`ExistingSend::Stored`].
        body: Option<String>,
    },
    /// The edit is held for review.
    Held {
        message_id: i64,
        /// In `held_messages`.
        id: i64,
    },
}

impl ExistingEdit {
    /// The message that it edits.
    pub fn message_id(&self) -> i64 {
        match self {
            Self::Stored { message_id, .. } | Self::Held { message_id, .. } => *message_id,
        }
    }
}

impl Store {
    /// The earlier message of this sender with this key, if there is one.
    pub async fn find_by_key(
        &self,
        conversation: Uuid,
        sender: Uuid,
        key: &str,
    ) -> Result<Option<ExistingSend>, StoreError> {
        let rows = self
            .query(sql::FIND_BY_KEY, &[(&conversation, Type::UUID), (&sender, Type::UUID), (&key, Type::TEXT)])
            .await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(match rows::stored_ids(row)? {
            Some(ids) => ExistingSend::Stored { ids, body: row.try_get("body")? },
            None => ExistingSend::Held(row.try_get("id")?),
        }))
    }

    /// The earlier edit of this user with this key, if there is one.
    pub async fn find_edit_by_key(
        &self,
        conversation: Uuid,
        user: Uuid,
        key: &str,
    ) -> Result<Option<ExistingEdit>, StoreError> {
        let parameters: [Param<'_>; 3] = [(&conversation, Type::UUID), (&user, Type::UUID), (&key, Type::TEXT)];
        let rows = self.query(sql::FIND_EDIT_BY_KEY, &parameters).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let message_id = row.try_get("message_id")?;
        Ok(Some(match rows::stored_change(row)? {
            Some(change) => ExistingEdit::Stored { message_id, change, body: row.try_get("body")? },
            None => ExistingEdit::Held { message_id, id: row.try_get("held_id")? },
        }))
    }
}
