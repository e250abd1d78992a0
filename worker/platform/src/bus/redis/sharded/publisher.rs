//! Publishing to the nodes: each gets its share of a batch, all at the same time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::node_status::NodesStatus;
use super::slot_map::{Node, SlotMap};
use super::topology::Topology;
use crate::backoff::{Backoff, jitter};
use crate::bus::interface::{BusUnavailable, Publication, PublishError};
use crate::bus::redis::options::RedisOptions;
use crate::bus::redis::publisher::{ChannelKind, PublishOutcome, Publisher};
use crate::bus::redis::server::Server;

/// How often a message whose slot moves is sent at most.
const MAX_ROUNDS: u32 = 6;
/// Between these rounds: the nodes may need a moment to agree on where a slot is.
const ROUND_BACKOFF: Backoff = Backoff { first: Duration::from_millis(20), cap: Duration::from_millis(200) };

pub(super) struct ShardedPublisher {
    topology: Arc<Topology>,
    options: RedisOptions,
    status: NodesStatus,
    nodes: Mutex<HashMap<Node, NodePublisher>>,
    /// When the topology was last refreshed because a node was unavailable.
    refreshed: Mutex<Option<Instant>>,
}

struct NodePublisher {
    publisher: Arc<Publisher>,
    _keep_connected: AbortOnDropHandle<()>,
}

/// The result of one message so far.
type MessageResult = Result<(), PublishError>;

impl ShardedPublisher {
    pub(super) fn new(topology: Arc<Topology>, options: RedisOptions, status: NodesStatus) -> Self {
        Self { topology, options, status, nodes: Mutex::default(), refreshed: Mutex::default() }
    }

    /// Keeps a connection to each node open and its reported state current while nothing is published. Never returns.
    pub(super) async fn keep_connected(self: Arc<Self>) {
        let mut maps = self.topology.subscribe();
        loop {
            let map = maps.borrow_and_update().clone();
            self.connect_to_nodes(&map);
            if map.nodes().is_empty() {
                let refreshed = self.topology.refresh(None, &map).await;
                if self.topology.current().nodes().is_empty() {
                    let reason = refreshed.err();
                    self.status.no_nodes(reason.as_deref().unwrap_or("no node of the Redis Cluster has slots"));
                    sleep(self.options.backoff.jittered(u32::MAX, jitter())).await;
                }
                continue;
            }
            // Fails only when the topology is gone, and this task holds it.
            let _ = maps.changed().await;
        }
    }

    /// Ensures a publisher for each node of the map, and none for any other.
    fn connect_to_nodes(&self, map: &SlotMap) {
        let nodes = map.nodes();
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).retain(|node, _| nodes.contains(node));
        for node in &nodes {
            // An address that cannot be used is reported to whoever publishes to it.
            let _ = self.publisher(node);
        }
    }

    /// The publisher of a node, created if there is none.
    fn publisher(&self, node: &Node) -> Result<Arc<Publisher>, BusUnavailable> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(existing) = nodes.get(node) {
            return Ok(Arc::clone(&existing.publisher));
        }
        let client = redis::Client::open(self.topology.connection_info(node))
            .map_err(|error| BusUnavailable(format!("{node}: {error}")))?;
        let status = Box::new(self.status.node(node));
        let publisher =
            Arc::new(Publisher::new(Server::Fixed(Box::new(client)), self.options, ChannelKind::Sharded, status));
        let keep_connected = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&publisher).keep_connected()));
        let entry = NodePublisher { publisher: Arc::clone(&publisher), _keep_connected: keep_connected };
        nodes.insert(node.clone(), entry);
        Ok(publisher)
    }

    /// Publishes a batch; one result for each message. Fails as a whole only if no node works.
    pub(super) async fn publish(&self, batch: &[Publication]) -> Result<Vec<MessageResult>, BusUnavailable> {
        let mut results: Vec<MessageResult> = vec![Ok(()); batch.len()];
        let mut open: Vec<usize> = (0..batch.len()).collect();
        for round in 0..MAX_ROUNDS {
            let map = self.topology.current();
            let (moved, unreachable) = self.send_round(batch, &open, &map, &mut results).await;
            open = moved.indices;
            // Perhaps a replica has taken over.
            if !unreachable.is_empty() && self.may_refresh() {
                open.extend(unreachable);
                open.sort_unstable();
            }
            if open.is_empty() {
                break;
            }
            if round > 0 {
                sleep(ROUND_BACKOFF.jittered(round, jitter())).await;
            }
            // Bounded, because messages for the nodes that work must not wait. If it fails, the results stand as they
            // are.
            let refresh = self.topology.refresh(moved.to.as_ref(), &map);
            if !matches!(timeout(self.options.connect_timeout / 3, refresh).await, Ok(Ok(()))) {
                break;
            }
        }
        // The bus is unavailable only if all of its nodes are. While one works, its messages must not wait for the
        // others.
        match results.first() {
            Some(Err(PublishError::Unavailable(reason))) if self.status.all_nodes_are_down() => Err(reason.clone()),
            _ => Ok(results),
        }
    }

    /// Sends each node its share of the open messages. Returns those whose channel has moved to another node, and those
    /// whose node is unavailable.
    async fn send_round(
        &self,
        batch: &[Publication],
        open: &[usize],
        map: &SlotMap,
        results: &mut [MessageResult],
    ) -> (Moved, Vec<usize>) {
        let mut shares: HashMap<&Node, Vec<usize>> = HashMap::new();
        let (mut moved, mut unreachable) = (Moved::default(), Vec::new());
        for &index in open {
            match map.node(&batch[index].channel) {
                Some(node) => shares.entry(node).or_default().push(index),
                None => {
                    results[index] =
                        Err(BusUnavailable("no node of the Redis Cluster has the channel's slot".to_owned()).into());
                    unreachable.push(index);
                }
            }
        }
        let sending = shares.into_iter().map(async |(node, indices)| {
            let share: Vec<&Publication> = indices.iter().map(|&index| &batch[index]).collect();
            let sent = match self.publisher(node) {
                Ok(publisher) => publisher.publish(&share).await,
                Err(unavailable) => Err(unavailable),
            };
            (node, indices, sent)
        });
        for (node, indices, sent) in join_all(sending).await {
            match sent {
                Ok(sent) => {
                    for (index, outcome) in indices.into_iter().zip(sent) {
                        results[index] = moved.result(node, index, outcome);
                    }
                }
                Err(BusUnavailable(reason)) => {
                    for index in indices {
                        results[index] = Err(BusUnavailable(format!("{node}: {reason}")).into());
                        unreachable.push(index);
                    }
                }
            }
        }
        moved.indices.sort_unstable();
        (moved, unreachable)
    }

    /// Whether to refresh the topology because a node is unavailable: not with every batch.
    fn may_refresh(&self) -> bool {
        let mut refreshed = self.refreshed.lock().unwrap_or_else(PoisonError::into_inner);
        let may = refreshed.is_none_or(|at| at.elapsed() >= self.options.backoff.cap / 2);
        if may {
            *refreshed = Some(Instant::now());
        }
        may
    }
}

/// Messages whose channel has moved to another node.
#[derive(Default)]
struct Moved {
    indices: Vec<usize>,
    /// The node that an answer named.
    to: Option<Node>,
}

impl Moved {
    fn result(&mut self, node: &Node, index: usize, outcome: PublishOutcome) -> MessageResult {
        match outcome {
            PublishOutcome::Published => Ok(()),
            PublishOutcome::Rejected(rejected) => Err(rejected.into()),
            PublishOutcome::Moved(answer) => {
                self.indices.push(index);
                self.to = Node::of_redirect(&answer.into(), node);
                let reason =
                    format!("{node} gave the channel's slot away, and the nodes do not agree yet on who has it");
                Err(BusUnavailable(reason).into())
            }
        }
    }
}
