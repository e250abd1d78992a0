//! Directories for this user alone.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// Makes a directory that nobody else can write. The error says why one that is there is not such.
pub(crate) fn create_private_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let found = fs::symlink_metadata(dir)?;
    // A file that was just made tells who this process is.
    let me = tempfile::Builder::new().prefix(".probe").tempfile_in(dir)?.as_file().metadata()?.uid();
    if !found.is_dir() || found.uid() != me || found.permissions().mode() & 0o022 != 0 {
        return Err(io::Error::other("it is not a directory that only this user can write"));
    }
    Ok(())
}
