//! What a plugins directory looks like from outside, without reading its files: enough to know that it has changed.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Endings of the files that are read. Others change nothing.
const READ: [&str; 3] = [".wasm", ".toml", ".jsonl"];

/// Two equal ones are of the same files, unless somebody wrote twice within a tick of the file system's clock. A file's
/// inode is not part of it, since some network file systems number their files anew at will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fingerprint {
    Readable {
        /// Where the directory is, with all links followed.
        at: PathBuf,
        /// Sorted.
        files: Vec<(String, Option<FileState>)>,
    },
    Unreadable(io::ErrorKind),
}

/// What changes whenever a file does: its size, and when its content and the file itself were changed. Of the file that
/// a link leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileState {
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Fingerprint {
    pub(super) fn of(dir: &Path) -> Self {
        let files = || {
            let at = fs::canonicalize(dir)?;
            let mut files = Vec::new();
            for entry in fs::read_dir(&at)? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                if !name.starts_with('.') && READ.iter().any(|ending| name.ends_with(ending)) {
                    let state = fs::metadata(at.join(&name)).ok().map(|metadata| FileState {
                        bytes: metadata.len(),
                        modified: (metadata.mtime(), metadata.mtime_nsec()),
                        changed: (metadata.ctime(), metadata.ctime_nsec()),
                    });
                    files.push((name, state));
                }
            }
            files.sort();
            Ok(Self::Readable { at, files })
        };
        files().unwrap_or_else(|error: io::Error| Self::Unreadable(error.kind()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn it_changes_with_what_is_read_and_with_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("dir");
        let missing = Fingerprint::of(&dir);
        fs::create_dir(&dir).unwrap();
        let empty = Fingerprint::of(&dir);
        assert_ne!(empty, missing);
        fs::write(dir.join(".half.wasm"), "x").unwrap();
        fs::write(dir.join("notes.txt"), "x").unwrap();
        assert_eq!(Fingerprint::of(&dir), empty);
        fs::write(dir.join("a.wasm"), "x").unwrap();
        let one = Fingerprint::of(&dir);
        fs::read(dir.join("a.wasm")).unwrap();
        assert_eq!(Fingerprint::of(&dir), one);
        fs::write(dir.join("a.wasm"), "longer").unwrap();
        assert_ne!(Fingerprint::of(&dir), one);
    }
}
