//! The ids of stored messages.

/// A change's position in its conversation: 1, 2, 3 … without gaps, in the order of commits. 0 is before the first. A
/// message's own place is that of its creation.
pub type Seq = i64;

/// The ids of a stored message.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StoredIds {
    /// `messages.id`.
    #[serde(rename = "message_id")]
    pub id: i64,
    /// `messages.seq`.
    pub seq: Seq,
    /// The time in UTC, as RFC 3339 text.
    pub created_at: String,
}

/// What a stored change of a message made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredChange {
    /// Of the change.
    pub seq: Seq,
    /// `messages.version` after it.
    pub version: i32,
    /// The time in UTC, as RFC 3339 text.
    pub at: String,
}
