//! The subscribing connection. The client library's own resubscription is not used: it can stay dead after an outage
//! during which nobody published.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use redis::Value;
use redis::aio::{PubSubSink, PubSubStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::{RedisOptions, describe};
use crate::backoff::jitter;
use crate::bus::inbox::{Change, Inbox};
use crate::bus::{Signal, Subscriber};
use crate::health::Part;

/// Channels named in one command.
const BATCH: usize = 256;

pub(super) struct RedisSubscriber {
    inbox: Arc<Inbox>,
    _receiver: AbortOnDropHandle<()>,
}

impl RedisSubscriber {
    pub(super) fn start(client: redis::Client, options: RedisOptions, part: Part) -> Self {
        let inbox = Arc::new(Inbox::new(options.unread));
        let receiver = Receiver { client, options, part, inbox: Arc::clone(&inbox) };
        Self { inbox, _receiver: AbortOnDropHandle::new(tokio::spawn(receiver.run())) }
    }
}

#[async_trait]
impl Subscriber for RedisSubscriber {
    fn subscribe(&mut self, channel: String) {
        self.inbox.want(channel);
    }

    fn unsubscribe(&mut self, channel: &str) {
        self.inbox.give_up(channel);
    }

    async fn next(&mut self) -> Signal {
        self.inbox.next().await
    }
}

/// Fills the inbox, from one connection after another.
struct Receiver {
    client: redis::Client,
    options: RedisOptions,
    part: Part,
    inbox: Arc<Inbox>,
}

/// Why a connection ended.
struct Ended(String);

impl Receiver {
    async fn run(self) {
        let mut failures = 0;
        loop {
            let started = Instant::now();
            let Ended(reason) = self.connection().await;
            self.part.down(reason);
            self.inbox.lose();
            // An owner that does not listen needs no connection; this also bounds what may wait in the inbox.
            self.inbox.emptied().await;
            // A connection that lasted was a good one, and its end is a first failure.
            failures = if started.elapsed() > self.options.ping_interval { 1 } else { failures + 1 };
            sleep(self.options.backoff.jittered(failures, jitter())).await;
        }
    }

    /// One connection, from its beginning to its end.
    async fn connection(&self) -> Ended {
        let (mut sink, mut stream) = match self.connect().await {
            Ok(halves) => halves,
            Err(ended) => return ended,
        };
        let mut active = HashMap::new();
        let wanted = self.inbox.open().into_iter().map(|(channel, wish)| Change::Want { channel, wish }).collect();
        if let Err(ended) = self.apply(wanted, &mut sink, &mut active).await {
            return ended;
        }
        self.part.up();
        let mut heartbeat = std::pin::pin!(self.heartbeat(sink.clone()));
        loop {
            tokio::select! {
                message = stream.next() => {
                    let Some(message) = message else { return Ended("Redis closed the connection".to_owned()) };
                    let payload = Bytes::copy_from_slice(message.get_payload_bytes());
                    if self.inbox.message(message.get_channel_name().to_owned(), payload).is_err() {
                        return Ended("more messages than were read".to_owned());
                    }
                }
                () = self.inbox.changed.notified() => {
                    if let Err(ended) = self.apply(self.inbox.changes(), &mut sink, &mut active).await {
                        return ended;
                    }
                }
                ended = &mut heartbeat => return ended,
            }
        }
    }

    async fn connect(&self) -> Result<(PubSubSink, PubSubStream), Ended> {
        let connecting = async {
            let (mut sink, stream) = self.client.get_async_pubsub().await?.split();
            // A server that is still loading takes subscriptions and publishes nothing.
            match sink.ping::<Value>().await? {
                Value::ServerError(error) => Err(error.into()),
                _ => Ok((sink, stream)),
            }
        };
        within(self.options.connect_timeout, connecting).await
    }

    /// Asks for what is wanted and gives up what is not, then waits for the confirmations.
    async fn apply(
        &self,
        changes: Vec<Change>,
        sink: &mut PubSubSink,
        active: &mut HashMap<String, u64>,
    ) -> Result<(), Ended> {
        let (mut gained, mut given_up) = (Vec::new(), Vec::new());
        for change in changes {
            match change {
                Change::Want { channel, wish } if active.get(&channel) != Some(&wish) => gained.push((channel, wish)),
                Change::GiveUp { channel } if active.contains_key(&channel) => given_up.push(channel),
                Change::Want { .. } | Change::GiveUp { .. } => {}
            }
        }
        for batch in given_up.chunks(BATCH) {
            within(self.options.response_timeout, sink.unsubscribe(batch)).await?;
            for channel in batch {
                active.remove(channel);
            }
        }
        for batch in gained.chunks(BATCH) {
            let channels: Vec<&str> = batch.iter().map(|(channel, _)| channel.as_str()).collect();
            within(self.options.response_timeout, sink.subscribe(channels)).await?;
            for (channel, wish) in batch {
                active.insert(channel.clone(), *wish);
                if self.inbox.subscribed(channel.clone(), *wish).is_err() {
                    return Err(Ended("more messages than were read".to_owned()));
                }
            }
        }
        Ok(())
    }

    /// Ends when Redis does not answer any more.
    async fn heartbeat(&self, mut sink: PubSubSink) -> Ended {
        loop {
            sleep(self.options.ping_interval).await;
            if let Err(ended) = within(self.options.response_timeout, sink.ping::<Value>()).await {
                return ended;
            }
        }
    }
}

async fn within<T>(
    patience: std::time::Duration,
    work: impl Future<Output = Result<T, redis::RedisError>>,
) -> Result<T, Ended> {
    match timeout(patience, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Ended(describe(&error))),
        Err(_) => Err(Ended("Redis did not answer in time".to_owned())),
    }
}
