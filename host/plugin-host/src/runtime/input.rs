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

/// A message as it is passed to one hook of one plugin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HookInput<'a> {
    pub(crate) conversation: &'a str,
    pub(crate) sender: &'a str,
    pub(crate) role: &'a str,
    /// The body, as the plugins before left it.
    pub(crate) body: &'a str,
    /// The annotations of the plugins before.
    pub(crate) annotations: &'a [Annotation],
    /// When the whole chain must be done. None: no limit.
    pub(crate) deadline: Option<Instant>,
    /// The current time, if the caller has just read the clock. Reading it costs as much as a short call.
    pub(crate) now: Option<Instant>,
}
