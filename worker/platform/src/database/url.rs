//! The address of the database.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::Config;

use super::tls_mode;
use crate::env::{Errors, Reader, Source};
use crate::tls::Verification;

/// The longest that opening a connection may take, for each address, unless the URL sets `connect_timeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest that sent data may stay unacknowledged by the peer's kernel: a peer that vanished is then noticed.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(15);
/// An idle connection is probed after this time, then at the interval, this many times.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

/// The address of a database, `postgres://user:password@host:port/name?sslmode=…`. `Debug` shows no secret.
///
/// `sslmode` and `sslrootcert` mean what they mean to `psql`; docs/configuration.md says it mode by mode.
#[derive(Clone)]
pub struct DatabaseUrl {
    pub(super) config: Config,
    /// What the server's certificate must prove.
    pub(super) verification: Verification,
}

/// The text is not the address of a database. The message says what is wrong and shows nothing of the text.
#[derive(Debug, thiserror::Error)]
#[error("expected postgres://user:password@host:port/name ({0})")]
pub struct DatabaseUrlError(String);

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        if !["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Err(DatabaseUrlError("it must begin with postgres:// or postgresql://".to_owned()));
        }
        let (text, mode, verification) = tls_mode::take(text).map_err(|error| DatabaseUrlError(error.to_string()))?;
        let mut config: Config = text.parse().map_err(|error| DatabaseUrlError(explain(&error)))?;
        config.ssl_mode(mode);
        if config.get_hosts().is_empty() {
            return Err(DatabaseUrlError("no host".to_owned()));
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(TCP_USER_TIMEOUT);
        }
        if config.get_keepalives_idle() == Config::new().get_keepalives_idle() {
            config.keepalives_idle(KEEPALIVE_IDLE);
            config.keepalives_interval(KEEPALIVE_INTERVAL);
            config.keepalives_retries(KEEPALIVE_RETRIES);
        }
        Ok(Self { config, verification })
    }
}

impl DatabaseUrl {
    /// Reads `DATABASE_URL` alone, for commands that need no other variable.
    pub fn from_env(source: &dyn Source) -> Result<Self, Errors> {
        let mut env = Reader::new(source);
        let url = env.required("DATABASE_URL", "postgres://user:password@host:port/name");
        env.finish_with(|| url)
    }

    /// Sets the name that the server shows for these connections, unless the URL sets one. PgBouncer passes it on.
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
        // `Config` leaves the password out.
        f.debug_struct("DatabaseUrl").field("config", &self.config).finish_non_exhaustive()
    }
}

/// The reason of the client library, if it names an option and contains nothing that could be part of a password.
fn explain(error: &tokio_postgres::Error) -> String {
    let reason = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let option = reason.split('`').nth(1).unwrap_or_default();
    let harmless = !option.is_empty() && option.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    if harmless { reason } else { "it is malformed; special characters must be percent-encoded".to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nothing_waits_for_ever_unless_asked_to() {
        let url: DatabaseUrl = "postgres://u:p@h/d".parse().unwrap();
        assert_eq!(url.config.get_connect_timeout(), Some(&CONNECT_TIMEOUT));
        let url: DatabaseUrl = "postgres://u:p@h/d?connect_timeout=60".parse().unwrap();
        assert_eq!(url.config.get_connect_timeout(), Some(&Duration::from_secs(60)));
    }

    #[test]
    fn neither_errors_nor_debug_show_secrets() {
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
