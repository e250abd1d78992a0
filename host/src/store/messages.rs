//! What conversations hold: messages and changes, page by page.

use arcyou_protocol::Seq;
use tokio_postgres::Error;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::page::page;
use super::{Page, PageLimits, Param, Store, StoreError, sql};

/// A message as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its place in the conversation.
    pub seq: Seq,
    /// The message object's JSON text, as clients see it.
    pub json: String,
}

/// A change as it is told now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeEvent {
    /// Its place in the conversation.
    pub seq: Seq,
    /// Its event's `type`.
    pub kind: String,
    /// The payload's JSON text.
    pub payload: String,
}

/// A part of a conversation's changes, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangePage {
    /// What fits; empty only if there is nothing.
    pub items: Vec<ChangeEvent>,
    /// Whether there are more after these.
    pub more: bool,
    /// If some of what was asked for is purged: the newest change that is. The page begins after it.
    pub purged: Option<Seq>,
}

/// A message that somebody wants to edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingMessage {
    /// Who wrote it.
    pub sender: Uuid,
    pub version: i32,
    /// The body's text; none: it is deleted.
    pub body: Option<String>,
}

/// A window on a conversation's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// Newest first, below this `seq`.
    Before(Seq),
    /// Oldest first, above this `seq`.
    After(Seq),
}

impl Store {
    /// A message as it stands; none if the conversation has no such message.
    pub async fn standing_message(
        &self,
        conversation: Uuid,
        message_id: i64,
    ) -> Result<Option<StandingMessage>, StoreError> {
        let parameters: [Param<'_>; 2] = [(&conversation, Type::UUID), (&message_id, Type::INT8)];
        let rows = self.query(sql::STANDING_MESSAGE, &parameters).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(StandingMessage {
            sender: row.try_get("sender_id")?,
            version: row.try_get("version")?,
            body: row.try_get("body")?,
        }))
    }

    /// A page of a conversation's messages as `viewer` sees them, or of one of them and the replies to it.
    pub async fn messages(
        &self,
        conversation: Uuid,
        window: Window,
        limits: PageLimits,
        viewer: Uuid,
        thread: Option<i64>,
    ) -> Result<Page<StoredMessage>, StoreError> {
        let (after, before) = match window {
            Window::After(seq) => (Some(seq), None),
            Window::Before(seq) => (None, Some(seq)),
        };
        let (most_rows, most_bytes) = limits.as_int8();
        let parameters: [Param<'_>; 7] = [
            (&conversation, Type::UUID),
            (&after, Type::INT8),
            (&before, Type::INT8),
            (&most_rows, Type::INT8),
            (&most_bytes, Type::INT8),
            (&viewer, Type::UUID),
            (&thread, Type::INT8),
        ];
        page(self.query(sql::READ_MESSAGES, &parameters).await?, |row| {
            let (seq, json) = (row.try_get(0)?, row.try_get::<_, Option<String>>(1)?);
            Ok(json.map(|json| StoredMessage { seq, json }))
        })
    }

    /// A page of a conversation's changes after `after`, as they are told now, oldest first.
    pub async fn changes_after(
        &self,
        conversation: Uuid,
        after: Seq,
        limits: PageLimits,
    ) -> Result<ChangePage, StoreError> {
        let (most_rows, most_bytes) = limits.as_int8();
        let parameters: [Param<'_>; 4] =
            [(&conversation, Type::UUID), (&after, Type::INT8), (&most_rows, Type::INT8), (&most_bytes, Type::INT8)];
        let mut rows = self.query(sql::READ_CHANGES, &parameters).await?;
        let first = rows.first().map(|row| Ok::<_, Error>((row.try_get(0)?, row.try_get::<_, Option<&str>>(1)?)));
        let purged = first.transpose()?.and_then(|(seq, kind)| kind.is_none().then_some(seq));
        if purged.is_some() {
            rows.remove(0);
        }
        let Page { items, more } = page(rows, |row| {
            let Some(payload) = row.try_get(2)? else { return Ok(None) };
            Ok(Some(ChangeEvent { seq: row.try_get(0)?, kind: row.try_get(1)?, payload }))
        })?;
        Ok(ChangePage { items, more, purged })
    }

    /// Of these rooms (conversation, last delivered `seq`) those whose conversation has gone further.
    pub async fn behind(&self, rooms: &[(Uuid, Seq)]) -> Result<Vec<Uuid>, StoreError> {
        let (ids, delivered): (Vec<Uuid>, Vec<Seq>) = rooms.iter().copied().unzip();
        let rows = self.query(sql::BEHIND, &[(&ids, Type::UUID_ARRAY), (&delivered, Type::INT8_ARRAY)]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}
