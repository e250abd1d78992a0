//! The identity of a plugin: its name, its version and its file's digest.

use std::sync::Arc;

/// Identifies the plugin that decided something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// Its name in the chain.
    pub plugin: Arc<str>,
    /// The digest of its file, in hexadecimal.
    pub sha256: Arc<str>,
    /// The author's version, if the file contains one.
    pub version: Option<Arc<str>>,
}
