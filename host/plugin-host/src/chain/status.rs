//! What operators are shown of one plugin.

use std::collections::BTreeMap;

use super::breaker::BreakerState;

/// How a plugin is doing, for `/ready`.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PluginStatus {
    pub plugin: String,
    /// What its author calls this version, if the file says.
    pub version: Option<String>,
    /// The digest of its file, in hexadecimal digits.
    pub sha256: String,
    /// Whether its verdict counters.
    pub mode: &'static str,
    /// The hooks that it implements, by their names.
    pub hooks: Vec<&'static str>,
    /// Open as soon as one of its hooks is not called.
    pub breaker: BreakerState,
    /// Its failures since it was loaded.
    pub failures: u64,
    /// The kind and the text of the last one.
    pub last_failure: Option<String>,
    /// Those failures by kind.
    pub failures_by_kind: BTreeMap<&'static str, u64>,
    /// Its verdicts since it was loaded, each hook's.
    pub verdicts: BTreeMap<&'static str, u64>,
    /// Calls that were not made, because it rests or the chain's time was up.
    pub skipped: u64,
    /// Instances that there are now.
    pub instances: usize,
    /// Bytes of memory that they hold.
    pub memory_bytes: usize,
    /// Instances started since it was loaded.
    pub instances_started: u64,
    /// Whether it is new, and the version before is kept in case it fails.
    pub watched: bool,
    /// The version that it stands in for, since that one failed.
    pub rolled_back: Option<RolledBack>,
}

/// A version that failed, in whose place the one before runs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RolledBack {
    /// The digest of its file, in hexadecimal digits.
    pub sha256: String,
    /// What its author calls it, if the file says.
    pub version: Option<String>,
    pub reason: String,
    /// When, in UTC, as RFC 3339.
    pub at: String,
}
