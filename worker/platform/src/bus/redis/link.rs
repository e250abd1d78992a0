//! One connection that is made when it is needed, shared by all who ask, and replaced when it dies.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, Pipeline, RedisError};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::{RedisOptions, RedisUrl, RedisUrlError, describe};
use crate::backoff::jitter;
use crate::bus::Unavailable;
use crate::health::Part;
use crate::tls;

/// How long somebody who does not want to wait may wait for a connection that is being made.
const GLANCE: Duration = Duration::from_millis(250);

/// Whom a connection's state is told.
pub(super) trait Indicator: Send + Sync {
    fn up(&self);
    fn down(&self, reason: &str);
}

impl Indicator for Part {
    fn up(&self) {
        self.up();
    }

    fn down(&self, reason: &str) {
        self.down(reason);
    }
}

/// The connection, and how to get another.
pub(super) struct Link {
    client: redis::Client,
    options: RedisOptions,
    indicator: Box<dyn Indicator>,
    held: Mutex<Held>,
}

/// The connection, as far as it is known.
struct Held {
    state: State,
    /// Counts the connections, so that a late report about an old one does not end the new one.
    number: u64,
    /// Connecting failed so many times in a row.
    failures: u32,
}

enum State {
    Connected(MultiplexedConnection),
    /// Fails at once until then: callers do not queue for one time-out each.
    Away {
        until: Instant,
        reason: String,
    },
}

impl Link {
    pub(super) fn new(client: redis::Client, options: RedisOptions, indicator: Box<dyn Indicator>) -> Self {
        let state = State::Away { until: Instant::now(), reason: "not connected yet".to_owned() };
        Self { client, options, indicator, held: Mutex::new(Held { state, number: 0, failures: 0 }) }
    }

    pub(super) fn works(&self) {
        self.indicator.up();
    }

    /// The connection, if there is one or the first try to connect shows that there can be.
    pub(super) async fn connection_at_hand(&self) -> Result<(MultiplexedConnection, u64), Unavailable> {
        let Ok(held) = timeout(GLANCE, self.held.lock()).await else {
            return Err(Unavailable("Redis is being connected to".to_owned()));
        };
        match &held.state {
            State::Away { reason, .. } if held.failures > 0 => return Err(Unavailable(reason.clone())),
            _ => drop(held),
        }
        self.connection().await
    }

    /// The connection and its number. One caller connects, others wait for it, and all fail when it does.
    pub(super) async fn connection(&self) -> Result<(MultiplexedConnection, u64), Unavailable> {
        let mut held = self.held.lock().await;
        match &held.state {
            State::Connected(connection) => return Ok((connection.clone(), held.number)),
            State::Away { until, reason } if Instant::now() < *until => return Err(Unavailable(reason.clone())),
            State::Away { .. } => {}
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.options.connect_timeout))
            .set_response_timeout(Some(self.options.response_timeout));
        match self.client.get_multiplexed_async_connection_with_config(&config).await {
            Ok(connection) => {
                held.number += 1;
                held.failures = 0;
                held.state = State::Connected(connection.clone());
                Ok((connection, held.number))
            }
            Err(error) => {
                let reason = describe(&error);
                held.failures = held.failures.saturating_add(1);
                let until = Instant::now() + self.options.backoff.jittered(held.failures, jitter());
                held.state = State::Away { until, reason: reason.clone() };
                self.indicator.down(&reason);
                Err(Unavailable(reason))
            }
        }
    }

    /// The connection of this number is of no use any more. The next caller connects at once.
    pub(super) async fn lost(&self, number: u64, reason: &str) {
        let mut held = self.held.lock().await;
        if held.number == number && matches!(held.state, State::Connected(_)) {
            held.state = State::Away { until: Instant::now(), reason: reason.to_owned() };
            self.indicator.down(reason);
        }
    }
}

/// Commands to one Redis, for those who would rather do without than wait: an answer comes within the patience, or a
/// reason why there is none. Connects when it is first asked, and again whenever it has to.
pub struct RedisLink {
    link: Link,
    patience: Duration,
}

/// Why Redis did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum RedisAnswer {
    /// It says no.
    #[error("{0}")]
    Refused(RedisError),
    /// It cannot be reached, or does not answer. What it did is not known.
    #[error("{0}")]
    Away(String),
}

impl fmt::Debug for RedisLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLink").field("patience", &self.patience).finish_non_exhaustive()
    }
}

impl RedisLink {
    /// `what` is what the log says is away when Redis is.
    pub fn new(url: &RedisUrl, what: &'static str, patience: Duration) -> Result<Self, RedisUrlError> {
        tls::install_crypto();
        let client = redis::Client::open(url.0.clone()).map_err(|error| RedisUrlError(error.category().to_owned()))?;
        let options =
            RedisOptions { connect_timeout: patience / 2, response_timeout: patience, ..RedisOptions::default() };
        Ok(Self { link: Link::new(client, options, Box::new(Logged { what, away: AtomicBool::default() })), patience })
    }

    /// Sends commands and waits for their answers.
    pub async fn ask<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, RedisAnswer> {
        let away = || RedisAnswer::Away("Redis did not answer in time".to_owned());
        let asked = timeout(self.patience, self.exchange(commands)).await;
        asked.unwrap_or_else(|_| Err(away()))
    }

    async fn exchange<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, RedisAnswer> {
        let connected = self.link.connection().await;
        let (mut connection, number) = connected.map_err(|Unavailable(reason)| RedisAnswer::Away(reason))?;
        match commands.query_async(&mut connection).await {
            Ok(answer) => {
                self.link.works();
                Ok(answer)
            }
            Err(error) if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() => {
                let reason = describe(&error);
                self.link.lost(number, &reason).await;
                Err(RedisAnswer::Away(reason))
            }
            Err(error) => {
                // After a failover the address may lead to another server.
                if error.code().is_some_and(|code| matches!(code, "READONLY" | "LOADING" | "MASTERDOWN")) {
                    self.link.lost(number, &describe(&error)).await;
                }
                Err(RedisAnswer::Refused(error))
            }
        }
    }
}

/// Tells the log, once for each outage.
struct Logged {
    what: &'static str,
    away: AtomicBool,
}

impl Indicator for Logged {
    fn up(&self) {
        if self.away.load(Ordering::Relaxed) && self.away.swap(false, Ordering::Relaxed) {
            tracing::info!(what = self.what, "Redis is back");
        }
    }

    fn down(&self, reason: &str) {
        if !self.away.swap(true, Ordering::Relaxed) {
            tracing::warn!(what = self.what, reason, "Redis is away");
        }
    }
}
