//! What a stored message is known by.

/// A message's place in its conversation: 1, 2, 3 … without holes, in the order of commits. 0 is before the first.
pub type Seq = i64;

/// What a stored message is known by.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StoredIds {
    /// `messages.id`.
    #[serde(rename = "message_id")]
    pub id: i64,
    /// `messages.seq`.
    pub seq: Seq,
    /// When, in UTC, as RFC 3339 text.
    pub created_at: String,
}
