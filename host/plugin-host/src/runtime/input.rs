//! The input of a hook.

use std::sync::Arc;
use std::time::Instant;

/// A key and a value that a plugin attached to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Annotation {
    pub(crate) plugin: Arc<str>,
    pub(crate) key: String,
    pub(crate) value: String,
}

/// What an edit is about: a stored message, as it stands now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EditedInput<'a> {
    pub(crate) message_id: i64,
    pub(crate) version: u32,
    /// The body that stands, which no plugin of the chain changes.
    pub(crate) body: &'a str,
}

/// A message or an edit as it is passed to one hook of one plugin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HookInput<'a> {
    pub(crate) conversation: &'a str,
    pub(crate) sender: &'a str,
    pub(crate) role: &'a str,
    /// The body, as the plugins before left it.
    pub(crate) body: &'a str,
    /// The annotations of the plugins before.
    pub(crate) annotations: &'a [Annotation],
    /// What it edits. None for a message that is sent, and for a join.
    pub(crate) edits: Option<EditedInput<'a>>,
    /// When the whole chain must be done. None: no limit.
    pub(crate) deadline: Option<Instant>,
    /// The current time, if the caller has just read the clock. Reading it costs as much as a short call.
    pub(crate) now: Option<Instant>,
}
