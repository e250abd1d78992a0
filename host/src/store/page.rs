//! Pages that end at a number of rows or of bytes, whichever comes first.

use tokio_postgres::Row;

use super::StoreError;

/// Where a page ends: it has one row at least, and otherwise keeps to both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimits {
    /// Rows at most.
    pub rows: u32,
    /// Bytes of text at most. A first row that is larger comes alone.
    pub bytes: usize,
}

impl PageLimits {
    /// The same as the database counts.
    pub(super) fn as_int8(self) -> (i64, i64) {
        (i64::from(self.rows), i64::try_from(self.bytes).unwrap_or(i64::MAX))
    }
}

/// A part of what there is, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// What fits; empty only if there is nothing.
    pub items: Vec<T>,
    /// Whether there are more after these.
    pub more: bool,
}

/// Reads a page; `item` answers none for the row that only says that there are more.
pub(super) fn page<T>(
    rows: Vec<Row>,
    item: impl Fn(&Row) -> Result<Option<T>, tokio_postgres::Error>,
) -> Result<Page<T>, StoreError> {
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        match item(&row)? {
            Some(item) => items.push(item),
            None => return Ok(Page { items, more: true }),
        }
    }
    Ok(Page { items, more: false })
}
