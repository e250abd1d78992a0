//! Subscribing at one Redis. The client library's own resubscription is not used: it can stay dead after an outage
//! during which nothing was published.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use redis::Value;
use redis::aio::{PubSubSink, PubSubStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::describe::{describe, is_denied};
use super::options::RedisOptions;
use super::server::{Place, Server};
use crate::backoff::jitter;
use crate::bus::inbox::{Change, Inbox};
use crate::bus::interface::{Signal, Subscriber};
use crate::health::Part;

/// The most channels in one command, so that Redis confirms each command well within the time-out.
const MAX_CHANNELS: usize = 256;

pub(super) struct RedisSubscriber {
    inbox: Arc<Inbox>,
    _receiver: AbortOnDropHandle<()>,
}

impl RedisSubscriber {
    pub(super) fn start(server: Server, options: RedisOptions, part: Part) -> Self {
        let inbox = Arc::new(Inbox::new(options.max_unread_bytes));
        let receiver = Receiver { server, options, part, inbox: Arc::clone(&inbox) };
        Self { inbox, _receiver: AbortOnDropHandle::new(tokio::spawn(receiver.run())) }
    }
}

#[async_trait]
impl Subscriber for RedisSubscriber {
    fn subscribe(&mut self, channel: String) {
        self.inbox.subscribe(channel);
    }

    fn unsubscribe(&mut self, channel: &str) {
        self.inbox.unsubscribe(channel);
    }

    async fn next(&mut self) -> Signal {
        self.inbox.next().await
    }
}

/// Fills the inbox, from one connection after another.
struct Receiver {
    server: Server,
    options: RedisOptions,
    part: Part,
    inbox: Arc<Inbox>,
}

/// Why a connection ended.
enum Disconnected {
    For(String),
    /// The user's ACL does not allow what was asked.
    Denied(String),
}

impl Receiver {
    async fn run(self) {
        let mut failures = 0;
        loop {
            let started = Instant::now();
            match self.receive().await {
                Disconnected::For(reason) => self.part.down(reason),
                Disconnected::Denied(reason) => self.part.needs_mending(reason),
            }
            self.inbox.close_with_loss();
            // An owner that does not read needs no connection. This also bounds the inbox over many connections.
            self.inbox.until_empty().await;
            // The end of a connection that worked for a while is a first failure.
            failures = if started.elapsed() > self.options.ping_interval { 1 } else { failures + 1 };
            sleep(self.options.backoff.jittered(failures, jitter())).await;
        }
    }

    /// Connects and receives until the connection ends.
    async fn receive(&self) -> Disconnected {
        let (mut sink, mut stream, place) = match self.connect().await {
            Ok(connected) => connected,
            Err(disconnected) => return disconnected,
        };
        let mut confirmed = HashMap::new();
        let subscribe = |(channel, subscription)| Change::Subscribe { channel, subscription };
        let changes = self.inbox.open().into_iter().map(subscribe).collect();
        if let Err(disconnected) = self.apply(changes, &mut sink, &mut confirmed).await {
            return disconnected;
        }
        self.part.up();
        let mut heartbeat = std::pin::pin!(self.heartbeat(sink.clone(), place));
        loop {
            tokio::select! {
                message = stream.next() => {
                    let Some(message) = message else {
                        return Disconnected::For("Redis closed the connection".to_owned());
                    };
                    let payload = Bytes::copy_from_slice(message.get_payload_bytes());
                    if self.inbox.message(message.get_channel_name().to_owned(), payload).is_err() {
                        return Disconnected::For("messages arrived faster than they were read".to_owned());
                    }
                }
                () = self.inbox.changed.notified() => {
                    if let Err(disconnected) = self.apply(self.inbox.changes(), &mut sink, &mut confirmed).await {
                        return disconnected;
                    }
                }
                disconnected = &mut heartbeat => return disconnected,
            }
        }
    }

    async fn connect(&self) -> Result<(PubSubSink, PubSubStream, Place), Disconnected> {
        let connecting = async {
            let place = self.server.place(self.options.connect_timeout).await?;
            let (mut sink, stream) = place.client.get_async_pubsub().await?.split();
            // A server that is still loading accepts subscriptions but delivers nothing.
            match sink.ping::<Value>().await? {
                Value::ServerError(error) => Err(error.into()),
                _ => Ok((sink, stream, place)),
            }
        };
        within(self.options.connect_timeout, connecting).await
    }

    /// Unsubscribes and subscribes, and waits for the confirmations.
    async fn apply(
        &self,
        changes: Vec<Change>,
        sink: &mut PubSubSink,
        confirmed: &mut HashMap<String, u64>,
    ) -> Result<(), Disconnected> {
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for change in changes {
            match change {
                Change::Subscribe { channel, subscription } if confirmed.get(&channel) != Some(&subscription) => {
                    added.push((channel, subscription));
                }
                Change::Unsubscribe { channel } if confirmed.contains_key(&channel) => removed.push(channel),
                Change::Subscribe { .. } | Change::Unsubscribe { .. } => {}
            }
        }
        for batch in removed.chunks(MAX_CHANNELS) {
            within(self.options.response_timeout, sink.unsubscribe(batch)).await?;
            for channel in batch {
                confirmed.remove(channel);
            }
        }
        for batch in added.chunks(MAX_CHANNELS) {
            let channels: Vec<&str> = batch.iter().map(|(channel, _)| channel.as_str()).collect();
            within(self.options.response_timeout, sink.subscribe(channels)).await?;
            for (channel, subscription) in batch {
                confirmed.insert(channel.clone(), *subscription);
                if self.inbox.subscribed(channel.clone(), *subscription).is_err() {
                    return Err(Disconnected::For("messages arrived faster than they were read".to_owned()));
                }
            }
        }
        Ok(())
    }

    /// Returns when Redis no longer answers, or another one leads.
    async fn heartbeat(&self, mut sink: PubSubSink, place: Place) -> Disconnected {
        loop {
            sleep(self.options.ping_interval).await;
            if let Err(disconnected) = within(self.options.response_timeout, sink.ping::<Value>()).await {
                return disconnected;
            }
            if let Some(reason) = self.server.left(&place, self.options.connect_timeout).await {
                return Disconnected::For(reason);
            }
        }
    }
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, redis::RedisError>>,
) -> Result<T, Disconnected> {
    match timeout(limit, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) if is_denied(&error) => Err(Disconnected::Denied(describe(&error))),
        Ok(Err(error)) => Err(Disconnected::For(describe(&error))),
        Err(_) => Err(Disconnected::For("Redis did not answer in time".to_owned())),
    }
}
