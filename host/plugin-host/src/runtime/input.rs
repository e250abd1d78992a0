//! What a hook is asked about.

use std::sync::Arc;
use std::time::Instant;

/// What a plugin noted about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Annotation {
    pub(crate) plugin: Arc<str>,
    pub(crate) key: String,
    pub(crate) value: String,
}

/// A message as one plugin is asked about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HookInput<'a> {
    pub(crate) conversation: &'a str,
    pub(crate) sender: &'a str,
    pub(crate) role: &'a str,
    /// As the plugin before left it.
    pub(crate) body: &'a str,
    /// What the plugins before noted.
    pub(crate) annotations: &'a [Annotation],
    /// When all plugins must be done; none: whenever.
    pub(crate) deadline: Option<Instant>,
    /// The time, if it was just looked at.
    pub(crate) now: Option<Instant>,
}
