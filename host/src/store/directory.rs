//! Conversations and who participates in them, as services see and change them.

use std::collections::BTreeMap;

use arcyou_protocol::Seq;
use serde::Serialize;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Page, Param, Store, StoreError, sql};

/// A conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Conversation {
    pub id: Uuid,
    /// The newest change's.
    pub last_seq: Seq,
    /// Messages, deleted ones included.
    pub message_count: i64,
    /// The newest message's; 0 if there never was one.
    pub last_message_id: i64,
    /// When the newest message was sent, in UTC, as RFC 3339 text.
    pub last_message_at: Option<String>,
    /// In UTC, as RFC 3339 text.
    pub created_at: String,
    /// Whether nobody may send, edit or give reactions.
    pub read_only: bool,
    /// For how many days messages are kept; null: for ever.
    pub keep_days: Option<i32>,
    /// How many messages are kept; null: all.
    pub keep_messages: Option<i64>,
    /// Messages that are gone since they were kept no longer: those numbered up to this `n`.
    pub purged_n: i64,
}

/// A conversation to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewConversation {
    pub id: Uuid,
    /// Users and their roles.
    pub participants: BTreeMap<Uuid, String>,
    /// For how many days messages are kept; none: for ever.
    pub keep_days: Option<i32>,
    /// How many messages are kept; none: all.
    pub keep_messages: Option<i64>,
}

/// What is to be different about a conversation; none: it stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConversationChange {
    /// Whether nobody may send, edit or give reactions.
    pub read_only: Option<bool>,
    /// For how many days messages are kept, or for ever.
    pub keep_days: Option<Option<i32>>,
    /// How many messages are kept, or all.
    pub keep_messages: Option<Option<i64>>,
}

/// A user who participates in a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Participant {
    pub user_id: Uuid,
    pub role: String,
    /// The newest message that the user has read; 0: none.
    pub last_read_id: i64,
    /// Since when, in UTC, as RFC 3339 text.
    pub created_at: String,
}

/// A conversation that a user participates in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Membership {
    pub conversation_id: Uuid,
    /// The user's.
    pub role: String,
    /// The newest message that the user has read; 0: none.
    pub last_read_id: i64,
    /// The conversation's newest change's.
    pub last_seq: Seq,
    /// Messages of the conversation, deleted ones included.
    pub message_count: i64,
    /// The newest message's; 0 if there never was one.
    pub last_message_id: i64,
    /// When the newest message was sent, in UTC, as RFC 3339 text.
    pub last_message_at: Option<String>,
}

/// What became of participants that were put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PutParticipants {
    /// They did not participate before.
    pub added: i64,
    /// They have another role than before.
    pub changed: i64,
}

impl Store {
    /// A page of conversations after this id, in the order of ids.
    pub async fn conversations(&self, after: Option<Uuid>, limit: i64) -> Result<Page<Conversation>, StoreError> {
        let rows = self.query(sql::CONVERSATIONS, &[(&after, Type::UUID), (&(limit + 1), Type::INT8)]).await?;
        page(&rows, limit, conversation)
    }

    /// A conversation; none if there is none with this id.
    pub async fn conversation(&self, id: Uuid) -> Result<Option<Conversation>, StoreError> {
        self.query(sql::CONVERSATION, &[(&id, Type::UUID)]).await?.first().map(conversation).transpose()
    }

    /// Makes a conversation with its participants; none if its id is taken.
    pub async fn make_conversation(&self, new: &NewConversation) -> Result<Option<Conversation>, StoreError> {
        let (users, roles): (Vec<&Uuid>, Vec<&String>) = new.participants.iter().unzip();
        let parameters: [Param<'_>; 5] = [
            (&new.id, Type::UUID),
            (&users, Type::UUID_ARRAY),
            (&roles, Type::TEXT_ARRAY),
            (&new.keep_days, Type::INT4),
            (&new.keep_messages, Type::INT8),
        ];
        self.change(new.id, sql::CONVERSATION_INSERT, &parameters).await?.first().map(conversation).transpose()
    }

    /// Changes a conversation; none if there is none with this id.
    pub async fn change_conversation(
        &self,
        id: Uuid,
        change: ConversationChange,
    ) -> Result<Option<Conversation>, StoreError> {
        let ConversationChange { read_only, keep_days, keep_messages } = change;
        let parameters: [Param<'_>; 6] = [
            (&id, Type::UUID),
            (&read_only, Type::BOOL),
            (&keep_days.is_some(), Type::BOOL),
            (&keep_days.flatten(), Type::INT4),
            (&keep_messages.is_some(), Type::BOOL),
            (&keep_messages.flatten(), Type::INT8),
        ];
        // Under a stricter isolation level a send at the same time would fail it.
        let rows = self.change(id, sql::CONVERSATION_CHANGE, &parameters).await?;
        rows.first().map(conversation).transpose()
    }

    /// Deletes a conversation with everything in it. Whether there was one.
    pub async fn delete_conversation(&self, id: Uuid) -> Result<bool, StoreError> {
        Ok(!self.change(id, sql::CONVERSATION_DELETE, &[(&id, Type::UUID)]).await?.is_empty())
    }

    /// A page of those who participate, after this user, in the order of ids.
    pub async fn participants(
        &self,
        conversation: Uuid,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Page<Participant>, StoreError> {
        let parameters: [Param<'_>; 3] =
            [(&conversation, Type::UUID), (&after, Type::UUID), (&(limit + 1), Type::INT8)];
        let rows = self.query(sql::PARTICIPANTS, &parameters).await?;
        page(&rows, limit, |row| {
            Ok(Participant {
                user_id: row.try_get(0)?,
                role: row.try_get(1)?,
                last_read_id: row.try_get(2)?,
                created_at: row.try_get(3)?,
            })
        })
    }

    /// Adds participants and gives those who participate already these roles, all or none; none if there is no such
    /// conversation.
    pub async fn put_participants(
        &self,
        conversation: Uuid,
        participants: &BTreeMap<Uuid, String>,
    ) -> Result<Option<PutParticipants>, StoreError> {
        let (users, roles): (Vec<&Uuid>, Vec<&String>) = participants.iter().unzip();
        let parameters: [Param<'_>; 3] =
            [(&conversation, Type::UUID), (&users, Type::UUID_ARRAY), (&roles, Type::TEXT_ARRAY)];
        let rows = self.change(conversation, sql::PARTICIPANTS_PUT, &parameters).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let is_there: bool = row.try_get(0)?;
        let put = PutParticipants { added: row.try_get(1)?, changed: row.try_get(2)? };
        Ok(is_there.then_some(put))
    }

    /// Removes a participant. Whether there was one.
    pub async fn remove_participant(&self, conversation: Uuid, user: Uuid) -> Result<bool, StoreError> {
        let parameters: [Param<'_>; 2] = [(&conversation, Type::UUID), (&user, Type::UUID)];
        Ok(!self.change(conversation, sql::PARTICIPANT_REMOVE, &parameters).await?.is_empty())
    }

    /// A page of what a user participates in, after this conversation, in the order of ids.
    pub async fn memberships(
        &self,
        user: Uuid,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Page<Membership>, StoreError> {
        let parameters: [Param<'_>; 3] = [(&user, Type::UUID), (&after, Type::UUID), (&(limit + 1), Type::INT8)];
        let rows = self.query(sql::MEMBERSHIPS, &parameters).await?;
        page(&rows, limit, |row| {
            Ok(Membership {
                conversation_id: row.try_get(0)?,
                role: row.try_get(1)?,
                last_read_id: row.try_get(2)?,
                last_seq: row.try_get(3)?,
                message_count: row.try_get(4)?,
                last_message_id: row.try_get(5)?,
                last_message_at: row.try_get(6)?,
            })
        })
    }

    /// A message as `viewer` sees it, and its version.
    pub async fn message(
        &self,
        conversation: Uuid,
        message: i64,
        viewer: Uuid,
    ) -> Result<Option<(i32, String)>, StoreError> {
        let parameters: [Param<'_>; 3] = [(&conversation, Type::UUID), (&message, Type::INT8), (&viewer, Type::UUID)];
        let rows = self.query(sql::MESSAGE, &parameters).await?;
        rows.first().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
    }
}

fn conversation(row: &Row) -> Result<Conversation, StoreError> {
    Ok(Conversation {
        id: row.try_get(0)?,
        last_seq: row.try_get(1)?,
        message_count: row.try_get(2)?,
        last_message_id: row.try_get(3)?,
        last_message_at: row.try_get(4)?,
        created_at: row.try_get(5)?,
        read_only: row.try_get(6)?,
        keep_days: row.try_get(7)?,
        keep_messages: row.try_get(8)?,
        purged_n: row.try_get(9)?,
    })
}

/// One row more than the limit says that there are more.
pub(super) fn page<T>(
    rows: &[Row],
    limit: i64,
    read: impl Fn(&Row) -> Result<T, StoreError>,
) -> Result<Page<T>, StoreError> {
    let shown = usize::try_from(limit).unwrap_or_default();
    let items = rows.iter().take(shown).map(read).collect::<Result<_, _>>()?;
    Ok(Page { items, more: rows.len() > shown })
}
