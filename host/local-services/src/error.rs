//! Errors. Each message says what to do next, where something can be done.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a service could not be started, stopped or reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The program of the server is not installed.
    #[error("{program} was not found; searched {searched}\n  install it: {install}")]
    NotFound {
        /// The program that was searched for.
        program: &'static str,
        /// The places that were searched, as one line of text.
        searched: String,
        /// A command line that installs it.
        install: &'static str,
    },
    /// The caller is root, and there is no unprivileged account to run the service.
    #[error(
        "{0} refuses to run as root, and this machine has neither a user `postgres` nor a user `nobody` to run it as"
    )]
    NoAccount(&'static str),
    /// The account that runs the service cannot enter or write its directory.
    #[error("user `{account}`, which runs the service because root may not, cannot write in {}: choose a \
        directory outside private folders", directory.display())]
    Unreachable {
        /// The directory of the service.
        directory: PathBuf,
        /// The unprivileged account's name.
        account: String,
    },
    /// The directory has something in it, and nothing says that it is ours.
    #[error("{} is not empty and was not made for a private database (it has no file {mark}): nothing in it was \
        touched; name an empty or a new folder, or remove this one if an earlier version made it", directory.display())]
    NotOurs {
        /// The directory that was named.
        directory: PathBuf,
        /// The file that ours have.
        mark: &'static str,
    },
    /// The data belong to another user of this machine.
    #[error("{} belongs to another user (uid {owner}): remove it, or run as that user", directory.display())]
    ForeignOwner {
        /// The directory of the service.
        directory: PathBuf,
        owner: u32,
    },
    /// Another process is running a server on the same data.
    #[error("the database in {} is in use by process {pid}: stop that one first", directory.display())]
    InUse {
        /// The directory of the service.
        directory: PathBuf,
        /// The process that uses it.
        pid: String,
    },
    /// The data were made by another major version of PostgreSQL, which is not installed.
    #[error("the database in {} was made by PostgreSQL {found}, but {server} is installed: start with --fresh \
        to empty it, or install PostgreSQL {found}", directory.display())]
    VersionMismatch {
        /// The directory of the service.
        directory: PathBuf,
        /// The major version that made the data.
        found: String,
        /// The major version that is installed.
        server: String,
    },
    /// The directory is not empty, but does not contain a database cluster.
    #[error("{} does not contain a PostgreSQL database: start with --fresh to empty it", .0.display())]
    NotACluster(PathBuf),
    /// `initdb` failed.
    #[error("initdb failed:\n{0}")]
    Initdb(String),
    /// `pg_basebackup` failed.
    #[error("pg_basebackup failed:\n{0}")]
    Copy(String),
    /// A Redis Cluster does not work as commanded.
    #[error("Redis Cluster: {0}")]
    Cluster(String),
    /// The port is taken by another process.
    #[error("{service} cannot listen on 127.0.0.1:{port}: the port is taken")]
    PortTaken {
        service: &'static str,
        /// The port that was asked for.
        port: u16,
    },
    /// No free port was found.
    #[error("no free port on 127.0.0.1 for {0}")]
    NoPort(&'static str),
    /// The server ended unexpectedly.
    #[error("{service} ended ({status}); the end of its log:\n{log}")]
    Exited {
        service: &'static str,
        status: String,
        /// The last lines of its log.
        log: String,
    },
    /// The server runs, but was not ready in time.
    #[error("{service} was not ready after {waited:?}; the end of its log:\n{log}")]
    NotReady {
        service: &'static str,
        /// How long the caller waited.
        waited: Duration,
        /// The last lines of its log.
        log: String,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The system's error.
        source: io::Error,
    },
}

/// Adds to an input or output error what was being done.
pub(crate) trait IoContext<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, ServiceError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, ServiceError> {
        self.map_err(|source| ServiceError::Io { what: what(), source })
    }
}
