//! What operators are told while the files in the plugins directory are refused and the old plugins go on.

use std::path::Path;
use std::sync::Arc;

use super::versions::rfc3339;
use crate::chain::plugin::Plugin;
use crate::loading::error::LoadError;
use crate::loading::loader::{origin_of, read_manifest};

/// The last reload, which was refused. A gateway that starts with these files refuses them too, and does not run.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RefusedReload {
    pub reason: String,
    /// The time in UTC, as RFC 3339.
    pub at: String,
    /// The plugins whose files or entries differ from what is running. Empty if nothing can be said of them, because
    /// `plugins.toml` or the directory cannot be read.
    pub waiting: Vec<WaitingPlugin>,
}

/// A plugin that waits for the directory to be accepted.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct WaitingPlugin {
    pub plugin: String,
    pub change: Change,
}

/// What would happen to a plugin if the directory were accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Its file or its entry is another one.
    Changed,
    New,
    Removed,
}

impl RefusedReload {
    pub(super) fn new(dir: &Path, error: &LoadError, loaded: &[Arc<Plugin>]) -> Self {
        Self { reason: error.to_string(), at: rfc3339(), waiting: waiting(dir, loaded).unwrap_or_default() }
    }
}

fn waiting(dir: &Path, loaded: &[Arc<Plugin>]) -> Result<Vec<WaitingPlugin>, LoadError> {
    let entries: Vec<_> = read_manifest(dir)?.entries.into_iter().filter(|entry| entry.enabled).collect();
    let is_gone = |plugin: &&Arc<Plugin>| !entries.iter().any(|entry| entry.name == plugin.name());
    let gone = loaded.iter().filter(is_gone).map(|plugin| (plugin.name().to_owned(), Change::Removed));
    let mut waiting: Vec<(String, Change)> = gone.collect();
    for entry in &entries {
        let name = entry.name.clone();
        let mut versions = loaded.iter().filter(|plugin| plugin.name() == name).peekable();
        if versions.peek().is_none() {
            waiting.push((name, Change::New));
        } else {
            // A file that cannot be read is another one.
            let origin = origin_of(dir, entry.clone()).ok();
            if !versions.any(|plugin| Some(plugin.origin()) == origin.as_ref()) {
                waiting.push((name, Change::Changed));
            }
        }
    }
    waiting.dedup();
    Ok(waiting.into_iter().map(|(plugin, change)| WaitingPlugin { plugin, change }).collect())
}
