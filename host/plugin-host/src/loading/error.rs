//! Why plugins cannot be loaded, in words that say what to do.

use std::io;
use std::path::PathBuf;

use super::cases::CaseFailure;
use crate::bindings::INTERFACE_VERSION;
use crate::capabilities::Capability;
use crate::manifest::Entry;
use crate::runtime::crash_mark::QUARANTINE_HELP;

/// Why the plugins of a directory cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The engine does not start.
    #[error("the plugin engine does not start: {0}")]
    Engine(String),
    /// A file or directory cannot be read.
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// `plugins.toml` is invalid.
    #[error("plugins.toml: {0}")]
    Manifest(String),
    /// A file is not WebAssembly, or is damaged.
    #[error("plugin {plugin}: {reason}")]
    Invalid { plugin: String, reason: String },
    /// A plugin imports something that is not granted. The remedy says what to write.
    #[error("plugin {plugin}: it imports {}; {remedy}", ungranted(imports))]
    Import { plugin: String, imports: Vec<String>, remedy: String },
    /// A capability cannot be granted on this machine.
    #[error("plugin {plugin}: {reason}")]
    Grant { plugin: String, reason: String },
    /// A component exports no hook that the gateway calls.
    #[error(
        "plugin {plugin}: it exports none of the hooks validate, filter, on-join of `arcyou:gateway@{}`",
        INTERFACE_VERSION
    )]
    NoHook { plugin: String },
    /// A component was built for another version of the interface.
    #[error(
        "plugin {plugin}: it exports `{export}`, and this gateway knows only `arcyou:gateway@{}`: configure, validate, \
         filter, on-join; build it with the SDK of this gateway, or run the gateway that it was built for",
        INTERFACE_VERSION
    )]
    Version { plugin: String, export: String },
    /// A plugin refuses its configuration; the reason is its own.
    #[error("plugin {plugin} refuses its configuration: {reason}")]
    Config { plugin: String, reason: String },
    /// A plugin does not pass the cases beside its file.
    #[error("plugin {plugin}: the cases in {failure}")]
    Cases { plugin: String, failure: CaseFailure },
    /// A file is not on the list of allowed files.
    #[error("plugin {plugin}: {file} is not allowed: its SHA-256 {sha256} is not in `allowed_sha256` of plugins.toml")]
    NotAllowed { plugin: String, file: String, sha256: String },
    /// A process died while it compiled or ran this file.
    #[error("plugin {plugin}: a gateway died while it compiled or ran this file; replace the file ({QUARANTINE_HELP})")]
    Crashed { plugin: String },
    /// A plugin does not start.
    #[error("plugin {plugin} does not start: {reason}")]
    Start { plugin: String, reason: String },
    /// Several plugins cannot be loaded, each for its own reason.
    #[error("{}", joined(.0))]
    Several(Vec<LoadError>),
}

/// Imports that a message names. More are counted.
const SHOWN_IMPORTS: usize = 8;

/// The imports that are not granted, for a message.
fn ungranted(imports: &[String]) -> String {
    let shown: Vec<String> = imports.iter().take(SHOWN_IMPORTS).map(|import| format!("`{import}`")).collect();
    let more = imports.len().saturating_sub(SHOWN_IMPORTS);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let are = if imports.len() == 1 { "is" } else { "are" };
    format!("{}{more}, which {are} not granted", shown.join(", "))
}

/// What to do about all imports that are not granted.
pub(super) fn remedy(entry: &Entry, imports: &[String]) -> String {
    let wanted: Option<Vec<Capability>> = imports.iter().map(|import| Capability::of_import(import)).collect();
    let Some(wanted) = wanted else {
        return format!(
            "of `arcyou:gateway@{INTERFACE_VERSION}` it may import log, and clock, random, kv and http if they are \
             granted"
        );
    };
    let line = entry.grants.line_with(&wanted);
    let hosts = match wanted.contains(&Capability::Http) {
        true => ", and below it [plugin.http] with hosts = [\"moderation.example.com\"]",
        false => "",
    };
    match entry.is_listed() {
        true => format!("write in its entry in plugins.toml: {line}{hosts}"),
        false => format!("add to plugins.toml [[plugin]] with name = \"{}\" and {line}{hosts}", entry.name),
    }
}

fn joined(errors: &[LoadError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
