//! Subscribing at the nodes: one connection to each, and every channel at the node that has its slot.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::node_connection::NodeConnection;
use super::node_status::NodesStatus;
use super::slot_map::{Node, SlotMap};
use super::subscriber_state::SubscriberState;
use super::topology::Topology;
use crate::backoff::jitter;
use crate::bus::inbox::{Change, Inbox};
use crate::bus::interface::{Signal, Subscriber};
use crate::bus::redis::options::RedisOptions;

pub(super) struct ShardedSubscriber {
    inbox: Arc<Inbox>,
    _receiver: AbortOnDropHandle<()>,
}

impl ShardedSubscriber {
    pub(super) fn start(topology: Arc<Topology>, options: RedisOptions, status: NodesStatus) -> Self {
        let inbox = Arc::new(Inbox::new(options.max_unread_bytes));
        let receiver = Receiver { topology, options, status, inbox: Arc::clone(&inbox) };
        Self { inbox, _receiver: AbortOnDropHandle::new(tokio::spawn(receiver.run())) }
    }
}

#[async_trait]
impl Subscriber for ShardedSubscriber {
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

/// Fills the inbox, from connections to all nodes.
struct Receiver {
    topology: Arc<Topology>,
    options: RedisOptions,
    status: NodesStatus,
    inbox: Arc<Inbox>,
}

/// The task of each node's connection, and the notification that there are commands for the node.
type Connections = HashMap<Node, (Arc<Notify>, AbortOnDropHandle<()>)>;

impl Receiver {
    async fn run(self) {
        loop {
            // Returns when the inbox overflows; all connections end with it.
            self.receive().await;
            self.inbox.close_with_loss();
            // An owner that does not read needs no connection. This also bounds the inbox over many connections.
            self.inbox.until_empty().await;
            sleep(self.options.backoff.jittered(1, jitter())).await;
        }
    }

    async fn receive(&self) {
        let state = Arc::new(SubscriberState::new(Arc::clone(&self.inbox)));
        let _refresh = AbortOnDropHandle::new(tokio::spawn(refresh_topology(
            Arc::clone(&state),
            Arc::clone(&self.topology),
            self.options,
            self.status.clone(),
        )));
        let mut maps = self.topology.subscribe();
        let mut connections = Connections::new();
        let subscribe = |(channel, subscription)| Change::Subscribe { channel, subscription };
        let mut changes = self.inbox.open().into_iter().map(subscribe).collect();
        loop {
            let map = maps.borrow_and_update().clone();
            self.connect_to_nodes(&state, &map, &mut connections);
            state.apply(changes, &map);
            for node in state.table().with_commands() {
                if let Some((has_commands, _)) = connections.get(node) {
                    has_commands.notify_one();
                }
            }
            changes = Vec::new();
            tokio::select! {
                () = self.inbox.changed.notified() => changes = self.inbox.changes(),
                // Fails only when the topology is gone, and this task holds it.
                _ = maps.changed() => {}
                () = state.overflowed() => return,
            }
        }
    }

    /// Ensures one connection to each node of the map, and none to any other.
    fn connect_to_nodes(&self, state: &Arc<SubscriberState>, map: &SlotMap, connections: &mut Connections) {
        let nodes = map.nodes();
        connections.retain(|node, _| nodes.contains(node));
        state.table().set_nodes(&nodes);
        for node in nodes {
            let in_cluster = map.is_cluster();
            connections.entry(node).or_insert_with_key(|node| {
                let has_commands = Arc::new(Notify::new());
                let connection = NodeConnection {
                    node: node.clone(),
                    topology: Arc::clone(&self.topology),
                    options: self.options,
                    status: self.status.node(node),
                    state: Arc::clone(state),
                    has_commands: Arc::clone(&has_commands),
                    in_cluster,
                };
                (has_commands, AbortOnDropHandle::new(tokio::spawn(connection.run())))
            });
        }
    }
}

/// Refreshes the topology at the beginning and on request, until every channel has a node and every node a connection.
async fn refresh_topology(
    state: Arc<SubscriberState>,
    topology: Arc<Topology>,
    options: RedisOptions,
    status: NodesStatus,
) {
    let mut attempts = 0;
    loop {
        if !topology.current().nodes().is_empty() && state.table().is_complete() {
            attempts = 0;
            state.refresh_requested().await;
        }
        let hint = state.take_refresh_hint();
        let refreshed = topology.refresh(hint.as_ref(), &topology.current()).await;
        if topology.current().nodes().is_empty() {
            status.no_nodes(refreshed.err().as_deref().unwrap_or("no node of the Redis Cluster has slots"));
        }
        attempts += 1;
        // The first refresh follows a change at once; while the nodes do not agree, later ones become rarer.
        sleep(options.backoff.jittered(attempts, jitter())).await;
    }
}
