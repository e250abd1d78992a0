//! The file `plugin.toml` beside a plugin's source.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::Context as _;

use crate::manifest::AuthorFile;

/// The author's file in a plugin's folder, if there is one.
pub(super) fn author_file(dir: &Path) -> anyhow::Result<Option<AuthorFile>> {
    let path = dir.join(AuthorFile::NAME);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(AuthorFile::new(text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}
