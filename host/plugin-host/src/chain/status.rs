//! The status of one plugin, for operators.

use std::collections::BTreeMap;

use super::breaker::BreakerState;

/// The status of a plugin, as `/ready` shows it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PluginStatus {
    pub plugin: String,
    /// The author's version, if the file contains one.
    pub version: Option<String>,
    /// The digest of its file, in hexadecimal.
    pub sha256: String,
    /// Whether its verdicts have an effect.
    pub mode: &'static str,
    /// The names of the hooks that it implements.
    pub hooks: Vec<&'static str>,
    /// Open if any of its hooks is not called, whoever the sender is.
    pub breaker: BreakerState,
    /// Senders about whose messages it is not asked, because it failed with too many of theirs, in all hooks.
    pub refused_senders: usize,
    /// Failed calls since it was loaded.
    pub failures: u64,
    /// The kind and the text of the last fault.
    pub last_failure: Option<String>,
    /// Failed calls by kind.
    pub failures_by_kind: BTreeMap<&'static str, u64>,
    /// Verdicts of all hooks since it was loaded.
    pub verdicts: BTreeMap<&'static str, u64>,
    /// Calls that were not made, because the breaker was open, the plugin is quarantined, or the chain's time was up.
    pub skipped: u64,
    /// Instances that exist now.
    pub instances: usize,
    /// Bytes of the memory of those instances.
    pub memory_bytes: usize,
    /// Instances started since it was loaded.
    pub instances_started: u64,
    /// Whether it is on probation: it is new, and the version before is kept in case it fails.
    pub watched: bool,
    /// Whether a process died while it ran this file, so that it is not called.
    pub quarantined: bool,
    /// The failed version that it replaces.
    pub rolled_back: Option<RolledBack>,
}

/// A version that failed and was replaced by the version before.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RolledBack {
    /// The digest of its file, in hexadecimal.
    pub sha256: String,
    /// The author's version, if the file contains one.
    pub version: Option<String>,
    pub reason: String,
    /// The time in UTC, as RFC 3339.
    pub at: String,
}
