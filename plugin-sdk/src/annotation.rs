//! What plugins note about a message.

/// One key and its value, noted by a plugin beside its verdict. Stored with the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// What it is about.
    pub key: String,
    /// What it says.
    pub value: String,
}
