//! Which plugin it was: its name, its version and its file's digest.

use std::sync::Arc;

/// Which plugin decided something, exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// Its name in the chain.
    pub plugin: Arc<str>,
    /// The digest of its file, in hexadecimal digits.
    pub sha256: Arc<str>,
    /// What its author calls this version, if the file says.
    pub version: Option<Arc<str>>,
}
