//! One health part for all nodes: it is up when each of them is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::slot_map::Node;
use crate::bus::redis::status::StatusReporter;
use crate::health::Part;

/// The states of all nodes. Clones share them.
#[derive(Clone)]
pub(super) struct NodesStatus(Arc<Inner>);

struct Inner {
    part: Part,
    /// None: nothing has been reported yet.
    nodes: Mutex<BTreeMap<Node, Option<NodeState>>>,
}

type NodeState = Result<(), NodeDown>;

struct NodeDown {
    reason: String,
    /// The user's ACL does not allow what was asked.
    denied: bool,
}

/// Reports the state of one node. Dropped, it removes the node from the states.
pub(super) struct NodeStatus {
    node: Node,
    all: NodesStatus,
}

impl NodesStatus {
    pub(super) fn new(part: Part) -> Self {
        Self(Arc::new(Inner { part, nodes: Mutex::default() }))
    }

    /// Adds a node.
    pub(super) fn node(&self, node: &Node) -> NodeStatus {
        self.change(|nodes| drop(nodes.insert(node.clone(), None)));
        NodeStatus { node: node.clone(), all: self.clone() }
    }

    /// Reports that no node is known.
    pub(super) fn no_nodes(&self, reason: &str) {
        self.0.part.down(reason);
    }

    pub(super) fn all_nodes_are_down(&self) -> bool {
        let nodes = self.0.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        !nodes.values().any(|state| matches!(state, Some(Ok(()))))
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<Node, Option<NodeState>>)) {
        let mut nodes = self.0.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut nodes);
        let down = nodes.iter().find_map(|(node, state)| Some((node, state.as_ref()?.as_ref().err()?)));
        match down {
            Some((node, NodeDown { reason, denied: true })) => self.0.part.needs_mending(format!("{node}: {reason}")),
            Some((node, NodeDown { reason, denied: false })) => self.0.part.down(format!("{node}: {reason}")),
            None if !nodes.is_empty() && nodes.values().all(Option::is_some) => self.0.part.up(),
            None => {}
        }
    }
}

impl NodeStatus {
    fn set(&self, down: NodeDown) {
        self.all.change(|nodes| drop(nodes.insert(self.node.clone(), Some(Err(down)))));
    }
}

impl StatusReporter for NodeStatus {
    fn up(&self) {
        self.all.change(|nodes| drop(nodes.insert(self.node.clone(), Some(Ok(())))));
    }

    fn down(&self, reason: &str) {
        self.set(NodeDown { reason: reason.to_owned(), denied: false });
    }

    fn denied(&self, reason: &str) {
        self.set(NodeDown { reason: reason.to_owned(), denied: true });
    }
}

impl Drop for NodeStatus {
    fn drop(&mut self) {
        self.all.change(|nodes| drop(nodes.remove(&self.node)));
    }
}
