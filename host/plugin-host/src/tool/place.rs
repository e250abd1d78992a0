//! Puts built files into a directory that a gateway may watch, and touches no others there.

use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A file that cannot be written.
#[derive(Debug)]
pub(super) struct PlaceError {
    pub(super) path: PathBuf,
    pub(super) source: io::Error,
}

/// Copies a plugin to `out`, with the cases from its folder.
pub(super) fn place_plugin(wasm: &Path, dir: &Path, name: &str, out: &Path) -> Result<Vec<PathBuf>, PlaceError> {
    let mut files = vec![place(wasm, out, &format!("{name}.wasm"))?];
    for kind in ["cases.toml", "cases.jsonl"].into_iter().filter(|kind| dir.join(kind).is_file()) {
        files.push(place(&dir.join(kind), out, &format!("{name}.{kind}"))?);
    }
    Ok(files)
}

/// Copies a file to `out` if it differs. The copy is atomic.
pub(super) fn place(source: &Path, out: &Path, name: &str) -> Result<PathBuf, PlaceError> {
    let file = out.join(name);
    let copy = || {
        let content = fs::read(source)?;
        if fs::read(&file).ok().as_ref() != Some(&content) {
            write_atomically(&file, &content)?;
        }
        Ok(())
    };
    copy().map_err(|source: io::Error| PlaceError { path: file.clone(), source })?;
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

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
