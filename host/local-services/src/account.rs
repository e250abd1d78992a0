//! The account that runs the services: the caller's own, or an unprivileged one if the caller is root.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{IoContext, ServiceError};

/// The account that the services of this process run as.
#[derive(Debug, Clone)]
pub(crate) enum Account {
    Own {
        uid: u32,
    },
    /// The caller is root; services run as this account instead.
    Unprivileged {
        name: &'static str,
        uid: u32,
        gid: u32,
    },
}

impl Account {
    /// The caller's own account, even if it is root's.
    pub(crate) fn caller() -> Result<Self, ServiceError> {
        Ok(Self::Own { uid: id(&["-u"])?.unwrap_or_default() })
    }

    /// The caller's own account, or an unprivileged one if the caller is root.
    pub(crate) fn choose(service: &'static str) -> Result<Self, ServiceError> {
        let own = id(&["-u"])?.unwrap_or_default();
        if own != 0 {
            return Ok(Self::Own { uid: own });
        }
        for name in ["postgres", "nobody"] {
            if let (Some(uid), Some(gid)) = (id(&["-u", name])?, id(&["-g", name])?) {
                return Ok(Self::Unprivileged { name, uid, gid });
            }
        }
        Err(ServiceError::NoAccount(service))
    }

    pub(crate) fn uid(&self) -> u32 {
        match self {
            Self::Own { uid } | Self::Unprivileged { uid, .. } => *uid,
        }
    }

    /// Makes a command run as this account. Of the caller's environment it keeps only the variables that locate
    /// programs and libraries.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.env_clear().env("LC_ALL", "C");
        for name in ["PATH", "HOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if let Self::Unprivileged { uid, gid, .. } = self {
            command.env("HOME", "/").uid(*uid).gid(*gid);
        }
    }

    /// Gives a file or an empty directory to this account.
    pub(crate) fn give(&self, path: &Path) -> Result<(), ServiceError> {
        let Self::Unprivileged { uid, gid, name } = self else { return Ok(()) };
        std::os::unix::fs::chown(path, Some(*uid), Some(*gid))
            .during(|| format!("giving {} to user {name}", path.display()))
    }

    /// Gives a directory and everything in it to this account.
    pub(crate) fn give_all(&self, path: &Path) -> Result<(), ServiceError> {
        self.give(path)?;
        if matches!(self, Self::Own { .. }) {
            return Ok(());
        }
        for entry in std::fs::read_dir(path).during(|| format!("reading {}", path.display()))? {
            let entry = entry.during(|| format!("reading {}", path.display()))?;
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.give_all(&entry.path())?,
                Ok(kind) if kind.is_file() => self.give(&entry.path())?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether this account can write in a directory that the caller can write in.
    pub(crate) fn check_reach(&self, directory: &Path) -> Result<(), ServiceError> {
        let Self::Unprivileged { name, .. } = self else { return Ok(()) };
        let mut test = Command::new("/bin/sh");
        test.args(["-c", "test -w \"$1\" && test -x \"$1\"", "sh"]).arg(directory);
        test.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.apply(&mut test);
        let status = test.status().during(|| format!("starting a process as user {name}"))?;
        if status.success() {
            return Ok(());
        }
        Err(ServiceError::Unreachable { directory: directory.to_owned(), account: (*name).to_owned() })
    }
}

/// The number that `id` prints with these arguments; None if there is no such user.
fn id(arguments: &[&str]) -> Result<Option<u32>, ServiceError> {
    let output = Command::new("id").args(arguments).stdin(Stdio::null()).output().during(|| "running id".to_owned())?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse().ok().filter(|_| output.status.success()))
}
