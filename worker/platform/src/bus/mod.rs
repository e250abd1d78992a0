//! The way from a worker to the gateways: channels that forget. Redis Pub/Sub, or the same inside one process.
//!
//! What every bus promises, and what not:
//! - A channel's messages of one [`Bus::publish`] call, and of calls that follow each other, arrive in that order at a
//!   subscriber.
//! - At most once. Who is not subscribed, or lost the connection, misses messages; a [`Subscriber`] says so, with
//!   [`Signal::Lost`] or [`Signal::Interrupted`] first and [`Signal::Subscribed`] when it listens again. What lies
//!   between must come from the database.
//! - Memory is bounded: a subscriber that does not call [`Subscriber::next`] loses messages, and is told in the same
//!   way.

mod inbox;
mod local;
mod redis;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

pub use local::LocalBus;
pub use redis::{RedisAnswer, RedisBus, RedisLink, RedisOptions, RedisUrl, RedisUrlError, ShardedRedisBus};

use crate::contract::PubSubMode;
use crate::health::Health;

/// The bus of a deployment.
pub fn open(url: &RedisUrl, mode: PubSubMode, health: &Health) -> Result<Arc<dyn Bus>, RedisUrlError> {
    Ok(match mode {
        PubSubMode::Global | PubSubMode::PerConversation => Arc::new(RedisBus::new(url, health)?),
        PubSubMode::Sharded => Arc::new(ShardedRedisBus::new(url, health)?),
    })
}

/// One message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    pub channel: String,
    pub payload: Bytes,
}

/// The bus takes messages, but not this one: sending it again will not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// The bus is away. Nothing is known to have arrived, and no message is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// Why one message of a batch was not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unpublished {
    /// It is to blame itself.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The part of the bus that carries its channel is away; others work.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Publishes, and makes subscribers.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Publishes in order, pipelined; one result for each. Each waiting is bounded. After an error, of the batch or of
    /// one message, any part of it may have arrived: publish it again. Not to be called again before it is done, if
    /// order matters.
    async fn publish(&self, batch: &[Publication]) -> Result<Vec<Result<(), Unpublished>>, Unavailable>;

    /// A subscriber that wants no channel yet.
    fn subscriber(&self) -> Box<dyn Subscriber>;
}

/// Listens to channels, over as many connections as it takes. Dropping it ends it.
#[async_trait]
pub trait Subscriber: Send {
    /// Wants a channel from now on. [`Signal::Subscribed`] tells when it listens; wanting what is wanted already does
    /// nothing.
    fn subscribe(&mut self, channel: String);

    /// Wants a channel no more. Nothing of it is returned from now on.
    fn unsubscribe(&mut self, channel: &str);

    /// What happened next. Never fails: reconnects by itself with backoff and jitter, and notices a dead connection by
    /// a `PING` on a timer. Cancel-safe: a dropped call loses nothing.
    async fn next(&mut self) -> Signal;
}

/// What a subscriber hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    Message {
        channel: String,
        payload: Bytes,
    },
    /// Listens to this channel: what is published from now on arrives. What was published before may be lost.
    Subscribed {
        channel: String,
    },
    /// Messages of every channel may be missed, until its [`Signal::Subscribed`]. Told once for each time.
    Lost,
    /// The same of this channel alone.
    Interrupted {
        channel: String,
    },
}
