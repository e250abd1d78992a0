//! PgBouncer in transaction mode.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::error::{IoContext, ServiceError};
use crate::find;
use crate::log::LogSince;
use crate::postgres::Postgres;
use crate::service::{Service, ServiceKind};
use crate::supervisor::Signal;
use crate::workspace::Workspace;

const INSTALL: &str = "apt-get install pgbouncer (Debian, Ubuntu), brew install pgbouncer (macOS)";
/// The longest that PgBouncer may take to log that it has received a signal.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(5);

/// The PostgreSQL server that a PgBouncer connects to.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Host name or address.
    pub host: String,
    pub port: u16,
    /// The user that PgBouncer logs in as, whatever user its client names.
    pub user: String,
    /// That user's password, if the server asks for one.
    pub password: Option<String>,
}

impl From<&Postgres> for Upstream {
    fn from(postgres: &Postgres) -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: postgres.port(),
            user: postgres.user().to_owned(),
            password: postgres.password().map(str::to_owned),
        }
    }
}

/// How to run a private PgBouncer.
#[derive(Debug, Clone)]
pub struct PgBouncerOptions {
    /// Maximum number of server connections for each database (`default_pool_size`).
    pub pool_size: u16,
    /// Maximum number of client connections (`max_client_conn`).
    pub max_clients: u16,
    /// Idle server connections are closed after this time (`server_idle_timeout`, whole seconds). The default is short,
    /// because every test has a database of its own, and their idle connections add up.
    pub idle_timeout: Duration,
    /// Further settings of the `[pgbouncer]` section, for example `("query_wait_timeout", "2")`.
    pub settings: Vec<(String, String)>,
}

impl Default for PgBouncerOptions {
    fn default() -> Self {
        Self { pool_size: 10, max_clients: 1000, idle_timeout: Duration::from_secs(10), settings: Vec::new() }
    }
}

/// A private PgBouncer in transaction mode, for every database of one server. Dropping it stops it.
///
/// Named prepared statements are off, as in every PgBouncer before 1.21, and no start-up parameter is ignored: a client
/// that works here works with the strictest installation. Anyone may log in from this machine, also to the console,
/// database `pgbouncer`.
#[derive(Debug)]
pub struct PgBouncer {
    service: Service<PgBouncerService>,
}

impl PgBouncer {
    /// Starts a PgBouncer in front of `upstream` (a [`Postgres`], or an [`Upstream`]) and waits until it accepts
    /// clients.
    pub fn start(upstream: impl Into<Upstream>, options: PgBouncerOptions) -> Result<Self, ServiceError> {
        let account = Account::choose(PgBouncerService::NAME)?;
        let workspace = Workspace::temporary(PgBouncerService::NAME, &account)?;
        let program = find::program(&["pgbouncer"], INSTALL)?;
        let knows_prepared = find::version(&program).is_some_and(|version| at_least_1_21(&version));
        let upstream = Mutex::new(upstream.into());
        let kind = PgBouncerService { program, knows_prepared, upstream, options, account: account.clone() };
        Ok(Self { service: Service::start(kind, account, workspace, None)? })
    }

    /// The address of a database through the pool. It stays the same over a restart.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{}@127.0.0.1:{}/{database}", self.service.kind.upstream().user, self.port())
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.service.port()
    }

    /// The process, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.service.pid()
    }

    /// The log file.
    pub fn log(&self) -> PathBuf {
        self.service.log()
    }

    /// Stops it, cutting its clients off. [`restart`](Self::restart) starts it again.
    pub fn stop(&self) {
        self.service.stop();
    }

    /// Kills it (SIGKILL).
    pub fn kill(&self) {
        self.service.kill();
    }

    /// Starts it again on the same port; a running one is stopped first.
    pub fn restart(&self) -> Result<(), ServiceError> {
        self.service.restart()
    }

    /// Delays every client's next transaction until [`resume`](Self::resume): the database seems to hang.
    pub fn pause(&self) -> Result<(), ServiceError> {
        self.signal_and_wait(Signal::User1, "SIGUSR1")
    }

    /// Ends [`pause`](Self::pause).
    pub fn resume(&self) -> Result<(), ServiceError> {
        self.signal_and_wait(Signal::User2, "SIGUSR2")
    }

    /// Connects to another server from now on, as after a failover: new configuration, `RELOAD`.
    pub fn redirect(&self, upstream: impl Into<Upstream>) -> Result<(), ServiceError> {
        *self.service.kind.upstream() = upstream.into();
        self.service.configure()?;
        self.signal_and_wait(Signal::Hangup, "SIGHUP")
    }

    /// Sends a signal and waits until the log mentions it.
    fn signal_and_wait(&self, signal: Signal, name: &str) -> Result<(), ServiceError> {
        let log = self.service.log_since_now();
        self.service.signal(signal);
        let deadline = Instant::now() + SIGNAL_TIMEOUT;
        while !log.text().contains(name) {
            if Instant::now() > deadline {
                let service = PgBouncerService::NAME;
                return Err(ServiceError::NotReady { service, waited: SIGNAL_TIMEOUT, log: log.tail() });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

#[derive(Debug)]
struct PgBouncerService {
    program: PathBuf,
    knows_prepared: bool,
    upstream: Mutex<Upstream>,
    options: PgBouncerOptions,
    account: Account,
}

impl PgBouncerService {
    /// A panic elsewhere cannot leave it half-written: it is only read and replaced.
    fn upstream(&self) -> MutexGuard<'_, Upstream> {
        self.upstream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn config(&self, port: u16) -> String {
        let Upstream { host, port: upstream_port, user, password } = &*self.upstream();
        let password = password.as_deref().map(|password| format!(" password='{password}'")).unwrap_or_default();
        let mut lines = vec![
            "[databases]".to_owned(),
            format!("* = host={host} port={upstream_port} user='{user}'{password}"),
            "[pgbouncer]".to_owned(),
            "listen_addr = 127.0.0.1".to_owned(),
            format!("listen_port = {port}"),
            "unix_socket_dir =".to_owned(),
            "auth_type = any".to_owned(),
            format!("admin_users = {user}"),
            "pool_mode = transaction".to_owned(),
            format!("default_pool_size = {}", self.options.pool_size),
            format!("max_client_conn = {}", self.options.max_clients),
            format!("server_idle_timeout = {}", self.options.idle_timeout.as_secs()),
            // Reconnects soon after an outage of the server (15 seconds by default).
            "server_login_retry = 1".to_owned(),
        ];
        if self.knows_prepared {
            lines.push("max_prepared_statements = 0".to_owned());
        }
        lines.extend(self.options.settings.iter().map(|(name, value)| format!("{name} = {value}")));
        lines.join("\n") + "\n"
    }
}

impl ServiceKind for PgBouncerService {
    const NAME: &'static str = "pgbouncer";
    // Its SIGINT waits for the clients' transactions.
    const STOP: Signal = Signal::Terminate;
    const READY_TIMEOUT: Duration = Duration::from_secs(30);

    fn command(&self, workspace: &Workspace, port: u16) -> Result<(PathBuf, Vec<OsString>), ServiceError> {
        let path = workspace.path().join("pgbouncer.ini");
        std::fs::write(&path, self.config(port)).during(|| format!("writing {}", path.display()))?;
        self.account.give(&path)?;
        Ok((self.program.clone(), vec![path.into()]))
    }

    /// PgBouncer logs this after it has opened its socket, and ends if it cannot open it.
    fn is_ready(&self, _: &Workspace, _: u16, _: u32, log: &LogSince) -> bool {
        log.text().contains("process up")
    }
}

fn at_least_1_21(version: &str) -> bool {
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or_default());
    (numbers.next(), numbers.next()) >= (Some(1), Some(21))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(!at_least_1_21("1.18.0"));
        assert!(!at_least_1_21("1.9"));
        assert!(at_least_1_21("1.21.0"));
        assert!(at_least_1_21("1.100"));
        assert!(at_least_1_21("2.0"));
    }
}
