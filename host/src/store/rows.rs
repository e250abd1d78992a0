//! Rows that several answers have in common.

use arcyou_protocol::{StoredChange, StoredIds};
use tokio_postgres::Row;

use super::error::StoreError;

/// The ids in a row's columns, if they are not null.
pub(super) fn stored_ids(row: &Row) -> Result<Option<StoredIds>, StoreError> {
    let (Some(id), Some(seq), Some(created_at)) = (
        row.try_get::<_, Option<i64>>("id")?,
        row.try_get::<_, Option<i64>>("seq")?,
        row.try_get::<_, Option<String>>("created_at")?,
    ) else {
        return Ok(None);
    };
    Ok(Some(StoredIds { id, seq, created_at }))
}

/// What a row's columns tell of a change, if they are not null.
pub(super) fn stored_change(row: &Row) -> Result<Option<StoredChange>, StoreError> {
    let (Some(seq), Some(version), Some(at)) = (
        row.try_get::<_, Option<i64>>("seq")?,
        row.try_get::<_, Option<i32>>("version")?,
        row.try_get::<_, Option<String>>("created_at")?,
    ) else {
        return Ok(None);
    };
    Ok(Some(StoredChange { seq, version, at }))
}
