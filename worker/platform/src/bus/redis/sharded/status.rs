//! One part of the health report for all nodes: it is up when each of them is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::topology::Node;
use crate::bus::redis::link::Indicator;
use crate::health::Part;

/// The nodes' states. Clones share them.
#[derive(Clone)]
pub(super) struct Status(Arc<Shared>);

struct Shared {
    part: Part,
    /// None: not heard of yet.
    nodes: Mutex<BTreeMap<Node, Option<Result<(), String>>>>,
}

/// One node's state, known until this is dropped.
pub(super) struct NodeStatus {
    node: Node,
    status: Status,
}

impl Status {
    pub(super) fn new(part: Part) -> Self {
        Self(Arc::new(Shared { part, nodes: Mutex::default() }))
    }

    pub(super) fn node(&self, node: &Node) -> NodeStatus {
        self.change(|nodes| drop(nodes.insert(node.clone(), None)));
        NodeStatus { node: node.clone(), status: self.clone() }
    }

    /// No node is known.
    pub(super) fn lost(&self, reason: &str) {
        self.0.part.down(reason);
    }

    pub(super) fn nobody_is_up(&self) -> bool {
        let nodes = self.0.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        !nodes.values().any(|state| matches!(state, Some(Ok(()))))
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<Node, Option<Result<(), String>>>)) {
        let mut nodes = self.0.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut nodes);
        let away = nodes.iter().find_map(|(node, state)| Some((node, state.as_ref()?.as_ref().err()?)));
        match away {
            Some((node, reason)) => self.0.part.down(format!("{node}: {reason}")),
            None if !nodes.is_empty() && nodes.values().all(Option::is_some) => self.0.part.up(),
            None => {}
        }
    }
}

impl Indicator for NodeStatus {
    fn up(&self) {
        self.status.change(|nodes| drop(nodes.insert(self.node.clone(), Some(Ok(())))));
    }

    fn down(&self, reason: &str) {
        self.status.change(|nodes| drop(nodes.insert(self.node.clone(), Some(Err(reason.to_owned())))));
    }
}

impl Drop for NodeStatus {
    fn drop(&mut self) {
        self.status.change(|nodes| drop(nodes.remove(&self.node)));
    }
}
