//! Which node has which slot. Pure.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use redis::cluster_routing::Slot;
use redis::{RedisError, Value};

/// The address of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Node {
    pub(super) host: Arc<str>,
    pub(super) port: u16,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Node {
    #[cfg(test)]
    pub(super) fn new(host: &str, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// The node that a `MOVED` answer names. Without a host it is on the host of the node that answered.
    pub(super) fn of_redirect(answer: &RedisError, answered: &Self) -> Option<Self> {
        let (address, _) = answer.redirect_node()?;
        let (host, port) = address.rsplit_once(':')?;
        let host = if host.is_empty() || host == "?" { answered.host.clone() } else { host.into() };
        Some(Self { host, port: port.parse().ok()? })
    }
}

/// Which node has which slot at one moment, as one node reported it.
#[derive(Debug, Default)]
pub(super) struct SlotMap {
    layout: Layout,
    /// The cluster's epoch, which rises with each failover and with most moves of slots.
    pub(super) epoch: u64,
}

#[derive(Debug, Default)]
enum Layout {
    /// No node has answered yet.
    #[default]
    Unknown,
    /// One Redis outside of a cluster: it has all slots.
    Single(Node),
    Cluster {
        slots: HashMap<Slot, Node>,
        primaries: BTreeSet<Node>,
        replicas: BTreeSet<Node>,
    },
}

impl SlotMap {
    /// The map of one Redis outside of a cluster.
    pub(super) fn single(node: Node) -> Self {
        Self { layout: Layout::Single(node), epoch: 0 }
    }

    /// The node that has the slot of a channel, if any does.
    pub(super) fn node(&self, channel: &str) -> Option<&Node> {
        match &self.layout {
            Layout::Unknown => None,
            Layout::Single(node) => Some(node),
            Layout::Cluster { slots, .. } => slots.get(&Slot::for_key(channel)),
        }
    }

    /// Every primary that has slots.
    pub(super) fn nodes(&self) -> BTreeSet<Node> {
        match &self.layout {
            Layout::Unknown => BTreeSet::new(),
            Layout::Single(node) => BTreeSet::from([node.clone()]),
            Layout::Cluster { primaries, .. } => primaries.clone(),
        }
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.layout, Layout::Cluster { .. })
    }

    /// Every node, replicas included.
    pub(super) fn all_nodes(&self) -> BTreeSet<Node> {
        let mut all = self.nodes();
        if let Layout::Cluster { replicas, .. } = &self.layout {
            all.extend(replicas.iter().cloned());
        }
        all
    }

    /// The map in a node's answers to `CLUSTER INFO` and `CLUSTER SLOTS`. Ranges that are malformed are left out.
    pub(super) fn read(answered: &Node, info: &str, slots: Vec<Vec<Value>>) -> Self {
        let (mut by_slot, mut primaries, mut replicas) = (HashMap::new(), BTreeSet::new(), BTreeSet::new());
        for range in slots {
            let mut fields = range.into_iter();
            let (Some(Value::Int(first)), Some(Value::Int(last))) = (fields.next(), fields.next()) else { continue };
            let mut nodes = fields.filter_map(|node| read_node(answered, &node));
            let Some(primary) = nodes.next() else { continue };
            let numbers = (first..=last).filter_map(|slot| Slot::new(u16::try_from(slot).ok()?));
            by_slot.extend(numbers.map(|slot| (slot, primary.clone())));
            primaries.insert(primary);
            replicas.extend(nodes);
        }
        let layout = Layout::Cluster { slots: by_slot, primaries, replicas };
        Self { layout, epoch: current_epoch(info).unwrap_or_default() }
    }
}

/// A node as `CLUSTER SLOTS` describes it: host, port, and more. Without a host it is on the host of the node that
/// answered; `?` means an unknown host.
fn read_node(answered: &Node, value: &Value) -> Option<Node> {
    let Value::Array(fields) = value else { return None };
    let (host, Value::Int(port)) = (fields.first()?, fields.get(1)?) else { return None };
    let host = match host {
        Value::Nil => answered.host.clone(),
        Value::BulkString(bytes) => match std::str::from_utf8(bytes).ok()? {
            "" => answered.host.clone(),
            "?" => return None,
            host => host.into(),
        },
        _ => return None,
    };
    Some(Node { host, port: u16::try_from(*port).ok()? })
}

/// The epoch in an answer to `CLUSTER INFO`.
pub(super) fn current_epoch(info: &str) -> Option<u64> {
    info.lines().find_map(|line| line.strip_prefix("cluster_current_epoch:")?.trim_end().parse().ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn node(port: u16) -> Node {
        Node::new("here", port)
    }

    fn range(first: i64, last: i64, nodes: &[(Value, i64)]) -> Vec<Value> {
        let nodes = nodes.iter().map(|(host, port)| Value::Array(vec![host.clone(), Value::Int(*port), Value::Nil]));
        [Value::Int(first), Value::Int(last)].into_iter().chain(nodes).collect()
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn channels_are_found_by_the_hash_of_their_names() {
        // `a` hashes to 15495, `b` to 3300.
        let slots = vec![
            range(0, 8191, &[(Value::Nil, 1), (text("there"), 3)]),
            range(8192, 16383, &[(text("?"), 9), (text(""), 2)]),
        ];
        let map = SlotMap::read(&node(7), "cluster_state:ok\r\ncluster_current_epoch:12\r\n", slots);
        assert_eq!((map.node("b"), map.node("a")), (Some(&node(1)), Some(&node(2))));
        assert_eq!(map.nodes(), BTreeSet::from([node(1), node(2)]));
        assert_eq!(map.all_nodes().len(), 3);
        assert_eq!(map.epoch, 12);
    }

    #[test]
    fn a_slot_without_a_node_has_no_node() {
        let map = SlotMap::read(&node(7), "", vec![range(0, 8191, &[(Value::Nil, 1)])]);
        assert_eq!((map.node("a"), map.node("b")), (None, Some(&node(1))));
    }

    #[test]
    fn an_answer_names_the_node_that_a_slot_moved_to() {
        for (line, expected) in
            [("-MOVED 1 there:5", "there:5"), ("-MOVED 1 :5", "here:5"), ("-MOVED 1 ::1:5", "::1:5")]
        {
            let answer = redis::parse_redis_value(format!("{line}\r\n").as_bytes()).unwrap();
            let error = answer.extract_error().unwrap_err();
            assert_eq!(Node::of_redirect(&error, &node(7)).unwrap().to_string(), expected);
        }
    }
}
