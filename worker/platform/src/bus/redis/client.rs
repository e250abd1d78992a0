//! Commands to one Redis, apart from publishing and subscribing.

use std::fmt;
use std::time::Duration;

use redis::{FromRedisValue, Pipeline, RedisError};

use super::connection::SharedConnection;
use super::describe::{describe, is_denied};
use super::options::RedisOptions;
use super::status::LogReporter;
use super::url::{RedisUrl, RedisUrlError};
use crate::bus::interface::BusUnavailable;
use crate::tls;

/// Sends commands to one Redis, for callers that can do without an answer but cannot wait: within the time-out there is
/// an answer or an error. Connects at the first command, and reconnects by itself.
pub struct RedisClient {
    connection: SharedConnection,
    timeout: Duration,
}

/// Why Redis did not carry out a command.
#[derive(Debug, thiserror::Error)]
pub enum RedisCommandError {
    /// Redis answered with an error.
    #[error("{}", describe(.0))]
    Rejected(RedisError),
    /// Redis cannot be reached or did not answer in time. It is unknown whether the command was carried out.
    #[error("{0}")]
    Unavailable(String),
}

impl fmt::Debug for RedisClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisClient").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl RedisClient {
    /// `used_for` says in the log what does not work while Redis is unavailable. `timeout` bounds each
    /// [`query`](Self::query), connecting included.
    pub fn new(url: &RedisUrl, used_for: &'static str, timeout: Duration) -> Result<Self, RedisUrlError> {
        tls::install_crypto();
        let options =
            RedisOptions { connect_timeout: timeout / 2, response_timeout: timeout, ..RedisOptions::default() };
        let status = Box::new(LogReporter::new(used_for));
        Ok(Self { connection: SharedConnection::new(url.server()?, options, status), timeout })
    }

    /// Sends commands and waits for their answers.
    pub async fn query<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, RedisCommandError> {
        let answered = tokio::time::timeout(self.timeout, self.exchange(commands)).await;
        answered.unwrap_or_else(|_| Err(RedisCommandError::Unavailable("Redis did not answer in time".to_owned())))
    }

    async fn exchange<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, RedisCommandError> {
        let connected = self.connection.get().await;
        let (mut connection, generation) =
            connected.map_err(|BusUnavailable(reason)| RedisCommandError::Unavailable(reason))?;
        match commands.query_async(&mut connection).await {
            Ok(answer) => {
                self.connection.mark_perhaps_allowed();
                Ok(answer)
            }
            Err(error) if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() => {
                let reason = describe(&error);
                self.connection.discard(generation, &reason).await;
                Err(RedisCommandError::Unavailable(reason))
            }
            Err(error) => {
                let denied = is_denied(&error);
                // After a failover the address may lead to another server; where one of several commands is denied, a
                // transaction may have been begun and not ended.
                if denied || error.code().is_some_and(|code| matches!(code, "READONLY" | "LOADING" | "MASTERDOWN")) {
                    self.connection.discard(generation, &describe(&error)).await;
                }
                if denied {
                    self.connection.mark_denied(&describe(&error));
                }
                Err(RedisCommandError::Rejected(error))
            }
        }
    }
}
