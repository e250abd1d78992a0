//! Publishing to the nodes: each gets its share of a batch, all at the same time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::status::Status;
use super::topology::{Map, Node, Topology};
use crate::backoff::{Backoff, jitter};
use crate::bus::redis::RedisOptions;
use crate::bus::redis::publisher::{Flavour, Publisher, Sent};
use crate::bus::{Publication, Unavailable, Unpublished};

/// How often a message is sent after a slot that moves.
const ROUNDS: u32 = 6;
/// Between those: the nodes may not agree at once on where a slot is.
const BETWEEN_ROUNDS: Backoff = Backoff { first: Duration::from_millis(20), cap: Duration::from_millis(200) };

pub(super) struct ShardedPublisher {
    topology: Arc<Topology>,
    options: RedisOptions,
    status: Status,
    links: Mutex<HashMap<Node, Link>>,
    /// When somebody last asked where the slots of a node went that is away.
    asked: Mutex<Option<Instant>>,
}

struct Link {
    publisher: Arc<Publisher>,
    _keeper: AbortOnDropHandle<()>,
}

/// What became of one message so far.
type Outcome = Result<(), Unpublished>;

impl ShardedPublisher {
    pub(super) fn new(topology: Arc<Topology>, options: RedisOptions, status: Status) -> Self {
        Self { topology, options, status, links: Mutex::default(), asked: Mutex::default() }
    }

    /// Keeps a connection to each node, and the state of each known, while nobody publishes.
    pub(super) async fn keep(self: Arc<Self>) {
        let mut maps = self.topology.watch();
        loop {
            let map = maps.borrow_and_update().clone();
            self.follow(&map);
            if map.nodes().is_empty() {
                let found = self.topology.refresh(None, &map).await;
                if self.topology.current().nodes().is_empty() {
                    self.status.lost(found.err().as_deref().unwrap_or("no node of the Redis Cluster has slots"));
                    sleep(self.options.backoff.jittered(u32::MAX, jitter())).await;
                }
                continue;
            }
            // An error says that there will be no more maps, which is not before this task's end.
            let _ = maps.changed().await;
        }
    }

    /// Has a connection to each of these nodes, and to no other.
    fn follow(&self, map: &Map) {
        let nodes = map.nodes();
        self.links.lock().unwrap_or_else(PoisonError::into_inner).retain(|node, _| nodes.contains(node));
        for node in &nodes {
            // An address that cannot be opened is told by whoever publishes to it.
            let _ = self.link(node);
        }
    }

    fn link(&self, node: &Node) -> Result<Arc<Publisher>, Unavailable> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get(node) {
            return Ok(Arc::clone(&link.publisher));
        }
        let client =
            redis::Client::open(self.topology.info(node)).map_err(|error| Unavailable(format!("{node}: {error}")))?;
        let indicator = Box::new(self.status.node(node));
        let publisher = Arc::new(Publisher::new(client, self.options, Flavour::Sharded, indicator));
        let keeper = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&publisher).keep()));
        links.insert(node.clone(), Link { publisher: Arc::clone(&publisher), _keeper: keeper });
        Ok(publisher)
    }

    pub(super) async fn publish(&self, batch: &[Publication]) -> Result<Vec<Outcome>, Unavailable> {
        let mut outcomes: Vec<Outcome> = vec![Ok(()); batch.len()];
        let mut open: Vec<usize> = (0..batch.len()).collect();
        for round in 0..ROUNDS {
            let map = self.topology.current();
            let (moved, away) = self.round(batch, &open, &map, &mut outcomes).await;
            open = moved.indices;
            let lost = !away.is_empty() && self.may_ask();
            if lost {
                open.extend(away);
                open.sort_unstable();
            }
            if open.is_empty() {
                break;
            }
            if round > 0 {
                sleep(BETWEEN_ROUNDS.jittered(round, jitter())).await;
            }
            // Where it fails the outcomes say why nothing more can be done; bounded, since there are nodes that work.
            let asking = self.topology.refresh(moved.to.as_ref(), &map);
            if !matches!(timeout(self.options.connect_timeout / 3, asking).await, Ok(Ok(()))) {
                break;
            }
        }
        // An outage of the bus is one of all its nodes: while one works, its messages must not wait for the others'.
        match outcomes.first() {
            Some(Err(Unpublished::Unavailable(reason))) if self.status.nobody_is_up() => Err(reason.clone()),
            _ => Ok(outcomes),
        }
    }

    /// Sends each node its share of the messages that are open. Answers those that belong elsewhere, and those whose
    /// node is away.
    async fn round(
        &self,
        batch: &[Publication],
        open: &[usize],
        map: &Map,
        outcomes: &mut [Outcome],
    ) -> (Moved, Vec<usize>) {
        let mut shares: HashMap<&Node, Vec<usize>> = HashMap::new();
        let (mut moved, mut away) = (Moved::default(), Vec::new());
        for &index in open {
            match map.node(&batch[index].channel) {
                Some(node) => shares.entry(node).or_default().push(index),
                None => {
                    outcomes[index] =
                        Err(Unavailable("no node of the Redis Cluster has the channel's slot".to_owned()).into());
                    away.push(index);
                }
            }
        }
        let sending = shares.into_iter().map(async |(node, indices)| {
            let share: Vec<&Publication> = indices.iter().map(|&index| &batch[index]).collect();
            let sent = match self.link(node) {
                Ok(publisher) => publisher.publish(&share).await,
                Err(unavailable) => Err(unavailable),
            };
            (node, indices, sent)
        });
        for (node, indices, sent) in join_all(sending).await {
            match sent {
                Ok(sent) => {
                    for (index, sent) in indices.into_iter().zip(sent) {
                        outcomes[index] = moved.judge(node, index, sent);
                    }
                }
                Err(Unavailable(reason)) => {
                    for index in indices {
                        outcomes[index] = Err(Unavailable(format!("{node}: {reason}")).into());
                        away.push(index);
                    }
                }
            }
        }
        moved.indices.sort_unstable();
        (moved, away)
    }

    /// Whether to ask where the slots of a node went that is away: not with every batch.
    fn may_ask(&self) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let may = asked.is_none_or(|at| at.elapsed() >= self.options.backoff.cap / 2);
        if may {
            *asked = Some(Instant::now());
        }
        may
    }
}

/// Messages for channels that another node has by now.
#[derive(Default)]
struct Moved {
    indices: Vec<usize>,
    to: Option<Node>,
}

impl Moved {
    fn judge(&mut self, node: &Node, index: usize, sent: Sent) -> Outcome {
        match sent {
            Sent::Published => Ok(()),
            Sent::Refused(refused) => Err(refused.into()),
            Sent::Moved(answer) => {
                self.indices.push(index);
                self.to = Node::of_redirect(&answer.into(), node);
                Err(Unavailable(format!("{node} gave the channel's slot away, and who has it is not agreed on yet"))
                    .into())
            }
        }
    }
}
