//! The directory of one service, temporary or kept.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::account::Account;
use crate::error::{IoContext, ServiceError};

/// The file that marks a kept directory as one of ours.
const MARK: &str = "ARCYOU_DATA";
const MARK_TEXT: &str = "This folder holds a private PostgreSQL database of `arcyou-gateway dev`. What is in it may be given \
    to the account that PostgreSQL runs as, and `--fresh` removes the database.\n";

/// A directory that the service's account can write in.
#[derive(Debug)]
pub(crate) enum Workspace {
    /// Removed when this value is dropped, or by the supervisor if the process is killed.
    Temporary(TempDir),
    Kept(PathBuf),
}

impl Workspace {
    pub(crate) fn temporary(service: &str, account: &Account) -> Result<Self, ServiceError> {
        match Self::temporary_in(&std::env::temp_dir(), service, account) {
            // Root's TMPDIR may be private; /tmp is accessible to every account.
            Err(ServiceError::Unreachable { .. }) => Self::temporary_in(Path::new("/tmp"), service, account),
            other => other,
        }
    }

    fn temporary_in(base: &Path, service: &str, account: &Account) -> Result<Self, ServiceError> {
        let directory = tempfile::Builder::new()
            .prefix(&format!("arcyou-{service}-"))
            .tempdir_in(base)
            .during(|| format!("making a temporary directory in {}", base.display()))?;
        account.give(directory.path())?;
        account.check_reach(directory.path())?;
        Ok(Self::Temporary(directory))
    }

    /// A directory that is ours: one that is made now, an empty one, or one that carries our mark. Any other is refused
    /// before anything in it is touched, since its files would be given to another account, or removed.
    pub(crate) fn kept(path: &Path) -> Result<Self, ServiceError> {
        std::fs::create_dir_all(path).during(|| format!("making {}", path.display()))?;
        let path = path.canonicalize().during(|| format!("finding {}", path.display()))?;
        let mark = path.join(MARK);
        // A link may lead to somebody else's.
        let is_marked = mark.symlink_metadata().is_ok_and(|mark| mark.is_file());
        if !is_marked {
            let mut entries = std::fs::read_dir(&path).during(|| format!("reading {}", path.display()))?;
            if entries.next().is_some() {
                return Err(ServiceError::NotOurs { directory: path, mark: MARK });
            }
            std::fs::write(&mark, MARK_TEXT).during(|| format!("writing {}", mark.display()))?;
        }
        Ok(Self::Kept(path))
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Temporary(directory) => directory.path(),
            Self::Kept(path) => path,
        }
    }

    pub(crate) fn is_kept(&self) -> bool {
        matches!(self, Self::Kept(_))
    }

    /// The directory that the supervisor removes when this process is gone; None if it is kept.
    pub(crate) fn removable(&self) -> Option<&Path> {
        match self {
            Self::Temporary(directory) => Some(directory.path()),
            Self::Kept(_) => None,
        }
    }
}
