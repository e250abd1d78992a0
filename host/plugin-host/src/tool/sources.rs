//! Which source each built file comes from, kept beside the files, so that a plugin does not outlive its source.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Plugins directories skip hidden files.
const FILE: &str = ".sources.json";

/// The files of one output folder.
pub(super) struct Sources {
    out: PathBuf,
    /// File name → the folder or file that it was built from.
    known: BTreeMap<String, PathBuf>,
}

impl Sources {
    /// What earlier builds have noted. A damaged note is as good as none: its files stay.
    pub(super) fn of(out: &Path) -> Self {
        let known = fs::read(out.join(FILE)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { out: out.to_owned(), known: known.unwrap_or_default() }
    }

    /// Notes where these files come from.
    pub(super) fn note(&mut self, files: &[PathBuf], source: &Path) {
        let Ok(source) = source.canonicalize() else { return };
        for name in files.iter().filter_map(|file| file.file_name()) {
            self.known.insert(name.to_string_lossy().into_owned(), source.clone());
        }
    }

    /// Removes the files whose source is gone, and keeps the note. Returns what was removed. Files that nobody has
    /// noted are somebody's own.
    pub(super) fn prune(mut self) -> io::Result<Vec<PathBuf>> {
        let gone = |source: &Path| source.try_exists().is_ok_and(|exists| !exists);
        let mut removed = Vec::new();
        for (name, _) in self.known.extract_if(.., |_, source| gone(source)) {
            let file = self.out.join(name);
            match fs::remove_file(&file) {
                Ok(()) => removed.push(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        fs::write(self.out.join(FILE), serde_json::to_vec_pretty(&self.known)?)?;
        Ok(removed)
    }
}
