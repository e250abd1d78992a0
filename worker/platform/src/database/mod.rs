//! PostgreSQL, usually through PgBouncer in transaction mode.
//!
//! Through PgBouncer nothing may outlive a transaction on the server: use the typed calls (`query_typed`,
//! `execute_typed`), which prepare no named statement, and `SET LOCAL`. `LISTEN`, session settings and session locks
//! are out.

mod fault;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls};

pub use fault::Fault;

use crate::env::{Errors, Reader, Source};
use crate::tls::{self, NoRoots};

/// The longest that opening a connection may take, for each address, unless the URL says otherwise.
const CONNECT: Duration = Duration::from_secs(5);
/// The longest that data may stay unacknowledged by the other side's kernel: a peer that vanished is noticed.
const UNACKNOWLEDGED: Duration = Duration::from_secs(15);
/// An idle connection is tried after this time, then at the interval, so many times.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;
/// The longest that a caller waits for a connection of the pool: for a free one, then for it to be opened.
const WAIT: Duration = Duration::from_secs(5);
const CREATE: Duration = Duration::from_secs(8);

/// Where the database is (`postgres://user:password@host:port/name?sslmode=…`), with its secrets; shows none of them.
///
/// `sslmode` means what it means to `psql`: `disable`; `prefer` (the default: TLS if the server offers it); `require`
/// (TLS, whoever the server is); `verify-full` (TLS, and the certificate is for this host and signed by someone whom
/// this machine trusts). `verify-ca` is treated as `verify-full`.
#[derive(Clone)]
pub struct DatabaseUrl {
    config: Config,
    verify: bool,
}

/// The text is no address of a database. Says what is wrong without showing any of the text.
#[derive(Debug, thiserror::Error)]
#[error("expected postgres://user:password@host:port/name ({0})")]
pub struct DatabaseUrlError(String);

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        if !["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Err(DatabaseUrlError("it begins otherwise".to_owned()));
        }
        let (text, verify) = without_verification(text);
        let mut config: Config = text.parse().map_err(|error| DatabaseUrlError(explain(&error)))?;
        if config.get_hosts().is_empty() {
            return Err(DatabaseUrlError("no host".to_owned()));
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(UNACKNOWLEDGED);
        }
        if config.get_keepalives_idle() == Config::new().get_keepalives_idle() {
            config.keepalives_idle(KEEPALIVE_IDLE);
            config.keepalives_interval(KEEPALIVE_INTERVAL);
            config.keepalives_retries(KEEPALIVE_RETRIES);
        }
        Ok(Self { config, verify })
    }
}

impl DatabaseUrl {
    /// `DATABASE_URL` alone, for commands that need nothing else.
    pub fn from_env(source: &dyn Source) -> Result<Self, Errors> {
        let mut env = Reader::new(source);
        let url = env.required("DATABASE_URL", "postgres://user:password@host:port/name");
        env.finish_with(|| url)
    }

    /// What the server shows for these connections, unless the URL names something. PgBouncer passes it on.
    #[must_use]
    pub fn application_name(mut self, name: &str) -> Self {
        if self.config.get_application_name().is_none() {
            self.config.application_name(name);
        }
        self
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client's own Debug leaves the password out.
        f.debug_struct("DatabaseUrl").field("config", &self.config).field("verify", &self.verify).finish()
    }
}

/// The client knows three modes only: `verify-full` and `verify-ca` become `require` and a flag.
fn without_verification(text: &str) -> (String, bool) {
    for mode in ["verify-full", "verify-ca"] {
        for separator in ['?', '&'] {
            let asked = format!("{separator}sslmode={mode}");
            if let Some(start) = text.find(&asked) {
                let rest = &text[start + asked.len()..];
                if rest.is_empty() || rest.starts_with('&') {
                    return (format!("{}{separator}sslmode=require{rest}", &text[..start]), true);
                }
            }
        }
    }
    (text.to_owned(), false)
}

/// The client's reason, if it names an option and nothing that could be a piece of a password.
fn explain(error: &tokio_postgres::Error) -> String {
    let reason = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let option = reason.split('`').nth(1).unwrap_or_default();
    let harmless = !option.is_empty() && option.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    if harmless { reason } else { "it is malformed; special characters must be percent-encoded".to_owned() }
}

/// A pool could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PoolSetupError {
    /// `sslmode=verify-full` and nothing to verify with.
    #[error(transparent)]
    Roots(#[from] NoRoots),
    /// The pool's settings do not fit together.
    #[error("{0}")]
    Build(#[from] deadpool_postgres::BuildError),
}

/// A pool of at most `size` connections, each opened when it is needed. Getting one never waits without a bound.
pub fn pool(url: &DatabaseUrl, size: usize) -> Result<Pool, PoolSetupError> {
    let settings = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let config = url.config.clone();
    let manager = match config.get_ssl_mode() {
        SslMode::Disable => Manager::from_config(config, NoTls, settings),
        _ if url.verify => Manager::from_config(config, tls::verifying()?, settings),
        _ => Manager::from_config(config, tls::trusting(), settings),
    };
    let builder = Pool::builder(manager).max_size(size).runtime(Runtime::Tokio1);
    Ok(builder.wait_timeout(Some(WAIT)).create_timeout(Some(CREATE)).recycle_timeout(Some(WAIT)).build()?)
}

/// A connection of a pool that must not go back as it is: dropped before [`release`](Self::release), it is closed.
///
/// For work of which a cancelled or failed call may leave a piece behind, such as an open transaction: closing makes
/// the server roll it back.
#[derive(Debug)]
pub struct Lease {
    client: Option<Object>,
}

impl Lease {
    /// Takes a connection, for which the pool's time-outs hold.
    pub async fn take(pool: &Pool) -> Result<Self, PoolError> {
        Ok(Self { client: Some(pool.get().await?) })
    }

    /// Gives the connection back. Nothing of a transaction may be left on it.
    pub fn release(mut self) {
        drop(self.client.take());
    }

    /// The same after an error: a connection that is of no use is closed. If it leads to a server that cannot serve, so
    /// do the pool's idle ones, and they are closed too: new ones may lead elsewhere.
    pub fn release_after(self, fault: Fault) {
        match fault {
            Fault::Lost => drop(self),
            Fault::Away => {
                if let Some(pool) = self.client.as_ref().and_then(Object::pool) {
                    pool.retain(|_, _| false);
                }
            }
            Fault::Passing | Fault::Data | Fault::Refused => self.release(),
        }
    }
}

impl std::ops::Deref for Lease {
    type Target = Client;

    fn deref(&self) -> &Client {
        // Only `release`, which consumes the lease, takes the client away.
        #[allow(clippy::expect_used)]
        self.client.as_ref().expect("a lease holds its client until it is released")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            drop(Object::take(client));
        }
    }
}

/// An error of the database in a line for the log: what the server said, if it said something.
pub fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("{} ({})", error.message(), error.code().code()),
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}

/// The same for an error of the pool.
pub fn describe_pool(error: &PoolError) -> String {
    match error {
        PoolError::Backend(error) => describe(error),
        PoolError::Timeout(_) => "no connection in time".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ssl_modes_are_those_of_psql() {
        let mode = |query: &str| {
            let url: DatabaseUrl = format!("postgres://u:p@h/d{query}").parse().unwrap();
            (url.config.get_ssl_mode(), url.verify)
        };
        assert_eq!(mode(""), (SslMode::Prefer, false));
        assert_eq!(mode("?sslmode=disable"), (SslMode::Disable, false));
        assert_eq!(mode("?sslmode=require"), (SslMode::Require, false));
        assert_eq!(mode("?sslmode=verify-full"), (SslMode::Require, true));
        assert_eq!(mode("?connect_timeout=3&sslmode=verify-ca&keepalives=1"), (SslMode::Require, true));
        assert!("postgres://u:p@h/d?sslmode=verify-most".parse::<DatabaseUrl>().is_err());
    }

    #[test]
    fn nothing_waits_for_ever_unless_asked_to() {
        let url: DatabaseUrl = "postgres://u:p@h/d".parse().unwrap();
        assert_eq!(url.config.get_connect_timeout(), Some(&CONNECT));
        let url: DatabaseUrl = "postgres://u:p@h/d?connect_timeout=60".parse().unwrap();
        assert_eq!(url.config.get_connect_timeout(), Some(&Duration::from_secs(60)));
    }

    #[test]
    fn secrets_are_shown_neither_by_errors_nor_by_debug() {
        let url: DatabaseUrl = "postgres://me:hunter2@h/d".parse().unwrap();
        assert!(!format!("{url:?}").contains("hunter2"));
        for bad in [
            "hunter2",
            "postgres//me:hunter2@h/d?sslmode=disable",
            "postgres://me:hunter2@h:x/d",
            "postgres://me:hunter2@h/d?hunter2=1",
            "postgres://me@/d?x",
        ] {
            let text = bad.parse::<DatabaseUrl>().unwrap_err().to_string();
            assert!(!text.contains("hunter2"), "{text}");
        }
        let text = "postgres://me:p@h/d?pgbouncer=true".parse::<DatabaseUrl>().unwrap_err().to_string();
        assert!(text.contains("pgbouncer"), "{text}");
    }
}
