//! Who takes part in what, and where a client that comes back goes on.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arcyou_protocol::{Failure, Seq};
use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{Param, Store, StoreError, logged, sql};
use crate::authorize::Participants;

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

/// A member (conversation, user) and the role that it is known by.
pub type MemberRole = (Uuid, Uuid, Arc<str>);

/// What became of a participant's role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleChange {
    pub conversation: Uuid,
    pub user: Uuid,
    /// None: the user does not participate any more.
    pub role: Option<String>,
}

impl Store {
    /// A user's participation in a conversation; none if the user does not participate or there is no such
    /// conversation.
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
    /// the last one before it, or 0 if that is not among the newest `look_at`. None for an id that is higher than any
    /// the conversation ever had.
    pub async fn seqs_of(&self, messages: &[(Uuid, i64)], look_at: Seq) -> Result<HashMap<Uuid, Seq>, StoreError> {
        let (conversations, ids): (Vec<Uuid>, Vec<i64>) = messages.iter().copied().unzip();
        let parameters: [Param<'_>; 3] =
            [(&conversations, Type::UUID_ARRAY), (&ids, Type::INT8_ARRAY), (&look_at, Type::INT8)];
        let rows = self.query(sql::SEQS_OF, &parameters).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// Of these members those whose role is another by now.
    pub async fn changed_roles(&self, members: &[MemberRole]) -> Result<Vec<RoleChange>, StoreError> {
        let conversations: Vec<Uuid> = members.iter().map(|(conversation, ..)| *conversation).collect();
        let users: Vec<Uuid> = members.iter().map(|(_, user, _)| *user).collect();
        let roles: Vec<&str> = members.iter().map(|(.., role)| &**role).collect();
        let parameters: [Param<'_>; 3] =
            [(&conversations, Type::UUID_ARRAY), (&users, Type::UUID_ARRAY), (&roles, Type::TEXT_ARRAY)];
        let rows = self.query(sql::CHANGED_ROLES, &parameters).await?;
        let change = |row: &Row| {
            let (conversation, user) = (row.try_get("conversation_id")?, row.try_get("user_id")?);
            Ok(RoleChange { conversation, user, role: row.try_get("role")? })
        };
        rows.iter().map(change).collect()
    }

    /// Of these conversations those that do not exist.
    pub async fn absent(&self, conversations: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
        let rows = self.query(sql::ABSENT, &[(&conversations, Type::UUID_ARRAY)]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Of these (conversation, user) pairs those that do not participate any more.
    pub async fn not_participants(&self, members: &[(Uuid, Uuid)]) -> Result<Vec<(Uuid, Uuid)>, StoreError> {
        let (conversations, users): (Vec<Uuid>, Vec<Uuid>) = members.iter().copied().unzip();
        let rows = self
            .query(sql::NOT_PARTICIPANTS, &[(&conversations, Type::UUID_ARRAY), (&users, Type::UUID_ARRAY)])
            .await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}

#[async_trait]
impl Participants for Store {
    async fn role(&self, conversation: Uuid, user: Uuid) -> Result<Option<String>, Failure> {
        let participation = self.participation(conversation, user).await.map_err(logged)?;
        Ok(participation.map(|participation| participation.role))
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
