//! `plugin.toml` beside a plugin's source: what the plugin needs, written by its author. It has the keys of an entry in
//! `plugins.toml`, without the `[[plugin]]` around them. No gateway reads it, and no command copies it: operators copy
//! from it what they agree to.

use serde::Serialize;

use super::{Entry, PluginName, PluginTable};

/// An author's file.
pub(crate) struct AuthorFile(String);

/// The entry of `plugins.toml` that grants and sets what the file says.
#[derive(Serialize)]
struct Suggestion<'a> {
    plugin: [Listed<'a>; 1],
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    #[serde(flatten)]
    settings: toml::Table,
}

impl AuthorFile {
    /// The name of the file.
    pub(crate) const NAME: &'static str = "plugin.toml";

    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// The entry of the plugin with this name. The error is for the author.
    pub(crate) fn entry(&self, name: &str) -> Result<Entry, String> {
        let table: PluginTable<Option<PluginName>> = toml::from_str(&self.0).map_err(|error| error.to_string())?;
        let foreign =
            [("name", table.name.is_some()), ("file", table.file.is_some()), ("canary", table.canary.is_some())];
        if let Some((key, _)) = foreign.into_iter().find(|(_, is_set)| *is_set) {
            return Err(format!("`{key}` belongs into an operator's plugins.toml: delete it here"));
        }
        let entries = table.into_entries(|_| name.to_owned())?;
        entries.into_iter().next().ok_or_else(|| "it makes no entry".to_owned())
    }

    /// The text of an entry for `plugins.toml`, with the settings of `author`, if there is such a file.
    pub(crate) fn suggestion(author: Option<&Self>, name: &str) -> Result<String, String> {
        let settings = author.map(|Self(text)| text.parse()).transpose();
        let settings = settings.map_err(|error: toml::de::Error| error.to_string())?.unwrap_or_default();
        toml::to_string(&Suggestion { plugin: [Listed { name, settings }] }).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::capabilities::Capability;
    use crate::manifest::parse;

    #[test]
    fn it_is_an_entry_without_a_name_and_suggests_the_same_one() {
        let file = AuthorFile::new(
            "grants = [\"kv\"]\non_error = \"accept\"\n[limits]\nmemory_mib = 32\n[kv]\ncalls = 3\n[config]\nmax = 5\n"
                .into(),
        );
        let entry = file.entry("rule").unwrap();
        assert!(entry.grants.has(Capability::Kv) && entry.limits.memory_mib.get() == 32, "{entry:?}");
        let text = AuthorFile::suggestion(Some(&file), "rule").unwrap();
        assert!(text.starts_with("[[plugin]]\nname = \"rule\"\n"), "{text}");
        assert_eq!(parse(Some(&text), Vec::new()).unwrap().entries, [entry]);
        assert_eq!(AuthorFile::suggestion(None, "rule").unwrap(), "[[plugin]]\nname = \"rule\"\n");
    }

    #[test]
    fn mistakes_are_reported_with_their_line() {
        let error = |text: &str| AuthorFile::new(text.to_owned()).entry("rule").unwrap_err();
        assert!(error("\ngrant = [\"kv\"]\n").contains("line 2"));
        assert!(error("[limits]\nmemory_mib = 0\n").contains("line 2"));
        assert!(error("name = \"other\"\n").contains("`name` belongs into"));
        assert!(error("[kv]\ncalls = 1\n").contains("grants = [\"kv\"]"));
    }
}
