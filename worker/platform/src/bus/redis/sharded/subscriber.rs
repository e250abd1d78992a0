//! Subscribing at the nodes: a connection to each, and every channel at the node that has its slot.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::node::NodeTask;
use super::status::Status;
use super::table::{Interrupted, Table};
use super::topology::{Map, Node, Topology};
use crate::backoff::jitter;
use crate::bus::inbox::{Change, Inbox, Overrun};
use crate::bus::redis::RedisOptions;
use crate::bus::{Signal, Subscriber};

pub(super) struct ShardedSubscriber {
    inbox: Arc<Inbox>,
    _receiver: AbortOnDropHandle<()>,
}

impl ShardedSubscriber {
    pub(super) fn start(topology: Arc<Topology>, options: RedisOptions, status: Status) -> Self {
        let inbox = Arc::new(Inbox::new(options.unread));
        let receiver = Receiver { topology, options, status, inbox: Arc::clone(&inbox) };
        Self { inbox, _receiver: AbortOnDropHandle::new(tokio::spawn(receiver.run())) }
    }
}

#[async_trait]
impl Subscriber for ShardedSubscriber {
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

/// Fills the inbox.
struct Receiver {
    topology: Arc<Topology>,
    options: RedisOptions,
    status: Status,
    inbox: Arc<Inbox>,
}

/// What the connections to the nodes share. The table's lock is held while the inbox is told what follows from it, so
/// that the owner hears everything in order.
pub(super) struct Shared {
    inbox: Arc<Inbox>,
    table: Mutex<Table>,
    /// The node to ask first about what changed.
    hint: Mutex<Option<Node>>,
    /// Something is not where it was.
    trouble: Notify,
    /// The owner does not read.
    overrun: Notify,
}

/// The connections, by node.
type Tasks = HashMap<Node, (Arc<Notify>, AbortOnDropHandle<()>)>;

impl Receiver {
    async fn run(self) {
        loop {
            // Ends when more came than was read, and with it all connections.
            self.listen().await;
            self.inbox.lose();
            // An owner that does not listen needs no connection; this also bounds what may wait in the inbox.
            self.inbox.emptied().await;
            sleep(self.options.backoff.jittered(1, jitter())).await;
        }
    }

    async fn listen(&self) {
        let shared = Arc::new(Shared::new(Arc::clone(&self.inbox)));
        let _finder = AbortOnDropHandle::new(tokio::spawn(find(
            Arc::clone(&shared),
            Arc::clone(&self.topology),
            self.options,
            self.status.clone(),
        )));
        let mut maps = self.topology.watch();
        let mut tasks = Tasks::new();
        let mut changes = self.inbox.open().into_iter().map(|(channel, wish)| Change::Want { channel, wish }).collect();
        loop {
            let map = maps.borrow_and_update().clone();
            self.follow(&shared, &map, &mut tasks);
            shared.apply(changes, &map);
            for node in shared.table().busy() {
                if let Some((work, _)) = tasks.get(node) {
                    work.notify_one();
                }
            }
            changes = Vec::new();
            tokio::select! {
                () = self.inbox.changed.notified() => changes = self.inbox.changes(),
                // An error says that there will be no more maps, which is not before this task's end.
                _ = maps.changed() => {}
                () = shared.overrun.notified() => return,
            }
        }
    }

    /// Has a connection to each node of the map, and to no other.
    fn follow(&self, shared: &Arc<Shared>, map: &Map, tasks: &mut Tasks) {
        let nodes = map.nodes();
        tasks.retain(|node, _| nodes.contains(node));
        shared.table().nodes(&nodes);
        for node in nodes {
            let clustered = map.is_cluster();
            tasks.entry(node).or_insert_with_key(|node| {
                let work = Arc::new(Notify::new());
                let task = NodeTask {
                    node: node.clone(),
                    topology: Arc::clone(&self.topology),
                    options: self.options,
                    status: self.status.node(node),
                    shared: Arc::clone(shared),
                    work: Arc::clone(&work),
                    clustered,
                };
                (work, AbortOnDropHandle::new(tokio::spawn(task.run())))
            });
        }
    }
}

/// Finds out where the slots are, at the beginning and whenever there is trouble, until there is none.
async fn find(shared: Arc<Shared>, topology: Arc<Topology>, options: RedisOptions, status: Status) {
    let mut tries = 0;
    loop {
        if !topology.current().nodes().is_empty() && shared.table().is_settled() {
            tries = 0;
            shared.trouble.notified().await;
        }
        let hint = shared.hint.lock().unwrap_or_else(PoisonError::into_inner).take();
        let found = topology.refresh(hint.as_ref(), &topology.current()).await;
        if topology.current().nodes().is_empty() {
            status.lost(found.err().as_deref().unwrap_or("no node of the Redis Cluster has slots"));
        }
        tries += 1;
        // What moves is followed at once, and then less often while it does not settle.
        sleep(options.backoff.jittered(tries, jitter())).await;
    }
}

impl Shared {
    fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox, table: Mutex::default(), hint: Mutex::default(), trouble: Notify::new(), overrun: Notify::new() }
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is not where it was; this node may know more.
    pub(super) fn look_around(&self, hint: Option<Node>) {
        *self.hint.lock().unwrap_or_else(PoisonError::into_inner) = hint;
        self.trouble.notify_one();
    }

    /// What the owner wants, and where the map has it.
    fn apply(&self, changes: Vec<Change>, map: &Map) {
        let mut table = self.table();
        for change in changes {
            match change {
                Change::Want { channel, wish } => {
                    let node = map.node(&channel).cloned();
                    table.want(channel, wish, node);
                }
                Change::GiveUp { channel } => table.give_up(&channel),
            }
        }
        let displaced = table.place(|channel| map.node(channel));
        self.interrupt(displaced);
        if !table.is_settled() {
            self.trouble.notify_one();
        }
    }

    pub(super) fn message(&self, node: &Node, link: u64, channel: String, payload: Bytes) {
        if self.table().carries(node, link, &channel) {
            self.check(self.inbox.message(channel, payload));
        }
    }

    pub(super) fn confirmed(&self, node: &Node, link: u64, channel: String) {
        let mut table = self.table();
        if let Some(wish) = table.confirmed(node, link, &channel) {
            self.check(self.inbox.subscribed(channel, wish));
        }
    }

    pub(super) fn left(&self, node: &Node, link: u64, channel: &str) {
        let mut table = self.table();
        let (moved, interrupted) = table.left(node, link, channel);
        self.interrupt(interrupted);
        if moved {
            // Who gave the slot away knows who has it.
            self.look_around(Some(node.clone()));
        }
    }

    pub(super) fn down(&self, node: &Node) {
        let mut table = self.table();
        let interrupted = table.down(node);
        self.interrupt(interrupted);
        self.trouble.notify_one();
    }

    fn interrupt(&self, channels: impl IntoIterator<Item = Interrupted>) {
        for (channel, wish) in channels {
            self.check(self.inbox.interrupted(channel, wish));
        }
    }

    fn check(&self, delivered: Result<(), Overrun>) {
        if let Err(Overrun) = delivered {
            self.overrun.notify_one();
        }
    }
}
