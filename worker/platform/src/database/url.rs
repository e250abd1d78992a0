//! The address of the database.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::Config;

use crate::env::{Errors, Reader, Source};

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
/// `sslmode` means what it means to `psql`: `disable`; `prefer` (the default: TLS if the server offers it); `require`
/// (TLS, but the certificate is not verified); `verify-full` (TLS, and the certificate is for this host and signed by
/// an authority that this machine trusts). `verify-ca` is treated as `verify-full`.
#[derive(Clone)]
pub struct DatabaseUrl {
    pub(super) config: Config,
    /// Whether the server's certificate is verified.
    pub(super) verify: bool,
}

/// The text is not the address of a database. The message says what is wrong and shows nothing of the text.
#[derive(Debug, thiserror::Error)]
#[error("expected postgres://user:password@host:port/name ({0})")]
pub struct DatabaseUrlError(String);

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        if !["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Err(DatabaseUrlError("the scheme is missing".to_owned()));
        }
        let (text, verify) = split_verification(text);
        let mut config: Config = text.parse().map_err(|error| DatabaseUrlError(explain(&error)))?;
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
        Ok(Self { config, verify })
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
        f.debug_struct("DatabaseUrl").field("config", &self.config).field("verify", &self.verify).finish()
    }
}

/// The client library knows three modes only: `verify-full` and `verify-ca` become `require` and a flag.
fn split_verification(text: &str) -> (String, bool) {
    for mode in ["verify-full", "verify-ca"] {
        for separator in ['?', '&'] {
            let option = format!("{separator}sslmode={mode}");
            if let Some(start) = text.find(&option) {
                let rest = &text[start + option.len()..];
                if rest.is_empty() || rest.starts_with('&') {
                    return (format!("{}{separator}sslmode=require{rest}", &text[..start]), true);
                }
            }
        }
    }
    (text.to_owned(), false)
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
    use tokio_postgres::config::SslMode;

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
