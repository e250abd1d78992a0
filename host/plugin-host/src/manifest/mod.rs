//! `plugins.toml`: which plugins are loaded, in which order, with which limits and configuration.
//!
//! [`parse`] reads the file. Each plugin becomes an [`entry`], with the [`condition`] on its messages and its
//! [`failure_policy`]; `before` and `after` set the [`order`]. The [`allow_list`] restricts all files. What an author
//! writes beside a plugin's source is an entry too ([`author_file`]).

mod allow_list;
mod author_file;
mod condition;
mod entry;
mod failure_policy;
mod order;

use std::collections::HashSet;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use serde_json::Value as Json;

pub(crate) use self::allow_list::AllowList;
pub(crate) use self::author_file::AuthorFile;
pub(crate) use self::condition::{Condition, Percent};
pub(crate) use self::entry::{Entry, Mode, OnError, Position, Share};
pub(crate) use self::failure_policy::{BreakerConfig, RollbackConfig};
use self::order::sorted;
use crate::bounded::Bounded;
use crate::capabilities::{Capability, Grants, HttpLimits, KvLimits};
use crate::runtime::limits::{Isolation, Limits};

/// The name of the file in the plugins directory.
pub(crate) const FILE_NAME: &str = "plugins.toml";

/// The content of `plugins.toml`, validated.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Manifest {
    /// The plugins in their order, including disabled ones.
    pub(crate) entries: Vec<Entry>,
    pub(crate) chain: ChainLimits,
    /// The files that may be plugins. None: all.
    pub(crate) allowed: Option<AllowList>,
}

/// The time limits in the table `[chain]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChainLimits {
    /// For all plugins together on one message. A plugin whose turn comes later is not called, and its `on_error`
    /// decides.
    pub(crate) deadline_ms: Bounded<1, 60_000>,
}

impl ChainLimits {
    /// For dry runs: only the plugin's own deadline applies.
    pub(crate) const UNBOUNDED: Self = Self { deadline_ms: Bounded::new(60_000) };

    pub(crate) fn deadline(self) -> Duration {
        Duration::from_millis(u64::from(self.deadline_ms.get()))
    }
}

impl Default for ChainLimits {
    fn default() -> Self {
        Self { deadline_ms: Bounded::new(1_000) }
    }
}

/// The structure of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestFile {
    #[serde(default)]
    chain: ChainTable,
    #[serde(default)]
    plugin: Vec<PluginTable>,
}

/// The table `[chain]`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChainTable {
    deadline_ms: Option<Bounded<1, 60_000>>,
    allowed_sha256: Option<AllowList>,
}

/// The table `[[plugin]]`, which has a name. In an author's file it has none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginTable<N = PluginName> {
    name: N,
    #[serde(default, deserialize_with = "optional_wasm_file")]
    file: Option<String>,
    #[serde(default = "default_true")]
    enabled: bool,
    #[serde(default = "default_true")]
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
    canary: Option<CanaryTable>,
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

/// The table `[plugin.canary]`: a file that replaces the plugin's own for some conversations.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CanaryTable {
    #[serde(deserialize_with = "wasm_file")]
    file: String,
    percent: Percent,
}

fn default_true() -> bool {
    true
}

/// Names are restricted, since senders see them and metrics carry them.
struct PluginName(String);

impl<'de> Deserialize<'de> for PluginName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let invalid = || de::Error::custom("a plugin's name has 1 to 64 of A-Z a-z 0-9 _ . -");
        if is_name(&name) { Ok(Self(name)) } else { Err(invalid()) }
    }
}

pub(crate) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// A file directly in the plugins directory.
fn optional_wasm_file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    wasm_file(deserializer).map(Some)
}

fn wasm_file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let file = String::deserialize(deserializer)?;
    if file.contains(['/', '\\']) || !file.ends_with(".wasm") {
        return Err(de::Error::custom("it must be the name of a .wasm file in the plugins directory"));
    }
    Ok(file)
}

/// Parses the manifest, if there is one, for a directory with these `.wasm` files. Files that it does not mention come
/// last, sorted by name.
pub(crate) fn parse(manifest: Option<&str>, mut files: Vec<String>) -> Result<Manifest, String> {
    let ManifestFile { chain, plugin } =
        toml::from_str(manifest.unwrap_or_default()).map_err(|error| error.to_string())?;
    let mut entries = Vec::with_capacity(plugin.len());
    for listed in plugin {
        entries.extend(listed.into_entries(|PluginName(name)| name)?);
    }
    let listed: HashSet<&str> = entries.iter().map(|entry: &Entry| entry.file.as_str()).collect();
    files.retain(|file| !listed.contains(file.as_str()));
    files.sort();
    entries.extend(files.iter().map(|file| Entry::unlisted(file)));
    let mut names = HashSet::new();
    for entry in &entries {
        if !is_name(&entry.name) {
            return Err(format!(
                "{:?} is not a valid name for a plugin: rename the file, or give the plugin a name here",
                entry.file
            ));
        }
        if !names.insert(&entry.name) {
            return Err(format!("there are two plugins named {:?}", entry.name));
        }
    }
    let ChainTable { deadline_ms, allowed_sha256 } = chain;
    let chain = deadline_ms.map_or_else(ChainLimits::default, |deadline_ms| ChainLimits { deadline_ms });
    Ok(Manifest { entries: sorted(entries)?, chain, allowed: allowed_sha256 })
}

impl<N> PluginTable<N> {
    /// One entry. With a canary two: the plugin itself, and the canary.
    fn into_entries(self, name_of: impl FnOnce(N) -> String) -> Result<Vec<Entry>, String> {
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
        let name = name_of(name);
        let grants = Grants::new(grants, kv, http).map_err(|error| format!("plugin {name}: {error}"))?;
        let config =
            toml_to_json(toml::Value::Table(config)).map_err(|error| format!("plugin {name}, config: {error}"))?;
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
        let Some(CanaryTable { file, percent }) = canary else { return Ok(vec![entry]) };
        let name = format!("{}.canary", entry.name);
        // The canary stands right behind the plugin, wherever `before` and `after` put that. No message goes to both.
        let position = Position { after: vec![entry.name.clone()], ..entry.position.clone() };
        let share = Share::Canary(entry.name.clone(), percent);
        let canary = Entry { name, file, position, share, ..entry.clone() };
        Ok(vec![Entry { share: Share::Rest(percent), ..entry }, canary])
    }
}

/// Converts TOML to JSON. Dates become strings.
pub(crate) fn toml_to_json(value: toml::Value) -> Result<Json, String> {
    Ok(match value {
        toml::Value::String(text) => Json::String(text),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => {
            serde_json::Number::from_f64(number).map(Json::Number).ok_or(format!("{number} cannot be JSON"))?
        }
        toml::Value::Boolean(truth) => Json::Bool(truth),
        toml::Value::Datetime(date) => Json::String(date.to_string()),
        toml::Value::Array(items) => Json::Array(items.into_iter().map(toml_to_json).collect::<Result<_, _>>()?),
        toml::Value::Table(fields) => Json::Object(
            fields.into_iter().map(|(key, value)| Ok((key, toml_to_json(value)?))).collect::<Result<_, String>>()?,
        ),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn names(manifest: Option<&str>, files: &[&str]) -> Vec<String> {
        let files = files.iter().map(|file| (*file).to_owned()).collect();
        parse(manifest, files).unwrap().entries.into_iter().map(|entry| entry.name).collect()
    }

    fn error(manifest: &str) -> String {
        parse(Some(manifest), Vec::new()).unwrap_err()
    }

    #[test]
    fn order_is_the_files_then_names() {
        assert_eq!(names(None, &["b.wasm", "a.wasm"]), ["a", "b"]);
        let manifest = "[[plugin]]\nname = \"z\"\n[[plugin]]\nname = \"y\"\nfile = \"b.wasm\"\nenabled = false\n";
        assert_eq!(names(Some(manifest), &["a.wasm", "b.wasm", "z.wasm"]), ["z", "y", "a"]);
    }

    #[test]
    fn everything_can_be_set() {
        let Manifest { entries, .. } = parse(
            Some(
                "[[plugin]]\nname = \"a\"\non_error = \"accept\"\n[plugin.limits]\nmemory_mib = 3\n[plugin.breaker]\n\
                 failures = 2\n[plugin.config]\nwords = [\"x\", 1, 1.5, true, 1979-05-27]\n\
                 [plugin.config.deep]\nn = 1\n",
            ),
            Vec::new(),
        )
        .unwrap();
        let entry = &entries[0];
        assert_eq!(
            (entry.on_error, entry.limits.memory_mib.get(), entry.breaker.failures.get()),
            (OnError::Accept, 3, 2)
        );
        assert_eq!(entry.limits.deadline_ms, Limits::default().deadline_ms);
        assert_eq!(entry.config.to_string(), r#"{"deep":{"n":1},"words":["x",1,1.5,true,"1979-05-27"]}"#);
    }

    #[test]
    fn the_guides_example_sets_the_defaults() {
        let guide = include_str!("../../../../plugin-sdk/README.md");
        let example = guide.split("```toml\n").find(|part| part.starts_with("[[plugin]]")).unwrap();
        let Manifest { entries, chain, .. } = parse(Some(example.split("```").next().unwrap()), Vec::new()).unwrap();
        assert_eq!(chain, ChainLimits::default());
        assert_eq!(entries[0].limits, Limits::default());
        assert_eq!(entries[0].breaker, BreakerConfig::default());
        assert_eq!(entries[0].rollback, RollbackConfig::default());
    }

    #[test]
    fn mistakes_are_reported_with_their_line() {
        let unknown = error("[[plugin]]\nname = \"a\"\ndeadline = 5\n");
        assert!(unknown.contains("line 3") && unknown.contains("`deadline`"), "{unknown}");
        let bound = error("[[plugin]]\nname = \"a\"\n[plugin.limits]\ndeadline_ms = 0\n");
        assert!(bound.contains("line 4") && bound.contains("not within 1 and 10000"), "{bound}");
        assert!(error("[[plugin]]\nname = \"a\"\n[plugin.limits]\ndeadline = 1\n").contains("line 4"));
        assert!(error("[[plugin]]\nname = \"a b\"\n").contains("line 2"));
        assert!(error("[[plugin]]\nname = \"a\"\nfile = \"../a.wasm\"\n").contains("line 3"));
        assert!(error("[[plugin]]\nname = \"a\"\non_error = \"ignore\"\n").contains("line 3"));
        assert!(error("[[plugin]]\nname = \"a\"\n[[plugin]]\nname = \"a\"\n").contains("two plugins named \"a\""));
        assert!(error("[[plugin]]\nname = \"a\"\n[plugin.config]\nx = nan\n").contains("plugin a, config"));
        assert!(error("[[plugins]]\n").contains("line 1"));
        assert!(parse(None, vec!["a b.wasm".into()]).is_err());
    }

    #[test]
    fn plugins_move_only_as_far_as_they_must() {
        let plugin = |name: &str, more: &str| format!("[[plugin]]\nname = \"{name}\"\n{more}\n");
        let manifest =
            [plugin("a", "order = 5"), plugin("b", ""), plugin("c", "before = [\"b\"]"), plugin("d", "order = -1")];
        assert_eq!(names(Some(&manifest.concat()), &["z.wasm"]), ["d", "c", "b", "a", "z"]);
        let manifest = [plugin("a", "after = [\"c\", \"z\"]"), plugin("b", ""), plugin("c", "")].concat();
        assert_eq!(names(Some(&manifest), &["z.wasm"]), ["b", "c", "z", "a"]);
        let unknown = error(&plugin("a", "after = [\"x\"]"));
        assert_eq!(unknown, "plugin a: `after` names \"x\", and there is no such plugin");
        let round = [plugin("a", "before = [\"b\"]"), plugin("b", "before = [\"a\"]"), plugin("c", "")].concat();
        assert_eq!(error(&round), "`before` and `after` of a, b contradict one another");
        assert!(error(&plugin("a", "after = [\"a\"]")).contains("contradict"));
    }

    #[test]
    fn a_canary_follows_its_plugin_and_has_the_same_settings() {
        let manifest = "[[plugin]]\nname = \"a\"\non_error = \"accept\"\n[plugin.canary]\nfile = \"a2.wasm\"\n\
            percent = 5\n\
            [plugin.config]\nx = 1\n[[plugin]]\nname = \"b\"\n";
        let Manifest { entries, .. } = parse(Some(manifest), Vec::new()).unwrap();
        let shown: Vec<(&str, &str)> = entries.iter().map(|entry| (entry.name.as_str(), entry.file.as_str())).collect();
        assert_eq!(shown, [("a", "a.wasm"), ("a.canary", "a2.wasm"), ("b", "b.wasm")]);
        assert_eq!((&entries[1].config, entries[1].on_error), (&entries[0].config, OnError::Accept));
        assert!(matches!(&entries[1].share, Share::Canary(name, _) if name == "a"));
        assert!(matches!(&entries[0].share, Share::Rest(_)));
    }
}
