//! Who has blocked whom.

use serde::Serialize;
use tokio_postgres::types::Type;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Page, Param, Store, StoreError, directory, sql};

/// A user who is blocked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct BlockedUser {
    pub user_id: Uuid,
    /// Since when, in UTC, as RFC 3339 text.
    pub created_at: String,
}

impl Store {
    /// A page of those whom a user has blocked, after this one, in the order of ids.
    pub async fn blocks(&self, user: Uuid, after: Option<Uuid>, limit: i64) -> Result<Page<BlockedUser>, StoreError> {
        let parameters: [Param<'_>; 3] = [(&user, Type::UUID), (&after, Type::UUID), (&(limit + 1), Type::INT8)];
        let rows = self.query(sql::BLOCKS, &parameters).await?;
        directory::page(&rows, limit, |row| Ok(BlockedUser { user_id: row.try_get(0)?, created_at: row.try_get(1)? }))
    }

    /// Blocks another user. Nothing of what is refused from then on is stored after the answer.
    pub async fn block(&self, user: Uuid, blocked: Uuid) -> Result<(), StoreError> {
        let parameters: [Param<'_>; 2] = [(&user, Type::UUID), (&blocked, Type::UUID)];
        self.change(user, sql::BLOCK, &parameters).await.map(drop)
    }

    /// Takes that back.
    pub async fn unblock(&self, user: Uuid, blocked: Uuid) -> Result<(), StoreError> {
        self.change(user, sql::UNBLOCK, &[(&user, Type::UUID), (&blocked, Type::UUID)]).await.map(drop)
    }
}
