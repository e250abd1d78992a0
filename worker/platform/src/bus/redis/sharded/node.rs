//! One subscriber's connection to one node.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, PushInfo, PushKind, RedisError, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::status::NodeStatus;
use super::subscriber::Shared;
use super::topology::{Node, Topology, current_epoch};
use crate::backoff::jitter;
use crate::bus::redis::link::Indicator;
use crate::bus::redis::{RedisOptions, describe};

/// Channels asked for in one pipeline. Each takes a command of its own: one command takes channels of one slot only.
const BATCH: usize = 256;

pub(super) struct NodeTask {
    pub(super) node: Node,
    pub(super) topology: Arc<Topology>,
    pub(super) options: RedisOptions,
    pub(super) status: NodeStatus,
    pub(super) shared: Arc<Shared>,
    /// There is something to tell the node.
    pub(super) work: Arc<Notify>,
    /// Whether it is a cluster's.
    pub(super) clustered: bool,
}

/// Why a connection ended.
struct Ended(String);

impl From<RedisError> for Ended {
    fn from(error: RedisError) -> Self {
        Self(describe(&error))
    }
}

impl NodeTask {
    /// Connects again and again, for as long as the node has slots.
    pub(super) async fn run(self) {
        let (mut failures, mut link) = (0, 0);
        loop {
            link += 1;
            let started = Instant::now();
            let Err(Ended(reason)) = self.connection(link).await;
            self.status.down(&reason);
            self.shared.down(&self.node);
            // A connection that lasted was a good one, and its end is a first failure.
            failures = if started.elapsed() > self.options.ping_interval { 1 } else { failures + 1 };
            sleep(self.options.backoff.jittered(failures, jitter())).await;
        }
    }

    /// One connection, from its beginning to its end.
    async fn connection(&self, link: u64) -> Result<Infallible, Ended> {
        let closed = Arc::new(Notify::new());
        let mut connection = self.connect(link, Arc::clone(&closed)).await?;
        // A server that is still loading takes subscriptions and publishes nothing.
        redis::cmd("PING").query_async::<()>(&mut connection).await?;
        self.shared.table().up(&self.node);
        self.status.up();
        let mut unconfirmed = HashSet::new();
        let mut heartbeat = Instant::now() + self.options.ping_interval;
        loop {
            self.tell(&mut connection, link).await?;
            tokio::select! {
                () = self.work.notified() => {}
                () = closed.notified() => return Err(Ended("Redis closed the connection".to_owned())),
                () = tokio::time::sleep_until(heartbeat) => {
                    self.look(&mut connection).await?;
                    let still = self.shared.table().unconfirmed(&self.node);
                    if still.intersection(&unconfirmed).next().is_some() {
                        return Err(Ended("Redis did not confirm a subscription".to_owned()));
                    }
                    unconfirmed = still;
                    heartbeat = Instant::now() + self.options.ping_interval;
                }
            }
        }
    }

    async fn connect(&self, link: u64, closed: Arc<Notify>) -> Result<MultiplexedConnection, Ended> {
        let info = self.topology.info(&self.node);
        // Older protocols tell of subscriptions where answers are expected.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let (shared, node) = (Arc::clone(&self.shared), self.node.clone());
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.options.connect_timeout))
            .set_response_timeout(Some(self.options.response_timeout))
            .set_push_sender(move |push: PushInfo| -> Result<(), Infallible> {
                if push.kind == PushKind::Disconnection {
                    closed.notify_one();
                } else {
                    hear(&shared, &node, link, push);
                }
                Ok(())
            });
        let client = redis::Client::open(info.set_redis_settings(settings))?;
        Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
    }

    /// Leaves and asks for channels. What the node confirms is heard by [`hear`].
    async fn tell(&self, connection: &mut MultiplexedConnection, link: u64) -> Result<(), Ended> {
        let work = self.shared.table().work(&self.node, link);
        for (command, channels) in [("SUNSUBSCRIBE", &work.leave), ("SSUBSCRIBE", &work.ask)] {
            for batch in channels.chunks(BATCH) {
                let mut pipeline = redis::Pipeline::with_capacity(batch.len());
                for channel in batch {
                    pipeline.cmd(command).arg(channel);
                }
                let answers = connection.send_packed_commands(&pipeline, 0, batch.len()).await?;
                self.judge(answers, batch, link)?;
            }
        }
        Ok(())
    }

    /// A slot that is another node's by now is looked for; any other error is the node's.
    fn judge(&self, answers: Vec<Value>, channels: &[String], link: u64) -> Result<(), Ended> {
        let mut moved = None;
        for answer in answers {
            let Err(error) = answer.extract_error() else { continue };
            match Node::of_redirect(&error, &self.node) {
                Some(to) => moved = Some(to),
                None => return Err(error.into()),
            }
        }
        if let Some(to) = moved {
            self.shared.table().misplaced(&self.node, link, channels);
            self.shared.look_around(Some(to));
        }
        Ok(())
    }

    /// Ends when the node does not answer any more; notices what the cluster decided without this subscriber's
    /// channels.
    async fn look(&self, connection: &mut MultiplexedConnection) -> Result<(), Ended> {
        if !self.clustered {
            return Ok(redis::cmd("PING").query_async::<()>(connection).await?);
        }
        let answer: Value = redis::cmd("CLUSTER").arg("INFO").query_async(connection).await?;
        // Any other answer belongs to something that the node told at the same moment.
        if let Ok(info) = redis::from_redis_value::<String>(answer)
            && current_epoch(&info).is_some_and(|epoch| epoch > self.topology.current().epoch)
        {
            self.shared.look_around(Some(self.node.clone()));
        }
        Ok(())
    }
}

/// What a node says unasked, and its confirmations.
fn hear(shared: &Shared, node: &Node, link: u64, push: PushInfo) {
    let mut data = push.data.into_iter();
    let Some(Value::BulkString(channel)) = data.next() else { return };
    let Ok(channel) = String::from_utf8(channel) else { return };
    match (push.kind, data.next()) {
        (PushKind::SMessage, Some(Value::BulkString(payload))) => {
            shared.message(node, link, channel, Bytes::from(payload))
        }
        (PushKind::SSubscribe, _) => shared.confirmed(node, link, channel),
        (PushKind::SUnsubscribe, _) => shared.left(node, link, &channel),
        _ => {}
    }
}
