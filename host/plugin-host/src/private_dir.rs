//! Directories that only this user can write.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// Creates a directory that nobody else can write. If the directory exists, the error says why it is not private.
pub(crate) fn create_private_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let found = fs::symlink_metadata(dir)?;
    // The owner of a new file is this process's user.
    let me = tempfile::Builder::new().prefix(".probe").tempfile_in(dir)?.as_file().metadata()?.uid();
    if !found.is_dir() || found.uid() != me || found.permissions().mode() & 0o022 != 0 {
        return Err(io::Error::other("it is not a directory that only this user can write"));
    }
    Ok(())
}
