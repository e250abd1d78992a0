//! One connection that is opened when it is needed, shared by all who ask, and replaced when it dies.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisResult};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout};

use super::describe::{describe, is_denied};
use super::options::RedisOptions;
use super::server::{Place, Server};
use super::status::StatusReporter;
use crate::backoff::jitter;
use crate::bus::interface::BusUnavailable;

/// How long a caller that must not be delayed waits while another one opens the connection.
const CONNECT_GRACE: Duration = Duration::from_millis(250);
/// How long a refusal is reported while other commands are carried out.
const REFUSAL_STANDS: Duration = Duration::from_secs(60);

/// The connection, and how to open another.
pub(super) struct SharedConnection {
    server: Server,
    options: RedisOptions,
    status: Box<dyn StatusReporter>,
    /// Locked while a caller connects; the others wait for the result.
    slot: Mutex<Slot>,
    /// When what was asked was last refused, by the user's ACL or by Redis itself, if that still stands.
    refused: watch::Sender<Option<Refused>>,
}

/// What was asked was refused, whatever else the connection is good for.
#[derive(Debug, Clone, Copy)]
struct Refused {
    since: Instant,
    /// By the user's ACL, which somebody must change. Redis itself may have changed its mind without being asked again.
    by_acl: bool,
}

struct Slot {
    connection: Connection,
    /// The number of the current connection, so that a late report about an earlier one does not end it.
    generation: u64,
    /// How many attempts to connect have failed in a row.
    failures: u32,
}

enum Connection {
    Open(MultiplexedConnection, Box<Place>),
    /// Until `retry_at`, callers fail at once, so that they do not queue for a time-out each.
    Unavailable {
        retry_at: Instant,
        reason: String,
    },
}

impl SharedConnection {
    pub(super) fn new(server: Server, options: RedisOptions, status: Box<dyn StatusReporter>) -> Self {
        let connection = Connection::Unavailable { retry_at: Instant::now(), reason: "not connected yet".to_owned() };
        let slot = Mutex::new(Slot { connection, generation: 0, failures: 0 });
        Self { server, options, status, slot, refused: watch::Sender::default() }
    }

    /// Reports that the connection works, unless it is of no use for as long as a refusal stands.
    pub(super) fn mark_up(&self) {
        let stands = |refused: Refused| refused.by_acl || refused.since.elapsed() <= REFUSAL_STANDS;
        if !self.refused.borrow().is_some_and(stands) {
            self.mark_allowed();
        }
    }

    /// Reports that what the connection is for is allowed.
    pub(super) fn mark_allowed(&self) {
        if self.refused.borrow().is_some() {
            self.refused.send_replace(None);
        }
        self.status.up();
    }

    /// The same where other commands may still be refused: a refusal is forgotten after a while.
    pub(super) fn mark_perhaps_allowed(&self) {
        if self.refused.borrow().is_none_or(|refused| refused.since.elapsed() > REFUSAL_STANDS) {
            self.mark_allowed();
        }
    }

    /// Reports that the user's ACL does not allow what was asked. The connection stays: it is allowed as soon as the
    /// ACL is changed.
    pub(super) fn mark_denied(&self, reason: &str) {
        self.refused.send_replace(Some(Refused { since: Instant::now(), by_acl: true }));
        self.status.denied(reason);
    }

    /// As [`get`](Self::get), but fails instead of waiting if the last attempt to connect failed, or if another
    /// caller's attempt takes longer than [`CONNECT_GRACE`].
    pub(super) async fn get_promptly(&self) -> Result<(MultiplexedConnection, u64), BusUnavailable> {
        let Ok(slot) = timeout(CONNECT_GRACE, self.slot.lock()).await else {
            return Err(BusUnavailable("the connection to Redis is being opened".to_owned()));
        };
        match &slot.connection {
            Connection::Unavailable { reason, .. } if slot.failures > 0 => return Err(BusUnavailable(reason.clone())),
            _ => drop(slot),
        }
        self.get().await
    }

    /// Reports that Redis itself refuses what was asked, whatever else it answers.
    pub(super) fn mark_refused(&self, reason: &str) {
        self.refused.send_replace(Some(Refused { since: Instant::now(), by_acl: false }));
        self.status.down(reason);
    }

    /// The connection and its generation. One caller connects; the others wait for it and share its result.
    pub(super) async fn get(&self) -> Result<(MultiplexedConnection, u64), BusUnavailable> {
        let mut slot = self.slot.lock().await;
        match &slot.connection {
            Connection::Open(connection, _) => return Ok((connection.clone(), slot.generation)),
            Connection::Unavailable { retry_at, reason } if Instant::now() < *retry_at => {
                return Err(BusUnavailable(reason.clone()));
            }
            Connection::Unavailable { .. } => {}
        }
        match self.connect().await {
            Ok((connection, place)) => {
                slot.generation += 1;
                slot.failures = 0;
                slot.connection = Connection::Open(connection.clone(), Box::new(place));
                Ok((connection, slot.generation))
            }
            Err(error) => {
                let reason = describe(&error);
                slot.failures = slot.failures.saturating_add(1);
                let retry_at = Instant::now() + self.options.backoff.jittered(slot.failures, jitter());
                slot.connection = Connection::Unavailable { retry_at, reason: reason.clone() };
                if is_denied(&error) {
                    self.status.denied(&reason);
                } else {
                    self.status.down(&reason);
                }
                Err(BusUnavailable(reason))
            }
        }
    }

    /// Connects to a server that answers. A stopped process still accepts connections, and without a password nothing
    /// else would be asked of it: each caller would then wait for it anew.
    async fn connect(&self) -> RedisResult<(MultiplexedConnection, Place)> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.options.connect_timeout))
            .set_response_timeout(Some(self.options.response_timeout));
        let connecting = async {
            let place = self.server.place(self.options.connect_timeout).await?;
            let mut connection = place.client.get_multiplexed_async_connection_with_config(&config).await?;
            redis::cmd("PING").query_async::<()>(&mut connection).await?;
            Ok((connection, place))
        };
        let late = || Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
        timeout(self.options.connect_timeout, connecting).await.unwrap_or_else(|_| late())
    }

    /// Discards the connection if sentinels name another Redis than the one it leads to. The next caller connects
    /// there.
    pub(super) async fn leave_if_another_leads(&self) {
        let (place, generation) = match &*self.slot.lock().await {
            Slot { connection: Connection::Open(_, place), generation, .. } => (place.clone(), *generation),
            _ => return,
        };
        if let Some(reason) = self.server.left(&place, self.options.connect_timeout).await {
            self.discard(generation, &reason).await;
        }
    }

    /// Discards the connection of this generation, which no longer works. The next caller connects at once.
    pub(super) async fn discard(&self, generation: u64, reason: &str) {
        let mut slot = self.slot.lock().await;
        if slot.generation == generation && matches!(slot.connection, Connection::Open(..)) {
            slot.connection = Connection::Unavailable { retry_at: Instant::now(), reason: reason.to_owned() };
            self.status.down(reason);
        }
    }
}
