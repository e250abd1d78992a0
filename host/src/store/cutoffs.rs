//! Users who were disconnected, and since when their older tokens are refused.

use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{Param, Store, StoreError, sql};

/// Rows of one page.
const PAGE_ROWS: i64 = 1000;

/// A disconnection. Tokens that were issued before it are refused.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cutoff {
    pub user: Uuid,
    /// In seconds since the epoch, by the database's clock.
    pub not_before: f64,
}

/// A place among the disconnections, by the transactions that wrote them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutoffPlace {
    transaction: i64,
    user: Uuid,
}

impl CutoffPlace {
    /// After all that there will ever be.
    pub const END: Self = Self { transaction: i64::MAX, user: Uuid::max() };

    /// Before all that this transaction, or a later one, writes.
    pub fn before(transaction: i64) -> Self {
        Self { transaction: transaction.saturating_sub(1), user: Uuid::max() }
    }
}

/// A page of disconnections.
#[derive(Debug, Clone, PartialEq)]
pub struct CutoffPage {
    pub cutoffs: Vec<Cutoff>,
    /// Where the next page begins, if there may be one.
    pub next: Option<CutoffPlace>,
    /// The oldest transaction that had not ended when the page was read: what all earlier ones wrote can be seen.
    pub oldest_running: i64,
}

impl Store {
    /// Disconnects a user: every gateway closes the user's sockets within about a second, and tokens that were issued
    /// before now are refused. Answers since when, in UTC, as RFC 3339 text.
    pub async fn cut_off(&self, user: Uuid) -> Result<String, StoreError> {
        // Under a stricter isolation level two at once would fail one another.
        let rows = self.change(user, sql::DISCONNECT_USER, &[(&user, Type::UUID)]).await?;
        let row = rows.first().ok_or_else(|| StoreError::Unknown("no time".to_owned()))?;
        Ok(row.try_get(0)?)
    }

    /// The disconnections of these users.
    pub async fn cutoffs_of(&self, users: &[Uuid]) -> Result<Vec<Cutoff>, StoreError> {
        let rows = self.query(sql::CUTOFFS_OF, &[(&users, Type::UUID_ARRAY)]).await?;
        rows.iter().map(cutoff).collect()
    }

    /// A page of disconnections after a place, in the order of the transactions that wrote them.
    pub async fn cutoffs_after(&self, place: CutoffPlace) -> Result<CutoffPage, StoreError> {
        let CutoffPlace { transaction, user } = place;
        let parameters: [Param<'_>; 3] = [(&transaction, Type::INT8), (&user, Type::UUID), (&PAGE_ROWS, Type::INT8)];
        let rows = self.query(sql::CUTOFFS_AFTER, &parameters).await?;
        let first = rows.first().ok_or_else(|| StoreError::NotUnderstood("no snapshot".to_owned()))?;
        let oldest_running = first.try_get("oldest_running")?;
        // Without any there is one row, of nulls.
        let found: Vec<&Row> = match first.try_get::<_, Option<Uuid>>("user_id")? {
            Some(_) => rows.iter().collect(),
            None => Vec::new(),
        };
        let next = match found.last() {
            Some(last) if found.len() as i64 == PAGE_ROWS => {
                Some(CutoffPlace { transaction: last.try_get("changed_in")?, user: last.try_get("user_id")? })
            }
            _ => None,
        };
        let cutoffs = found.into_iter().map(cutoff).collect::<Result<_, _>>()?;
        Ok(CutoffPage { cutoffs, next, oldest_running })
    }
}

fn cutoff(row: &Row) -> Result<Cutoff, StoreError> {
    Ok(Cutoff { user: row.try_get("user_id")?, not_before: row.try_get("not_before")? })
}
