//! Users are taken out of the database.

use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{MessagePlace, Param, Store, StoreError, user_sql};

/// A part of an erasure that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErasedPart {
    /// Messages that it deleted.
    pub deleted: i64,
    /// Where the next part begins; none: all is done.
    pub next: Option<MessagePlace>,
}

impl Store {
    /// Does a part of an erasure, after this place (none: from the beginning), in a transaction of its own. It walks so
    /// many messages, of whomever they are.
    pub async fn erase_part(
        &self,
        user: Uuid,
        after: Option<MessagePlace>,
        messages: i32,
    ) -> Result<ErasedPart, StoreError> {
        let (conversation, seq) = (after.map(|place| place.conversation), after.map(|place| place.seq));
        let parameters: [Param<'_>; 4] =
            [(&user, Type::UUID), (&conversation, Type::UUID), (&seq, Type::INT8), (&messages, Type::INT4)];
        let rows = self.change_in(user_sql::BEGIN_ERASE, Some(user), user_sql::ERASE_USER, &parameters).await?;
        let row = rows.first().ok_or_else(|| StoreError::Unknown("no place".to_owned()))?;
        let next = match (row.try_get(0)?, row.try_get(1)?) {
            (Some(conversation), Some(seq)) => Some(MessagePlace { conversation, seq }),
            _ => None,
        };
        Ok(ErasedPart { deleted: row.try_get(2)?, next })
    }
}
