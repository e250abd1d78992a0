//! The connection of one subscriber to one node.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, PushInfo, PushKind, RedisError, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::node_status::NodeStatus;
use super::slot_map::{Node, current_epoch};
use super::subscriber_state::SubscriberState;
use super::topology::Topology;
use crate::backoff::jitter;
use crate::bus::redis::describe::{describe, is_denied};
use crate::bus::redis::options::RedisOptions;
use crate::bus::redis::status::StatusReporter;

/// The most channels in one pipeline, so that Redis answers each well within the time-out. Each channel has a command
/// of its own, because the channels of one command must have the same slot.
const MAX_CHANNELS: usize = 256;

pub(super) struct NodeConnection {
    pub(super) node: Node,
    pub(super) topology: Arc<Topology>,
    pub(super) options: RedisOptions,
    pub(super) status: NodeStatus,
    pub(super) state: Arc<SubscriberState>,
    /// Signals that the table has commands for the node.
    pub(super) has_commands: Arc<Notify>,
    /// Whether the node belongs to a cluster.
    pub(super) in_cluster: bool,
}

/// Why a connection ended.
enum Disconnected {
    For(String),
    /// The user's ACL does not allow what was asked.
    Denied(String),
}

impl From<RedisError> for Disconnected {
    fn from(error: RedisError) -> Self {
        let reason = describe(&error);
        if is_denied(&error) { Self::Denied(reason) } else { Self::For(reason) }
    }
}

impl NodeConnection {
    /// Connects and reconnects, until dropped. Never returns.
    pub(super) async fn run(self) {
        let (mut failures, mut connection) = (0, 0);
        loop {
            connection += 1;
            let started = Instant::now();
            let Err(disconnected) = self.receive(connection).await;
            match disconnected {
                Disconnected::For(reason) => self.status.down(&reason),
                Disconnected::Denied(reason) => self.status.denied(&reason),
            }
            self.state.disconnected(&self.node);
            // The end of a connection that worked for a while is a first failure.
            failures = if started.elapsed() > self.options.ping_interval { 1 } else { failures + 1 };
            sleep(self.options.backoff.jittered(failures, jitter())).await;
        }
    }

    /// Connects and receives until the connection, which has this number, ends.
    async fn receive(&self, number: u64) -> Result<Infallible, Disconnected> {
        let closed = Arc::new(Notify::new());
        let mut connection = self.connect(number, Arc::clone(&closed)).await?;
        // A server that is still loading accepts subscriptions but delivers nothing.
        redis::cmd("PING").query_async::<()>(&mut connection).await?;
        self.state.table().connected(&self.node);
        let mut unconfirmed = HashSet::new();
        let mut heartbeat = Instant::now() + self.options.ping_interval;
        loop {
            self.send_commands(&mut connection, number).await?;
            // Not before: a user that may connect may still lack the right to subscribe.
            self.status.up();
            tokio::select! {
                () = self.has_commands.notified() => {}
                () = closed.notified() => return Err(Disconnected::For("Redis closed the connection".to_owned())),
                () = tokio::time::sleep_until(heartbeat) => {
                    self.check_node(&mut connection).await?;
                    let still = self.state.table().unconfirmed(&self.node);
                    if still.intersection(&unconfirmed).next().is_some() {
                        return Err(Disconnected::For("Redis did not confirm a subscription".to_owned()));
                    }
                    unconfirmed = still;
                    heartbeat = Instant::now() + self.options.ping_interval;
                }
            }
        }
    }

    async fn connect(&self, number: u64, closed: Arc<Notify>) -> Result<MultiplexedConnection, Disconnected> {
        let info = self.topology.connection_info(&self.node);
        // Older protocols mix confirmations of subscriptions with answers to commands.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let (state, node) = (Arc::clone(&self.state), self.node.clone());
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.options.connect_timeout))
            .set_response_timeout(Some(self.options.response_timeout))
            .set_push_sender(move |push: PushInfo| -> Result<(), Infallible> {
                if push.kind == PushKind::Disconnection {
                    closed.notify_one();
                } else {
                    handle_push(&state, &node, number, push);
                }
                Ok(())
            });
        let client = redis::Client::open(info.set_redis_settings(settings))?;
        Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
    }

    /// Unsubscribes and subscribes channels. [`handle_push`] receives the confirmations.
    async fn send_commands(&self, connection: &mut MultiplexedConnection, number: u64) -> Result<(), Disconnected> {
        let commands = self.state.table().take_commands(&self.node, number);
        for (command, channels) in [("SUNSUBSCRIBE", &commands.unsubscribe), ("SSUBSCRIBE", &commands.subscribe)] {
            for batch in channels.chunks(MAX_CHANNELS) {
                let mut pipeline = redis::Pipeline::with_capacity(batch.len());
                for channel in batch {
                    pipeline.cmd(command).arg(channel);
                }
                let answers = connection.send_packed_commands(&pipeline, 0, batch.len()).await?;
                self.check_answers(answers, batch, number)?;
            }
        }
        Ok(())
    }

    /// A redirection means that another node has the slot by now; any other error ends the connection.
    fn check_answers(&self, answers: Vec<Value>, channels: &[String], number: u64) -> Result<(), Disconnected> {
        let mut moved = None;
        for answer in answers {
            let Err(error) = answer.extract_error() else { continue };
            match Node::of_redirect(&error, &self.node) {
                Some(to) => moved = Some(to),
                None => return Err(error.into()),
            }
        }
        if let Some(to) = moved {
            self.state.table().not_owned(&self.node, number, channels);
            self.state.request_refresh(Some(to));
        }
        Ok(())
    }

    /// Fails when the node no longer answers. Also detects changes of the cluster that moved none of this subscriber's
    /// channels.
    async fn check_node(&self, connection: &mut MultiplexedConnection) -> Result<(), Disconnected> {
        if !self.in_cluster {
            return Ok(redis::cmd("PING").query_async::<()>(connection).await?);
        }
        let answer: Value = redis::cmd("CLUSTER").arg("INFO").query_async(connection).await?;
        // Any other answer is a push message that arrived at the same moment.
        if let Ok(info) = redis::from_redis_value::<String>(answer)
            && current_epoch(&info).is_some_and(|epoch| epoch > self.topology.current().epoch)
        {
            self.state.request_refresh(Some(self.node.clone()));
        }
        Ok(())
    }
}

/// Handles what a node sends unasked: messages and confirmations.
fn handle_push(state: &SubscriberState, node: &Node, connection: u64, push: PushInfo) {
    let mut data = push.data.into_iter();
    let Some(Value::BulkString(channel)) = data.next() else { return };
    let Ok(channel) = String::from_utf8(channel) else { return };
    match (push.kind, data.next()) {
        (PushKind::SMessage, Some(Value::BulkString(payload))) => {
            state.message(node, connection, channel, Bytes::from(payload))
        }
        (PushKind::SSubscribe, _) => state.confirmed(node, connection, channel),
        (PushKind::SUnsubscribe, _) => state.unsubscribed(node, connection, &channel),
        _ => {}
    }
}
