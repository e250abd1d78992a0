//! What an operator should add to `plugins.toml` for a plugin that was built.

use std::path::Path;

use super::args::read_manifest;
use super::author::author_file;
use super::build::Built;
use crate::manifest::{self, AuthorFile};

/// What an operator should add to the `plugins.toml` of `out` for a plugin that was built there. None if it has an
/// entry already, or needs none: without a `plugins.toml`, a plugin is loaded with the defaults.
pub(super) fn missing_entry(built: &Built, out: &Path) -> anyhow::Result<Option<String>> {
    let Built { name, dir, .. } = built;
    let author = author_file(dir)?;
    let path = out.join(manifest::FILE_NAME);
    let is_there = path.is_file();
    if !is_there && author.is_none() {
        return Ok(None);
    }
    let file = format!("{name}.wasm");
    if is_there && read_manifest(&path)?.iter().any(|entry| entry.is_listed() && entry.file == file) {
        return Ok(None);
    }
    let text = AuthorFile::suggestion(author.as_ref(), name);
    let text = text.map_err(|error| anyhow::anyhow!("{}: {error}", dir.join(AuthorFile::NAME).display()))?;
    Ok(Some(format!("{} has no entry for {name}. To give it what it needs, add:\n\n{text}", path.display())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_entry_is_suggested_where_none_is() {
        let dir = tempfile::tempdir().unwrap();
        let (source, out) = (dir.path().join("rule"), dir.path().join("out"));
        [&source, &out].into_iter().for_each(|dir| fs::create_dir(dir).unwrap());
        let built = Built { name: "rule".into(), dir: source.clone(), files: Vec::new() };
        let missing = || missing_entry(&built, &out).unwrap();
        assert_eq!(missing(), None, "the defaults do");
        fs::write(source.join("plugin.toml"), "grants = [\"clock\"]\n").unwrap();
        assert!(missing().unwrap().ends_with("[[plugin]]\nname = \"rule\"\ngrants = [\"clock\"]\n"));
        fs::write(out.join("plugins.toml"), "[[plugin]]\nname = \"other\"\n").unwrap();
        fs::write(out.join("rule.wasm"), "").unwrap();
        assert!(missing().is_some(), "it is loaded, but nobody listed it");
        fs::write(out.join("plugins.toml"), "[[plugin]]\nname = \"ours\"\nfile = \"rule.wasm\"\n").unwrap();
        assert_eq!(missing(), None);
    }
}
