//! What a bus is to those who use it.

use async_trait::async_trait;
use bytes::Bytes;

/// One message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    pub channel: String,
    pub payload: Bytes,
}

/// The bus works, but does not accept this message; with the reason. Sending it again does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MessageRejected(pub String);

/// The bus does not work; with the reason. It is unknown whether anything arrived, and no message is the cause.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BusUnavailable(pub String);

/// Why one message of a batch was not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The message itself is the cause.
    #[error(transparent)]
    Rejected(#[from] MessageRejected),
    /// The part of the bus that carries its channel does not work; others do.
    #[error(transparent)]
    Unavailable(#[from] BusUnavailable),
}

/// Publishes messages and creates subscribers.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Publishes in order, pipelined; returns one result for each message. Every wait in it has a time-out.
    ///
    /// After an error, of the batch or of a message, any part of it may have arrived; publish it again. If order
    /// matters, do not call it again before the previous call has returned.
    async fn publish(&self, batch: &[Publication]) -> Result<Vec<Result<(), PublishError>>, BusUnavailable>;

    /// A subscriber without channels.
    fn subscriber(&self) -> Box<dyn Subscriber>;
}

/// Receives the messages of channels. Dropping it ends its subscriptions and connections.
#[async_trait]
pub trait Subscriber: Send {
    /// Subscribes to a channel. [`Signal::Subscribed`] confirms it. No-op if the channel is subscribed already.
    fn subscribe(&mut self, channel: String);

    /// Unsubscribes from a channel. No further signal about it is returned.
    fn unsubscribe(&mut self, channel: &str);

    /// The next signal. Never fails: the subscriber reconnects by itself with backoff and jitter, and detects a dead
    /// connection by a `PING` at intervals. Cancel-safe: a dropped call loses nothing.
    async fn next(&mut self) -> Signal;
}

/// What a subscriber receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    Message {
        channel: String,
        payload: Bytes,
    },
    /// The channel is subscribed: messages published from now on arrive. Earlier ones may be lost.
    Subscribed {
        channel: String,
    },
    /// Messages of every channel may be missed, until its [`Signal::Subscribed`]. Reported once per interruption.
    Lost,
    /// Messages of this channel may be missed, until its [`Signal::Subscribed`].
    Interrupted {
        channel: String,
    },
}
