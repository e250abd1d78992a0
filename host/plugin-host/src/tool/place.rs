//! Puts built files into a directory that a gateway may watch, and never touches what is the operator's there.

use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::args::read_manifest;
use super::build::{BuildError, Built};
use crate::manifest::{self, AuthorFile};

/// Copies a plugin to `out`, with the cases from its folder.
pub(super) fn place_plugin(wasm: &Path, dir: &Path, name: &str, out: &Path) -> Result<Built, BuildError> {
    let mut files = vec![place(wasm, out, &format!("{name}.wasm"))?];
    for kind in ["cases.toml", "cases.jsonl"].into_iter().filter(|kind| dir.join(kind).is_file()) {
        files.push(place(&dir.join(kind), out, &format!("{name}.{kind}"))?);
    }
    Ok(Built { name: name.to_owned(), dir: dir.to_owned(), files })
}

/// Copies a file to `out` if it differs. The copy is atomic.
pub(super) fn place(source: &Path, out: &Path, name: &str) -> Result<PathBuf, BuildError> {
    let file = out.join(name);
    let copy = || {
        let content = fs::read(source)?;
        if fs::read(&file).ok().as_ref() != Some(&content) {
            write_atomically(&file, &content)?;
        }
        Ok(())
    };
    copy().map_err(|source: io::Error| BuildError::Write { path: file.clone(), source })?;
    Ok(file)
}

/// Writes a hidden file beside `file`, which no gateway loads, and renames it.
fn write_atomically(file: &Path, content: &[u8]) -> io::Result<()> {
    let dir = file.parent().unwrap_or(file);
    // As for any new file, the process's mask decides who may read it: a gateway may run under another account.
    let mut half = tempfile::Builder::new().prefix(".").permissions(Permissions::from_mode(0o666)).tempfile_in(dir)?;
    half.write_all(content)?;
    half.persist(file)?;
    Ok(())
}

/// What an operator should add to the `plugins.toml` of `out` for a plugin that was built there. None if it has an entry
/// already, or needs none: without a `plugins.toml`, a plugin is loaded with the defaults.
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

/// The author's file in a plugin's folder, if there is one.
pub(super) fn author_file(dir: &Path) -> anyhow::Result<Option<AuthorFile>> {
    let path = dir.join(AuthorFile::NAME);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(AuthorFile::new(text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
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

    #[test]
    fn a_copy_is_readable_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("source");
        fs::write(&source, "new").unwrap();
        let out = tempfile::tempdir().unwrap();
        fs::write(out.path().join("a"), "old").unwrap();
        let plain = fs::metadata(&source).unwrap().permissions();
        let placed = place(&source, out.path(), "a").unwrap();
        assert_eq!(fs::read(&placed).unwrap(), b"new");
        assert_eq!(fs::metadata(&placed).unwrap().permissions(), plain);
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1);
    }
}
