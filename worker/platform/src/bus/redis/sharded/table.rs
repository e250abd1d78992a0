//! Which node carries which channel, and whether it does. Pure: what is to be sent and told is returned.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::topology::Node;

/// One subscriber's channels.
#[derive(Debug, Default)]
pub(super) struct Table {
    channels: HashMap<String, Entry>,
    desks: HashMap<Node, Desk>,
}

#[derive(Debug)]
struct Entry {
    wish: u64,
    node: Option<Node>,
    state: State,
}

/// What is known of a channel at its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The node was not asked.
    Waiting,
    /// It was asked over the connection of this number.
    Asked(u64),
    Carried(u64),
}

/// What one node has to be told.
#[derive(Debug, Default)]
struct Desk {
    ask: HashSet<String>,
    leave: HashSet<String>,
    /// Channels that the node was told to leave, and how many confirmations of that are to come.
    leaving: HashMap<String, u32>,
    is_up: bool,
}

/// Channels that a node is to be told of, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) leave: Vec<String>,
    pub(super) ask: Vec<String>,
}

/// A channel whose owner is to be told that it may miss messages.
pub(super) type Interrupted = (String, u64);

impl Table {
    /// A channel is wanted, at the node that has its slot, if there is one.
    pub(super) fn want(&mut self, channel: String, wish: u64, node: Option<Node>) {
        self.give_up(&channel);
        if let Some(node) = &node {
            self.desks.entry(node.clone()).or_default().ask.insert(channel.clone());
        }
        self.channels.insert(channel, Entry { wish, node, state: State::Waiting });
    }

    pub(super) fn give_up(&mut self, channel: &str) {
        if let Some(entry) = self.channels.remove(channel) {
            self.part(channel, &entry);
        }
    }

    /// A channel is no more of its node's business.
    fn part(&mut self, channel: &str, entry: &Entry) {
        let Some(desk) = entry.node.as_ref().and_then(|node| self.desks.get_mut(node)) else { return };
        desk.ask.remove(channel);
        if entry.state != State::Waiting {
            desk.leave.insert(channel.to_owned());
        }
    }

    /// Moves every channel to where its slot is now. Answers those that were carried elsewhere.
    pub(super) fn place<'m>(&mut self, node_of: impl Fn(&str) -> Option<&'m Node>) -> Vec<Interrupted> {
        let displaced: Vec<(String, Option<Node>)> = self
            .channels
            .iter()
            .map(|(channel, entry)| (channel, entry, node_of(channel)))
            .filter(|(_, entry, node)| entry.node.as_ref() != *node)
            .map(|(channel, _, node)| (channel.clone(), node.cloned()))
            .collect();
        let mut interrupted = Vec::new();
        for (channel, node) in displaced {
            let Some(entry) = self.channels.remove(&channel) else { continue };
            self.part(&channel, &entry);
            if matches!(entry.state, State::Carried(_)) {
                interrupted.push((channel.clone(), entry.wish));
            }
            self.want(channel, entry.wish, node);
        }
        interrupted
    }

    /// What to tell a node over the connection of this number; it counts as told.
    pub(super) fn work(&mut self, node: &Node, link: u64) -> Work {
        let Some(desk) = self.desks.get_mut(node) else { return Work::default() };
        let leave: Vec<String> = desk.leave.drain().collect();
        let ask: Vec<String> = desk.ask.drain().collect();
        for channel in &leave {
            *desk.leaving.entry(channel.clone()).or_default() += 1;
        }
        for channel in &ask {
            if let Some(entry) = self.channels.get_mut(channel) {
                entry.state = State::Asked(link);
            }
        }
        Work { leave, ask }
    }

    /// A node confirmed a channel; the wish to confirm to its owner.
    pub(super) fn confirmed(&mut self, node: &Node, link: u64, channel: &str) -> Option<u64> {
        let entry = self.channels.get_mut(channel).filter(|entry| entry.node.as_ref() == Some(node))?;
        if entry.state != State::Asked(link) {
            return None;
        }
        entry.state = State::Carried(link);
        Some(entry.wish)
    }

    /// Whether a node's messages of a channel are wanted: from its confirmation on, until it is given up or moves.
    pub(super) fn carries(&self, node: &Node, link: u64, channel: &str) -> bool {
        let is_carried = |entry: &Entry| entry.state == State::Carried(link) && entry.node.as_ref() == Some(node);
        self.channels.get(channel).is_some_and(is_carried)
    }

    /// A node carries a channel no more: it was told so, or it gave the slot away. Whether it was the latter, and whom
    /// to tell.
    pub(super) fn left(&mut self, node: &Node, link: u64, channel: &str) -> (bool, Option<Interrupted>) {
        if let Some(desk) = self.desks.get_mut(node)
            && let Some(count) = desk.leaving.get_mut(channel)
        {
            *count -= 1;
            if *count == 0 {
                desk.leaving.remove(channel);
            }
            return (false, None);
        }
        let interrupted = self.unplace(node, link, channel);
        (true, interrupted)
    }

    /// A node was asked for these channels and confirmed some: the others are not its own.
    pub(super) fn misplaced(&mut self, node: &Node, link: u64, asked: &[String]) {
        for channel in asked {
            let is_asked = |entry: &Entry| entry.state == State::Asked(link);
            if self.channels.get(channel).is_some_and(is_asked) {
                self.unplace(node, link, channel);
            }
        }
    }

    fn unplace(&mut self, node: &Node, link: u64, channel: &str) -> Option<Interrupted> {
        let entry = self.channels.get_mut(channel).filter(|entry| entry.node.as_ref() == Some(node))?;
        let carried = match entry.state {
            State::Carried(by) if by == link => true,
            State::Asked(by) if by == link => false,
            _ => return None,
        };
        (entry.node, entry.state) = (None, State::Waiting);
        carried.then(|| (channel.to_owned(), entry.wish))
    }

    /// A node's connection stands.
    pub(super) fn up(&mut self, node: &Node) {
        if let Some(desk) = self.desks.get_mut(node) {
            desk.is_up = true;
        }
    }

    /// A node's connection ended. Answers the channels that it carried; it has to be asked for all of its own again.
    pub(super) fn down(&mut self, node: &Node) -> Vec<Interrupted> {
        let mut interrupted = Vec::new();
        let mut desk = Desk::default();
        for (channel, entry) in &mut self.channels {
            if entry.node.as_ref() != Some(node) {
                continue;
            }
            if matches!(entry.state, State::Carried(_)) {
                interrupted.push((channel.clone(), entry.wish));
            }
            entry.state = State::Waiting;
            desk.ask.insert(channel.clone());
        }
        // A node that has no slots any more has no desk.
        self.desks.entry(node.clone()).and_modify(|old| *old = desk);
        interrupted
    }

    /// These nodes have slots, and no others.
    pub(super) fn nodes(&mut self, nodes: &BTreeSet<Node>) {
        self.desks.retain(|node, _| nodes.contains(node));
        for node in nodes {
            self.desks.entry(node.clone()).or_default();
        }
    }

    /// Channels that a node was asked for and has not confirmed.
    pub(super) fn unconfirmed(&self, node: &Node) -> HashSet<(String, u64)> {
        let asked = self
            .channels
            .iter()
            .filter(|(_, entry)| entry.node.as_ref() == Some(node) && matches!(entry.state, State::Asked(_)));
        asked.map(|(channel, entry)| (channel.clone(), entry.wish)).collect()
    }

    /// Nodes that have something to be told.
    pub(super) fn busy(&self) -> impl Iterator<Item = &Node> {
        self.desks.iter().filter(|(_, desk)| !desk.ask.is_empty() || !desk.leave.is_empty()).map(|(node, _)| node)
    }

    /// Whether every channel has a node, and every node a connection.
    pub(super) fn is_settled(&self) -> bool {
        self.desks.values().all(|desk| desk.is_up) && self.channels.values().all(|entry| entry.node.is_some())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A table with two nodes, and channel `a` carried by the first over connection 1, for wish 7.
    fn carried() -> (Table, Node, Node) {
        let (one, two) = (Node::new("one", 1), Node::new("two", 2));
        let mut table = Table::default();
        table.nodes(&BTreeSet::from([one.clone(), two.clone()]));
        table.want("a".to_owned(), 7, Some(one.clone()));
        assert_eq!(table.work(&one, 1).ask, ["a"]);
        assert_eq!(table.confirmed(&one, 1, "a"), Some(7));
        (table, one, two)
    }

    #[test]
    fn a_confirmation_counts_once_and_from_the_right_connection() {
        let (mut table, one, two) = carried();
        assert_eq!(table.confirmed(&one, 1, "a"), None);
        table.down(&one);
        assert_eq!(table.work(&one, 2).ask, ["a"]);
        assert_eq!((table.confirmed(&one, 1, "a"), table.confirmed(&two, 2, "a")), (None, None));
        assert_eq!(table.confirmed(&one, 2, "a"), Some(7));
    }

    #[test]
    fn a_break_is_told_once() {
        let (mut table, one, _) = carried();
        assert_eq!(table.down(&one), [("a".to_owned(), 7)]);
        assert_eq!(table.down(&one), []);
        table.work(&one, 2);
        assert_eq!(table.down(&one), [], "not confirmed since");
    }

    #[test]
    fn a_slot_that_was_given_away_is_asked_for_where_it_is() {
        let (mut table, one, two) = carried();
        assert_eq!(table.left(&one, 1, "a"), (true, Some(("a".to_owned(), 7))));
        assert!(!table.is_settled());
        assert_eq!(table.place(|_| Some(&two)), [], "told already");
        assert_eq!(table.work(&one, 1), Work::default(), "nothing to leave there");
        assert_eq!(table.work(&two, 1).ask, ["a"]);
        assert_eq!(table.confirmed(&two, 1, "a"), Some(7));
    }

    #[test]
    fn a_map_that_says_otherwise_moves_the_channel() {
        let (mut table, one, two) = carried();
        assert_eq!(table.place(|_| Some(&two)), [("a".to_owned(), 7)]);
        assert_eq!(table.work(&one, 1).leave, ["a"]);
        assert_eq!(table.left(&one, 1, "a"), (false, None), "as it was told");
        assert_eq!(table.work(&two, 4).ask, ["a"]);
    }

    #[test]
    fn who_gives_up_and_wants_again_is_confirmed_again() {
        let (mut table, one, _) = carried();
        table.give_up("a");
        table.want("a".to_owned(), 8, Some(one.clone()));
        assert!(!table.carries(&one, 1, "a"), "what still comes is from before");
        let Work { leave, ask } = table.work(&one, 1);
        assert_eq!((leave, ask), (vec!["a".to_owned()], vec!["a".to_owned()]));
        assert_eq!(table.left(&one, 1, "a"), (false, None));
        assert_eq!(table.confirmed(&one, 1, "a"), Some(8));
        assert!(table.carries(&one, 1, "a"));
    }

    #[test]
    fn what_a_node_does_not_have_is_looked_for() {
        let (mut table, one, _) = carried();
        table.want("b".to_owned(), 9, Some(one.clone()));
        let asked = table.work(&one, 1).ask;
        assert_eq!(table.unconfirmed(&one), HashSet::from([("b".to_owned(), 9)]));
        table.misplaced(&one, 1, &asked);
        assert!(table.unconfirmed(&one).is_empty() && !table.is_settled());
        table.up(&one);
        assert_eq!(table.place(|_| Some(&one)), []);
        assert_eq!(table.work(&one, 1).ask, ["b"]);
    }
}
