//! A Redis Cluster.

use std::time::{Duration, Instant};

use crate::error::ServiceError;
use crate::port;
use crate::redis::Redis;

/// The number of hash slots of every Redis Cluster.
const SLOTS: usize = 16_384;
/// The longest that the nodes may take to agree, or a replica to follow.
const AGREEMENT_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const MAX_PORT_ATTEMPTS: u32 = 3;
/// The other nodes declare a node failed after this time without an answer, in milliseconds.
const NODE_TIMEOUT: &str = "1000";

/// A private Redis Cluster: primaries, each with an equal share of the slots, and any number of replicas. Dropping it
/// stops it.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    redis: Redis,
    /// The port on which the other nodes connect to it.
    bus_port: u16,
}

impl RedisCluster {
    /// Starts this many primaries and waits until they serve all slots.
    pub fn start(primaries: usize) -> Result<Self, ServiceError> {
        let nodes = (0..primaries).map(|_| Node::start()).collect::<Result<Vec<_>, _>>()?;
        let share = SLOTS.div_ceil(primaries.max(1));
        for (index, node) in nodes.iter().enumerate() {
            let (first, last) = (index * share, SLOTS.min((index + 1) * share) - 1);
            node.ask(&format!("CLUSTER ADDSLOTSRANGE {first} {last}"))?;
            // Distinct epochs from the beginning: nodes with equal ones would first have to resolve the conflict.
            node.ask(&format!("CLUSTER SET-CONFIG-EPOCH {}", index + 1))?;
        }
        let cluster = Self { nodes };
        for node in cluster.nodes.iter().skip(1) {
            cluster.meet(node)?;
        }
        cluster.until_agreed()?;
        Ok(cluster)
    }

    /// Adds a replica of a primary, waits until it replicates, and returns its index.
    pub fn add_replica(&mut self, of: usize) -> Result<usize, ServiceError> {
        let node = Node::start()?;
        self.meet(&node)?;
        let primary = self.nodes[of].id()?;
        until("a node to be known to all", || {
            let known = node.ask("CLUSTER NODES")?;
            Ok(known.contains(&primary)
                && known.lines().filter(|line| line.contains(" connected")).count() > self.nodes.len())
        })?;
        node.ask(&format!("CLUSTER REPLICATE {primary}"))?;
        until("a replica to follow", || Ok(node.ask("INFO replication")?.contains("master_link_status:up")))?;
        let id = node.id()?;
        self.nodes.push(node);
        for node in &self.nodes {
            let follows = |line: &str| line.starts_with(&id) && line.contains("slave") && line.contains(&primary);
            until("a replica to be known to all", || Ok(node.ask("CLUSTER NODES")?.lines().any(follows)))?;
        }
        Ok(self.nodes.len() - 1)
    }

    /// The address of the first node, which knows the others.
    pub fn url(&self) -> String {
        self.nodes[0].redis.url()
    }

    /// The number of nodes, replicas included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A node, to be killed, stopped or restarted. Restarted, it keeps its identity and its slots.
    pub fn node(&self, index: usize) -> &Redis {
        &self.nodes[index].redis
    }

    /// A node's raw answer to a command whose arguments contain no spaces.
    pub fn ask(&self, index: usize, command: &str) -> Result<String, ServiceError> {
        self.nodes[index].ask(command)
    }

    /// The hash slot of a key or channel.
    pub fn slot(&self, key: &str) -> Result<u16, ServiceError> {
        let answer = self.nodes.iter().find_map(|node| node.ask(&format!("CLUSTER KEYSLOT {key}")).ok());
        let answer = answer.ok_or_else(|| ServiceError::Cluster("no node answers".to_owned()))?;
        answer.trim().trim_start_matches(':').parse().map_err(|_| ServiceError::Cluster(answer))
    }

    /// The running node that serves a slot, as that node sees it.
    pub fn owner(&self, slot: u16) -> Result<usize, ServiceError> {
        let owns = |node: &Node| node.slots().is_ok_and(|slots| slots.iter().any(|range| range.contains(&slot)));
        let owner = self.nodes.iter().position(owns);
        owner.ok_or_else(|| ServiceError::Cluster(format!("no running node serves slot {slot}")))
    }

    /// Moves a slot without keys to another node, as resharding does. Does not wait until the other nodes know.
    pub fn move_slot(&self, slot: u16, to: usize) -> Result<(), ServiceError> {
        let from = self.owner(slot)?;
        let (source, target) = (self.nodes[from].id()?, self.nodes[to].id()?);
        self.ask(to, &format!("CLUSTER SETSLOT {slot} IMPORTING {source}"))?;
        self.ask(from, &format!("CLUSTER SETSLOT {slot} MIGRATING {target}"))?;
        self.ask(to, &format!("CLUSTER SETSLOT {slot} NODE {target}"))?;
        self.ask(from, &format!("CLUSTER SETSLOT {slot} NODE {target}"))?;
        Ok(())
    }

    /// Waits until every running node reports that the cluster works and that all slots are served.
    pub fn until_agreed(&self) -> Result<(), ServiceError> {
        for node in self.nodes.iter().filter(|node| node.redis.pid().is_some()) {
            until("the nodes to agree", || {
                let info = node.ask("CLUSTER INFO")?;
                Ok(info.contains("cluster_state:ok") && info.contains(&format!("cluster_slots_ok:{SLOTS}")))
            })?;
        }
        Ok(())
    }

    fn meet(&self, node: &Node) -> Result<(), ServiceError> {
        let (port, bus_port) = (node.redis.port(), node.bus_port);
        self.nodes[0].ask(&format!("CLUSTER MEET 127.0.0.1 {port} {bus_port}")).map(drop)
    }
}

impl Node {
    fn start() -> Result<Self, ServiceError> {
        let mut tries = 1..=MAX_PORT_ATTEMPTS;
        loop {
            match Self::start_once() {
                Err(ServiceError::PortTaken { .. }) if tries.next().is_some() => {}
                outcome => return outcome,
            }
        }
    }

    fn start_once() -> Result<Self, ServiceError> {
        // The default, the client port plus 10,000, may be in the range of outgoing connections.
        let bus_port = port::free().ok_or(ServiceError::NoPort("redis"))?;
        let settings = [
            ("cluster-enabled", "yes"),
            ("cluster-port", &bus_port.to_string()),
            ("cluster-node-timeout", NODE_TIMEOUT),
            ("cluster-replica-validity-factor", "0"),
            ("repl-diskless-sync-delay", "0"),
        ];
        Ok(Self { redis: Redis::start_with(&settings)?, bus_port })
    }

    fn ask(&self, command: &str) -> Result<String, ServiceError> {
        let failed = |what: &str| ServiceError::Cluster(format!("{command}: {what}"));
        let answer = self.redis.ask(command).ok_or_else(|| failed("no answer"))?;
        if answer.starts_with('-') { Err(failed(answer.trim_end())) } else { Ok(answer) }
    }

    fn id(&self) -> Result<String, ServiceError> {
        let answer = self.ask("CLUSTER MYID")?;
        let id = answer.lines().find(|line| line.len() == 40).map(str::to_owned);
        id.ok_or(ServiceError::Cluster(answer))
    }

    /// The slots that this node says it serves.
    fn slots(&self) -> Result<Vec<std::ops::RangeInclusive<u16>>, ServiceError> {
        let nodes = self.ask("CLUSTER NODES")?;
        let myself = nodes.lines().find(|line| line.contains("myself,master")).unwrap_or_default();
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            Some(first.parse().ok()?..=last.parse().ok()?)
        };
        Ok(myself.split_whitespace().skip(8).filter_map(range).collect())
    }
}

fn until(what: &str, mut reached: impl FnMut() -> Result<bool, ServiceError>) -> Result<(), ServiceError> {
    let deadline = Instant::now() + AGREEMENT_TIMEOUT;
    while !reached().unwrap_or(false) {
        if Instant::now() > deadline {
            return Err(ServiceError::Cluster(format!("timed out waiting for {what}")));
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}
