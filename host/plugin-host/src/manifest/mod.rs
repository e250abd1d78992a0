//! `plugins.toml`: which plugins, in which order, with which limits and configuration.

mod allow_list;
mod condition;
mod entry;
mod failure_policy;
mod order;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use serde_json::Value as Json;

use crate::bounded::Within;
use crate::capabilities::{Capability, Grants, HttpLimits, KvLimits};
use crate::runtime::limits::{Isolation, Limits};

pub(crate) use allow_list::AllowList;
pub(crate) use condition::{Condition, Percent};
pub(crate) use entry::{Entry, Mode, OnError, Position, Share};
pub(crate) use failure_policy::{BreakerConfig, RollbackConfig};

use order::in_order;

/// The file's name in the plugins directory.
pub(crate) const FILE_NAME: &str = "plugins.toml";

/// What `plugins.toml` says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Plan {
    /// The plugins in their order, those that are switched off included.
    pub(crate) entries: Vec<Entry>,
    /// For a message's way through all plugins.
    pub(crate) chain: ChainLimits,
    /// The files that may be plugins; none: all.
    pub(crate) allowed: Option<AllowList>,
}

/// What the table `[chain]` says of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChainLimits {
    /// For all plugins together on one message; a plugin whose turn comes later is not called, and its `on_error`
    /// decides.
    pub(crate) deadline_ms: Within<1, 60_000>,
}

impl ChainLimits {
    /// For one plugin that is tried: its own deadline is what counts.
    pub(crate) const PATIENT: Self = Self { deadline_ms: Within::new(60_000) };

    pub(crate) fn deadline(self) -> Duration {
        Duration::from_millis(u64::from(self.deadline_ms.get()))
    }
}

impl Default for ChainLimits {
    fn default() -> Self {
        Self { deadline_ms: Within::new(1_000) }
    }
}

/// The file's shape.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    #[serde(default)]
    chain: ChainTable,
    #[serde(default)]
    plugin: Vec<Listed>,
}

/// The table `[chain]`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChainTable {
    deadline_ms: Option<Within<1, 60_000>>,
    allowed_sha256: Option<AllowList>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    #[serde(deserialize_with = "name")]
    name: String,
    #[serde(default, deserialize_with = "file")]
    file: Option<String>,
    #[serde(default = "yes")]
    enabled: bool,
    #[serde(default = "yes")]
    cases: bool,
    #[serde(default)]
    order: i32,
    #[serde(default)]
    before: Vec<String>,
    #[serde(default)]
    after: Vec<String>,
    #[serde(default)]
    when: Condition,
    #[serde(default)]
    canary: Option<Canary>,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    isolation: Isolation,
    #[serde(default)]
    on_error: OnError,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    breaker: BreakerConfig,
    #[serde(default)]
    grants: Vec<Capability>,
    #[serde(default)]
    kv: Option<KvLimits>,
    #[serde(default)]
    http: Option<HttpLimits>,
    #[serde(default)]
    rollback: RollbackConfig,
    #[serde(default)]
    config: toml::Table,
}

/// The table `[plugin.canary]`: another file that stands in for the plugin's own on some conversations.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Canary {
    #[serde(deserialize_with = "wasm_file")]
    file: String,
    percent: Percent,
}

fn yes() -> bool {
    true
}

/// Senders see it, metrics carry it.
fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    if is_name(&name) { Ok(name) } else { Err(de::Error::custom("a plugin's name has 1 to 64 of A-Z a-z 0-9 _ . -")) }
}

pub(crate) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// A file in the directory and nowhere else.
fn file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    wasm_file(deserializer).map(Some)
}

fn wasm_file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let file = String::deserialize(deserializer)?;
    if file.contains(['/', '\\']) || !file.ends_with(".wasm") {
        return Err(de::Error::custom("it must be the name of a .wasm file in the plugins directory"));
    }
    Ok(file)
}

/// What the manifest says (if there is one) of a directory with these `.wasm` files. Those that it does not mention
/// come last, by name.
pub(crate) fn plan(manifest: Option<&str>, mut files: Vec<String>) -> Result<Plan, String> {
    let Manifest { chain, plugin } = toml::from_str(manifest.unwrap_or_default()).map_err(|error| error.to_string())?;
    let mut entries = Vec::with_capacity(plugin.len());
    for listed in plugin {
        entries.extend(listed.into_entries()?);
    }
    let listed: HashSet<&str> = entries.iter().map(|entry: &Entry| entry.file.as_str()).collect();
    files.retain(|file| !listed.contains(file.as_str()));
    files.sort();
    entries.extend(files.iter().map(|file| Entry::unlisted(file)));
    let mut names = HashSet::new();
    for entry in &entries {
        if !is_name(&entry.name) {
            return Err(format!("{:?} is no name for a plugin: rename it, or give it a name here", entry.file));
        }
        if !names.insert(&entry.name) {
            return Err(format!("there are two plugins named {:?}", entry.name));
        }
    }
    let ChainTable { deadline_ms, allowed_sha256 } = chain;
    let chain = deadline_ms.map_or_else(ChainLimits::default, |deadline_ms| ChainLimits { deadline_ms });
    Ok(Plan { entries: in_order(entries)?, chain, allowed: allowed_sha256 })
}

impl Listed {
    /// One entry, or two while a new version is tried: the canary, and the plugin itself for everybody else.
    fn into_entries(self) -> Result<Vec<Entry>, String> {
        let Self {
            name,
            file,
            enabled,
            cases,
            order,
            before,
            after,
            when,
            canary,
            mode,
            isolation,
            on_error,
            limits,
            breaker,
            grants,
            kv,
            http,
            rollback,
            config,
        } = self;
        let grants = Grants::new(grants, kv, http).map_err(|error| format!("plugin {name}: {error}"))?;
        let config = json(toml::Value::Table(config)).map_err(|error| format!("plugin {name}, config: {error}"))?;
        let entry = Entry {
            file: file.unwrap_or_else(|| format!("{name}.wasm")),
            name,
            enabled,
            cases,
            position: Position { order, before, after },
            when,
            share: Share::All,
            mode,
            isolation,
            on_error,
            limits,
            breaker,
            grants,
            rollback,
            config,
        };
        let Some(Canary { file, percent }) = canary else { return Ok(vec![entry]) };
        let name = format!("{}.canary", entry.name);
        // Beside the plugin itself, wherever `before` and `after` put that; both are never asked about one message.
        let position = Position { after: vec![entry.name.clone()], ..entry.position.clone() };
        let share = Share::Canary(entry.name.clone(), percent);
        let canary = Entry { name, file, position, share, ..entry.clone() };
        Ok(vec![Entry { share: Share::Rest(percent), ..entry }, canary])
    }
}

/// TOML as JSON; dates become their text.
pub(crate) fn json(value: toml::Value) -> Result<Json, String> {
    Ok(match value {
        toml::Value::String(text) => Json::String(text),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => {
            serde_json::Number::from_f64(number).map(Json::Number).ok_or(format!("{number} cannot be JSON"))?
        }
        toml::Value::Boolean(truth) => Json::Bool(truth),
        toml::Value::Datetime(date) => Json::String(date.to_string()),
        toml::Value::Array(items) => Json::Array(items.into_iter().map(json).collect::<Result<_, _>>()?),
        toml::Value::Table(fields) => {
            Json::Object(fields.into_iter().map(|(key, value)| Ok((key, json(value)?))).collect::<Result<_, String>>()?)
        }
    })
}
