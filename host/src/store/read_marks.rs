//! How far participants have read.

use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{Param, Store, StoreError, sql};

/// Whether a read mark that moves is told to its conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tell {
    Now,
    Later,
}

/// What became of a reader's mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadMark {
    /// The mark stands here now, whether it moved or stood further ahead already.
    At {
        /// `participants.last_read_id`.
        last_read_id: i64,
        /// Whether this call moved it.
        moved: bool,
    },
    /// The conversation never had such a message.
    UnknownMessage,
    /// The user does not participate.
    NotParticipant,
}

impl Store {
    /// Moves a reader's mark forward, never back.
    pub async fn mark_read(
        &self,
        conversation: Uuid,
        user: Uuid,
        message_id: i64,
        tell: Tell,
    ) -> Result<ReadMark, StoreError> {
        let now = tell == Tell::Now;
        let parameters: [Param<'_>; 4] =
            [(&conversation, Type::UUID), (&user, Type::UUID), (&message_id, Type::INT8), (&now, Type::BOOL)];
        // Under a stricter isolation level two marks at once would fail one another.
        let rows = self.change(user, sql::MARK_READ, &parameters).await?;
        let Some(row) = rows.first() else { return Ok(ReadMark::NotParticipant) };
        if !row.try_get::<_, bool>(0)? {
            return Ok(ReadMark::UnknownMessage);
        }
        Ok(ReadMark::At { last_read_id: row.try_get(1)?, moved: row.try_get(2)? })
    }

    /// Tells conversations of the read marks of these (conversation, user) pairs.
    pub async fn tell_read_marks(&self, readers: &[(Uuid, Uuid)]) -> Result<(), StoreError> {
        let (conversations, users): (Vec<Uuid>, Vec<Uuid>) = readers.iter().copied().unzip();
        let parameters: [Param<'_>; 2] = [(&conversations, Type::UUID_ARRAY), (&users, Type::UUID_ARRAY)];
        self.query(sql::TELL_READ_MARKS, &parameters).await.map(drop)
    }
}
