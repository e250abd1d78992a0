//! `plugins.toml`: which plugins, in which order, with which limits and configuration.

use std::collections::HashSet;

use serde::{Deserialize, Deserializer, de};
use serde_json::Value as Json;

use super::breaker::BreakerConfig;
use super::limits::Limits;

/// The file's name in the plugins directory.
pub(crate) const FILE_NAME: &str = "plugins.toml";

/// What becomes of a message whose plugin failed or is not called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnError {
    /// It is refused, with the plugin's name.
    #[default]
    Reject,
    /// It goes on as if the plugin had accepted it.
    Accept,
}

/// One plugin as it is configured. Two equal entries over the same file are the same plugin.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) file: String,
    pub(crate) enabled: bool,
    pub(crate) on_error: OnError,
    pub(crate) limits: Limits,
    pub(crate) breaker: BreakerConfig,
    pub(crate) config: Json,
}

impl Entry {
    /// A file that `plugins.toml` does not mention.
    fn unlisted(file: &str) -> Self {
        Self {
            name: file.strip_suffix(".wasm").unwrap_or(file).to_owned(),
            file: file.to_owned(),
            enabled: true,
            on_error: OnError::default(),
            limits: Limits::default(),
            breaker: BreakerConfig::default(),
            config: Json::Object(serde_json::Map::new()),
        }
    }
}

/// The file's shape.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    #[serde(default)]
    plugin: Vec<Listed>,
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
    #[serde(default)]
    on_error: OnError,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    breaker: BreakerConfig,
    #[serde(default)]
    config: toml::Table,
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
    let file = String::deserialize(deserializer)?;
    if file.contains(['/', '\\']) || !file.ends_with(".wasm") {
        return Err(de::Error::custom("it must be the name of a .wasm file in the plugins directory"));
    }
    Ok(Some(file))
}

/// The plugins in their order: those of `plugins.toml` (if there is one), then the files that it does not mention, by
/// name. `files` are the `.wasm` files of the directory.
pub(crate) fn entries(manifest: Option<&str>, mut files: Vec<String>) -> Result<Vec<Entry>, String> {
    let manifest: Manifest = toml::from_str(manifest.unwrap_or_default()).map_err(|error| error.to_string())?;
    let mut entries = Vec::with_capacity(manifest.plugin.len());
    for listed in manifest.plugin {
        let Listed { name, file, enabled, on_error, limits, breaker, config } = listed;
        let config = json(toml::Value::Table(config)).map_err(|error| format!("plugin {name}, config: {error}"))?;
        let file = file.unwrap_or_else(|| format!("{name}.wasm"));
        entries.push(Entry { name, file, enabled, on_error, limits, breaker, config });
    }
    let listed: HashSet<&str> = entries.iter().map(|entry| entry.file.as_str()).collect();
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
    Ok(entries)
}

/// TOML as JSON; dates become their text.
fn json(value: toml::Value) -> Result<Json, String> {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn names(manifest: Option<&str>, files: &[&str]) -> Vec<String> {
        let files = files.iter().map(|file| (*file).to_owned()).collect();
        entries(manifest, files).unwrap().into_iter().map(|entry| entry.name).collect()
    }

    fn error(manifest: &str) -> String {
        entries(Some(manifest), Vec::new()).unwrap_err()
    }

    #[test]
    fn order_is_the_files_then_names() {
        assert_eq!(names(None, &["b.wasm", "a.wasm"]), ["a", "b"]);
        let manifest = "[[plugin]]\nname = \"z\"\n[[plugin]]\nname = \"y\"\nfile = \"b.wasm\"\nenabled = false\n";
        assert_eq!(names(Some(manifest), &["a.wasm", "b.wasm", "z.wasm"]), ["z", "y", "a"]);
    }

    #[test]
    fn everything_can_be_set() {
        let entries = entries(
            Some(
                "[[plugin]]\nname = \"a\"\non_error = \"accept\"\n[plugin.limits]\nmemory_mib = 3\n[plugin.breaker]\n\
                 failures = 2\n[plugin.config]\nwords = [\"x\", 1, 1.5, true, 1979-05-27]\n[plugin.config.deep]\nn = 1\n",
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
        let guide = include_str!("../../../plugin-sdk/README.md");
        let example = guide.split("```toml\n").find(|part| part.starts_with("[[plugin]]")).unwrap();
        let entries = entries(Some(example.split("```").next().unwrap()), Vec::new()).unwrap();
        assert_eq!(entries[0].limits, Limits::default());
        assert_eq!(entries[0].breaker, BreakerConfig::default());
    }

    #[test]
    fn slips_are_shown_with_their_line() {
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
        assert!(entries(None, vec!["a b.wasm".into()]).is_err());
    }
}
