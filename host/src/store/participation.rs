//! Who takes part in what, and where a client that comes back goes on.

use std::collections::{HashMap, HashSet};

use arcyou_protocol::Seq;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{Param, Store, StoreError, sql};

/// What a participant is to a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Participation {
    /// `participants.role`.
    pub role: String,
    /// The newest message that the participant has marked as read.
    pub last_read_id: i64,
    /// The newest message's `seq`.
    pub last_seq: Seq,
    /// The newest change that was purged; 0: none was.
    pub purged_seq: Seq,
}

impl Store {
    /// A user's participation in a conversation; none if the user does not participate or there is no such conversation.
    pub async fn participation(&self, conversation: Uuid, user: Uuid) -> Result<Option<Participation>, StoreError> {
        let rows = self.query(sql::STANDING, &[(&conversation, Type::UUID), (&user, Type::UUID)]).await?;
        rows.first().map(participation).transpose()
    }

    /// The same for several conversations, by one query: those in which the user participates.
    pub async fn participations(
        &self,
        conversations: &[Uuid],
        user: Uuid,
    ) -> Result<HashMap<Uuid, Participation>, StoreError> {
        let rows = self.query(sql::STANDINGS, &[(&conversations, Type::UUID_ARRAY), (&user, Type::UUID)]).await?;
        let standing = |row: &Row| Ok((row.try_get(4)?, participation(row)?));
        rows.iter().map(standing).collect()
    }

    /// The roles of those of these (conversation, user) pairs that participate, by one query.
    pub async fn roles(&self, members: &HashSet<(Uuid, Uuid)>) -> Result<HashMap<(Uuid, Uuid), String>, StoreError> {
        let (conversations, users): (Vec<Uuid>, Vec<Uuid>) = members.iter().copied().unzip();
        let parameters: [Param<'_>; 2] = [(&conversations, Type::UUID_ARRAY), (&users, Type::UUID_ARRAY)];
        let rows = self.query(sql::ROLES, &parameters).await?;
        rows.iter().map(|row| Ok(((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?))).collect()
    }

    /// The place of one message of each of these conversations, as its `seq`. If the message was purged it is that of
    /// the last one before it, or 0 if that is not among the newest `look_at`. None for an id that is higher than any the
    /// conversation ever had.
    pub async fn seqs_of(&self, messages: &[(Uuid, i64)], look_at: Seq) -> Result<HashMap<Uuid, Seq>, StoreError> {
        let (conversations, ids): (Vec<Uuid>, Vec<i64>) = messages.iter().copied().unzip();
        let parameters: [Param<'_>; 3] =
            [(&conversations, Type::UUID_ARRAY), (&ids, Type::INT8_ARRAY), (&look_at, Type::INT8)];
        let rows = self.query(sql::SEQS_OF, &parameters).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}

fn participation(row: &Row) -> Result<Participation, StoreError> {
    Ok(Participation {
        role: row.try_get(0)?,
        last_read_id: row.try_get(1)?,
        last_seq: row.try_get(2)?,
        purged_seq: row.try_get(3)?,
    })
}
