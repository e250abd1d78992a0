//! PostgreSQL.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::account::Account;
use crate::cluster::{Cluster, SUPERUSER};
use crate::error::{IoContext as _, ServiceError};
use crate::log::LogSince;
use crate::service::{Service, ServiceKind};
use crate::supervisor::Signal;
use crate::workspace::Workspace;

/// How to run a private PostgreSQL.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// The directory that keeps the database between runs, created if missing. None: a temporary one, removed at the
    /// end.
    pub data_dir: Option<PathBuf>,
    /// Empties the database in `data_dir` first. Removes only what an earlier run created there.
    pub fresh: bool,
    /// Data survive a crash of the machine. Without it (faster, for tests) they survive only a crash of the server.
    pub durable: bool,
    /// The port; None: a free one.
    pub port: Option<u16>,
    /// `max_connections`.
    pub max_connections: u16,
    /// What it identifies itself with; none: it offers no TLS.
    pub tls: Option<ServerTls>,
    /// Further settings, for example `("deadlock_timeout", "50ms")`.
    pub settings: Vec<(String, String)>,
}

impl Default for PostgresOptions {
    /// For tests: temporary, on a free port, without waiting for the disk.
    fn default() -> Self {
        let (data_dir, port, tls) = (None, None, None);
        Self { data_dir, fresh: false, durable: false, port, max_connections: 200, tls, settings: Vec::new() }
    }
}

/// A certificate and its key, both PEM.
#[derive(Debug, Clone)]
pub struct ServerTls {
    pub certificate: String,
    pub key: String,
}

impl ServerTls {
    /// Writes both where the server finds them, and returns the settings that say where.
    fn install(&self, workspace: &Workspace, account: &Account) -> Result<Vec<(String, String)>, ServiceError> {
        let mut settings = vec![("ssl".to_owned(), "on".to_owned())];
        for (setting, name, text) in
            [("ssl_cert_file", "server.crt", &self.certificate), ("ssl_key_file", "server.key", &self.key)]
        {
            let path = workspace.path().join(name);
            let mut options = OpenOptions::new();
            let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
            file.and_then(|mut file| file.write_all(text.as_bytes()))
                .during(|| format!("writing {}", path.display()))?;
            account.give(&path)?;
            settings.push((setting.to_owned(), path.display().to_string()));
        }
        Ok(settings)
    }
}

/// A private PostgreSQL server. Dropping it stops it.
///
/// All methods take `&self`, so that one server can be shared by the threads of a test program.
#[derive(Debug)]
pub struct Postgres {
    service: Service<PostgresService>,
}

impl Postgres {
    /// Starts a server and waits until it accepts clients. Creating a new cluster takes about a second.
    ///
    /// A cluster that an earlier run left in `data_dir` is used again, also when that run was killed.
    pub fn start(options: PostgresOptions) -> Result<Self, ServiceError> {
        let account = Account::choose(PostgresService::NAME)?;
        let workspace = match &options.data_dir {
            Some(path) => Workspace::kept(path)?,
            None => Workspace::temporary(PostgresService::NAME, &account)?,
        };
        let cluster = Cluster::prepare(&workspace, &account, options.fresh, options.durable)?;
        let mut settings = settings(&options);
        if let Some(tls) = &options.tls {
            settings.extend(tls.install(&workspace, &account)?);
        }
        let kind = PostgresService { cluster, settings };
        Ok(Self { service: Service::start(kind, account, workspace, options.port)? })
    }

    /// Starts a temporary copy of this server, with its settings, that follows it and takes no writes until
    /// `SELECT pg_promote()` makes it a server of its own. Replication is asynchronous unless this server's
    /// `synchronous_standby_names` say otherwise.
    pub fn standby(&self) -> Result<Self, ServiceError> {
        let account = Account::choose(PostgresService::NAME)?;
        let workspace = Workspace::temporary(PostgresService::NAME, &account)?;
        let PostgresService { cluster, settings } = &self.service.kind;
        let cluster = Cluster::follow(cluster.programs.clone(), &self.url("postgres"), &workspace, &account)?;
        let kind = PostgresService { cluster, settings: settings.clone() };
        Ok(Self { service: Service::start(kind, account, workspace, None)? })
    }

    /// The address of a database, as the superuser, over TCP on 127.0.0.1. It stays the same over a restart.
    pub fn url(&self, database: &str) -> String {
        let login = match self.password() {
            Some(password) => format!("{SUPERUSER}:{password}"),
            None => SUPERUSER.to_owned(),
        };
        format!("postgres://{login}@127.0.0.1:{}/{database}", self.port())
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.service.port()
    }

    /// The superuser's name.
    pub fn user(&self) -> &str {
        SUPERUSER
    }

    /// The superuser's password; None for a temporary server, which needs no password.
    pub fn password(&self) -> Option<&str> {
        self.service.kind.cluster.password.as_deref()
    }

    /// The server's process, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.service.pid()
    }

    /// The server's log file.
    pub fn log(&self) -> PathBuf {
        self.service.log()
    }

    /// Shuts the server down and disconnects its clients. [`restart`](Self::restart) starts it again.
    pub fn stop(&self) {
        self.service.stop();
    }

    /// Kills the server (SIGKILL): what it had not committed is lost, and the next start recovers the rest.
    pub fn kill(&self) {
        self.service.kill();
    }

    /// Starts the server again with the same port and data; a running one is stopped first.
    pub fn restart(&self) -> Result<(), ServiceError> {
        self.service.restart()
    }
}

#[derive(Debug)]
struct PostgresService {
    cluster: Cluster,
    settings: Vec<(String, String)>,
}

impl ServiceKind for PostgresService {
    const NAME: &'static str = "postgres";
    const STOP: Signal = Signal::Interrupt;
    // Recovery after a crash precedes the first client.
    const READY_TIMEOUT: Duration = Duration::from_secs(120);

    fn command(&self, _: &Workspace, port: u16) -> Result<(PathBuf, Vec<OsString>), ServiceError> {
        let mut arguments = vec![OsString::from("-D"), self.cluster.data.clone().into()];
        let port = ("port".to_owned(), port.to_string());
        for (name, value) in self.settings.iter().chain([&port]) {
            arguments.extend(["-c".into(), format!("{name}={value}").into()]);
        }
        Ok((self.cluster.programs.postgres.clone(), arguments))
    }

    /// The server writes its state into its pid file, which, unlike an open port, cannot belong to another server.
    fn is_ready(&self, _: &Workspace, port: u16, pid: u32, _: &LogSince) -> bool {
        let Ok(text) = std::fs::read_to_string(self.cluster.data.join("postmaster.pid")) else { return false };
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let is = |line: usize, value: &str| lines.get(line).is_some_and(|found| *found == value);
        is(0, &pid.to_string()) && is(3, &port.to_string()) && is(7, "ready")
    }

    /// The sessions of a killed server end a moment after it.
    fn is_transient(log: &str) -> bool {
        log.contains("pre-existing shared memory block") || log.contains("lock file \"postmaster.pid\" already exists")
    }
}

fn settings(options: &PostgresOptions) -> Vec<(String, String)> {
    let mut all: Vec<(&str, String)> = vec![
        ("listen_addresses", "127.0.0.1".to_owned()),
        ("unix_socket_directories", String::new()),
        ("max_connections", options.max_connections.to_string()),
        ("shared_buffers", "64MB".to_owned()),
        ("timezone", "UTC".to_owned()),
        ("log_timezone", "UTC".to_owned()),
    ];
    if !options.durable {
        // A commit still waits for the write, but not for the disk: a killed server loses nothing that it acknowledged.
        all.extend([("fsync", "off".to_owned()), ("full_page_writes", "off".to_owned())]);
    }
    let all = all.into_iter().map(|(name, value)| (name.to_owned(), value));
    all.chain(options.settings.iter().cloned()).collect()
}
