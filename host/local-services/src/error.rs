//! What can go wrong, said so that the reader knows what to do next.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a service could not be started, stopped or reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The server's program is not on this machine.
    #[error("{program} was not found; searched {searched}\n  install it: {install}")]
    NotFound {
        /// What was looked for.
        program: &'static str,
        /// Where, as one line of text.
        searched: String,
        /// A command line that installs it.
        install: &'static str,
    },
    /// Started by root, and no unprivileged account could be found to run the service.
    #[error(
        "{0} refuses to run as root, and this machine has neither a user `postgres` nor a user `nobody` to run it as"
    )]
    NoAccount(&'static str),
    /// The account that runs the service cannot enter or write its directory.
    #[error("user `{account}`, who runs the service because root may not, cannot write in {}: choose a directory outside private folders", directory.display())]
    Unreachable {
        /// The directory of the service.
        directory: PathBuf,
        /// The unprivileged account's name.
        account: String,
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
    #[error("the database in {} was made by PostgreSQL {found}, but {server} is what is installed: start with --fresh to empty it, or install PostgreSQL {found}", directory.display())]
    VersionMismatch {
        /// The directory of the service.
        directory: PathBuf,
        /// The major version that made the data.
        found: String,
        /// The major version that is installed.
        server: String,
    },
    /// The directory holds something, but no database cluster.
    #[error("{} is no database cluster of PostgreSQL: start with --fresh to empty it", .0.display())]
    NotACluster(PathBuf),
    /// `initdb` failed.
    #[error("initdb failed:\n{0}")]
    Initdb(String),
    /// `pg_basebackup` failed.
    #[error("pg_basebackup failed:\n{0}")]
    Copy(String),
    /// The nodes of a Redis Cluster do not do what they were told.
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
    /// The server ended by itself.
    #[error("{service} ended ({status}); the end of its log:\n{log}")]
    Exited {
        service: &'static str,
        status: String,
        /// The last lines of its log.
        log: String,
    },
    /// The server runs, but did not answer in time.
    #[error("{service} was not ready after {waited:?}; the end of its log:\n{log}")]
    NotReady {
        service: &'static str,
        /// How long it was waited for.
        waited: Duration,
        /// The last lines of its log.
        log: String,
    },
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Says what was being done when an input or output error came up.
pub(crate) trait While<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, ServiceError>;
}

impl<T> While<T> for io::Result<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, ServiceError> {
        self.map_err(|source| ServiceError::Io { what: what(), source })
    }
}
