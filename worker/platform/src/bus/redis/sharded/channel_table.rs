//! Which node each channel belongs to, and whether the node has confirmed it. Pure: commands to send and owners to
//! inform are returned.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::slot_map::Node;

/// The channels of one subscriber.
#[derive(Debug, Default)]
pub(super) struct ChannelTable {
    channels: HashMap<String, Channel>,
    nodes: HashMap<Node, NodeCommands>,
}

#[derive(Debug)]
struct Channel {
    /// The number of the owner's subscription.
    subscription: u64,
    /// The node that has the channel's slot; None if that is unknown.
    node: Option<Node>,
    state: ChannelState,
}

/// The state of a channel at its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChannelState {
    /// The node has not been asked.
    Pending,
    /// The node was asked over the connection of this number.
    Requested(u64),
    /// The node confirmed over the connection of this number.
    Confirmed(u64),
}

/// What is to be sent to one node, and what is outstanding there.
#[derive(Debug, Default)]
struct NodeCommands {
    subscribe: HashSet<String>,
    unsubscribe: HashSet<String>,
    /// Channels that the node was told to unsubscribe, with the number of confirmations outstanding.
    unsubscribing: HashMap<String, u32>,
    is_up: bool,
}

/// Commands for one node, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Commands {
    pub(super) unsubscribe: Vec<String>,
    pub(super) subscribe: Vec<String>,
}

/// A channel, with its subscription, whose owner must be informed that it may miss messages.
pub(super) type Interrupted = (String, u64);

impl ChannelTable {
    /// Adds a channel, at the node that has its slot, if one is known. Replaces an earlier subscription.
    pub(super) fn subscribe(&mut self, channel: String, subscription: u64, node: Option<Node>) {
        self.unsubscribe(&channel);
        if let Some(node) = &node {
            self.nodes.entry(node.clone()).or_default().subscribe.insert(channel.clone());
        }
        self.channels.insert(channel, Channel { subscription, node, state: ChannelState::Pending });
    }

    pub(super) fn unsubscribe(&mut self, channel: &str) {
        if let Some(entry) = self.channels.remove(channel) {
            self.detach(channel, &entry);
        }
    }

    /// Removes a channel from its node.
    fn detach(&mut self, channel: &str, entry: &Channel) {
        let Some(commands) = entry.node.as_ref().and_then(|node| self.nodes.get_mut(node)) else { return };
        commands.subscribe.remove(channel);
        if entry.state != ChannelState::Pending {
            commands.unsubscribe.insert(channel.to_owned());
        }
    }

    /// Moves every channel to the node that has its slot now. Returns those that another node had confirmed.
    pub(super) fn reassign<'m>(&mut self, node_of: impl Fn(&str) -> Option<&'m Node>) -> Vec<Interrupted> {
        let moved: Vec<(String, Option<Node>)> = self
            .channels
            .iter()
            .map(|(channel, entry)| (channel, entry, node_of(channel)))
            .filter(|(_, entry, node)| entry.node.as_ref() != *node)
            .map(|(channel, _, node)| (channel.clone(), node.cloned()))
            .collect();
        let mut interrupted = Vec::new();
        for (channel, node) in moved {
            let Some(entry) = self.channels.remove(&channel) else { continue };
            self.detach(&channel, &entry);
            if matches!(entry.state, ChannelState::Confirmed(_)) {
                interrupted.push((channel.clone(), entry.subscription));
            }
            self.subscribe(channel, entry.subscription, node);
        }
        interrupted
    }

    /// Takes the commands to send to a node over the connection of this number.
    pub(super) fn take_commands(&mut self, node: &Node, connection: u64) -> Commands {
        let Some(commands) = self.nodes.get_mut(node) else { return Commands::default() };
        let unsubscribe: Vec<String> = commands.unsubscribe.drain().collect();
        let subscribe: Vec<String> = commands.subscribe.drain().collect();
        for channel in &unsubscribe {
            *commands.unsubscribing.entry(channel.clone()).or_default() += 1;
        }
        for channel in &subscribe {
            if let Some(entry) = self.channels.get_mut(channel) {
                entry.state = ChannelState::Requested(connection);
            }
        }
        Commands { unsubscribe, subscribe }
    }

    /// A node confirmed a channel. Returns the subscription to confirm to the owner; None for an outdated confirmation.
    pub(super) fn confirmed(&mut self, node: &Node, connection: u64, channel: &str) -> Option<u64> {
        let entry = self.channels.get_mut(channel).filter(|entry| entry.node.as_ref() == Some(node))?;
        if entry.state != ChannelState::Requested(connection) {
            return None;
        }
        entry.state = ChannelState::Confirmed(connection);
        Some(entry.subscription)
    }

    /// Whether messages of a channel from this node belong to the current subscription: from its confirmation until the
    /// channel is unsubscribed or moves.
    pub(super) fn is_confirmed(&self, node: &Node, connection: u64, channel: &str) -> bool {
        let confirmed =
            |entry: &Channel| entry.state == ChannelState::Confirmed(connection) && entry.node.as_ref() == Some(node);
        self.channels.get(channel).is_some_and(confirmed)
    }

    /// A node unsubscribed a channel, on command or because it gave the slot away. Returns whether it was the latter,
    /// and the owner to inform.
    pub(super) fn unsubscribed(&mut self, node: &Node, connection: u64, channel: &str) -> (bool, Option<Interrupted>) {
        if let Some(commands) = self.nodes.get_mut(node)
            && let Some(count) = commands.unsubscribing.get_mut(channel)
        {
            *count -= 1;
            if *count == 0 {
                commands.unsubscribing.remove(channel);
            }
            return (false, None);
        }
        let interrupted = self.unassign(node, connection, channel);
        (true, interrupted)
    }

    /// A node was asked for these channels and rejected some: those that it has not confirmed belong to other nodes.
    pub(super) fn not_owned(&mut self, node: &Node, connection: u64, requested: &[String]) {
        for channel in requested {
            let is_requested = |entry: &Channel| entry.state == ChannelState::Requested(connection);
            if self.channels.get(channel).is_some_and(is_requested) {
                self.unassign(node, connection, channel);
            }
        }
    }

    fn unassign(&mut self, node: &Node, connection: u64, channel: &str) -> Option<Interrupted> {
        let entry = self.channels.get_mut(channel).filter(|entry| entry.node.as_ref() == Some(node))?;
        let was_confirmed = match entry.state {
            ChannelState::Confirmed(by) if by == connection => true,
            ChannelState::Requested(by) if by == connection => false,
            _ => return None,
        };
        (entry.node, entry.state) = (None, ChannelState::Pending);
        was_confirmed.then(|| (channel.to_owned(), entry.subscription))
    }

    /// The connection to a node is open.
    pub(super) fn connected(&mut self, node: &Node) {
        if let Some(commands) = self.nodes.get_mut(node) {
            commands.is_up = true;
        }
    }

    /// The connection to a node ended. Returns the channels that it had confirmed. All channels of the node must be
    /// requested again.
    pub(super) fn disconnected(&mut self, node: &Node) -> Vec<Interrupted> {
        let mut interrupted = Vec::new();
        let mut commands = NodeCommands::default();
        for (channel, entry) in &mut self.channels {
            if entry.node.as_ref() != Some(node) {
                continue;
            }
            if matches!(entry.state, ChannelState::Confirmed(_)) {
                interrupted.push((channel.clone(), entry.subscription));
            }
            entry.state = ChannelState::Pending;
            commands.subscribe.insert(channel.clone());
        }
        // A node that no longer has slots is not in the table.
        self.nodes.entry(node.clone()).and_modify(|old| *old = commands);
        interrupted
    }

    /// These nodes have slots, and no others.
    pub(super) fn set_nodes(&mut self, nodes: &BTreeSet<Node>) {
        self.nodes.retain(|node, _| nodes.contains(node));
        for node in nodes {
            self.nodes.entry(node.clone()).or_default();
        }
    }

    /// Channels that were requested from a node and that it has not confirmed.
    pub(super) fn unconfirmed(&self, node: &Node) -> HashSet<(String, u64)> {
        let requested = self.channels.iter().filter(|(_, entry)| {
            entry.node.as_ref() == Some(node) && matches!(entry.state, ChannelState::Requested(_))
        });
        requested.map(|(channel, entry)| (channel.clone(), entry.subscription)).collect()
    }

    /// Nodes that have commands to be sent.
    pub(super) fn with_commands(&self) -> impl Iterator<Item = &Node> {
        self.nodes
            .iter()
            .filter(|(_, commands)| !commands.subscribe.is_empty() || !commands.unsubscribe.is_empty())
            .map(|(node, _)| node)
    }

    /// Whether every channel has a node, and every node a connection.
    pub(super) fn is_complete(&self) -> bool {
        self.nodes.values().all(|commands| commands.is_up) && self.channels.values().all(|entry| entry.node.is_some())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A table with two nodes, and channel `a` confirmed by the first over connection 1, for subscription 7.
    fn confirmed() -> (ChannelTable, Node, Node) {
        let (one, two) = (Node::new("one", 1), Node::new("two", 2));
        let mut table = ChannelTable::default();
        table.set_nodes(&BTreeSet::from([one.clone(), two.clone()]));
        table.subscribe("a".to_owned(), 7, Some(one.clone()));
        assert_eq!(table.take_commands(&one, 1).subscribe, ["a"]);
        assert_eq!(table.confirmed(&one, 1, "a"), Some(7));
        (table, one, two)
    }

    #[test]
    fn a_confirmation_counts_once_and_from_the_right_connection() {
        let (mut table, one, two) = confirmed();
        assert_eq!(table.confirmed(&one, 1, "a"), None);
        table.disconnected(&one);
        assert_eq!(table.take_commands(&one, 2).subscribe, ["a"]);
        assert_eq!((table.confirmed(&one, 1, "a"), table.confirmed(&two, 2, "a")), (None, None));
        assert_eq!(table.confirmed(&one, 2, "a"), Some(7));
    }

    #[test]
    fn an_interruption_is_reported_once() {
        let (mut table, one, _) = confirmed();
        assert_eq!(table.disconnected(&one), [("a".to_owned(), 7)]);
        assert_eq!(table.disconnected(&one), []);
        table.take_commands(&one, 2);
        assert_eq!(table.disconnected(&one), [], "not confirmed since");
    }

    #[test]
    fn the_channel_of_a_slot_that_was_given_away_is_requested_from_its_new_node() {
        let (mut table, one, two) = confirmed();
        assert_eq!(table.unsubscribed(&one, 1, "a"), (true, Some(("a".to_owned(), 7))));
        assert!(!table.is_complete());
        assert_eq!(table.reassign(|_| Some(&two)), [], "reported already");
        assert_eq!(table.take_commands(&one, 1), Commands::default(), "there is nothing to unsubscribe");
        assert_eq!(table.take_commands(&two, 1).subscribe, ["a"]);
        assert_eq!(table.confirmed(&two, 1, "a"), Some(7));
    }

    #[test]
    fn a_new_slot_map_moves_the_channel() {
        let (mut table, one, two) = confirmed();
        assert_eq!(table.reassign(|_| Some(&two)), [("a".to_owned(), 7)]);
        assert_eq!(table.take_commands(&one, 1).unsubscribe, ["a"]);
        assert_eq!(table.unsubscribed(&one, 1, "a"), (false, None), "on command");
        assert_eq!(table.take_commands(&two, 4).subscribe, ["a"]);
    }

    #[test]
    fn unsubscribed_and_subscribed_again_is_confirmed_again() {
        let (mut table, one, _) = confirmed();
        table.unsubscribe("a");
        table.subscribe("a".to_owned(), 8, Some(one.clone()));
        assert!(!table.is_confirmed(&one, 1, "a"), "what still arrives belongs to the old subscription");
        let Commands { unsubscribe, subscribe } = table.take_commands(&one, 1);
        assert_eq!((unsubscribe, subscribe), (vec!["a".to_owned()], vec!["a".to_owned()]));
        assert_eq!(table.unsubscribed(&one, 1, "a"), (false, None));
        assert_eq!(table.confirmed(&one, 1, "a"), Some(8));
        assert!(table.is_confirmed(&one, 1, "a"));
    }

    #[test]
    fn a_channel_that_a_node_does_not_own_is_reassigned() {
        let (mut table, one, _) = confirmed();
        table.subscribe("b".to_owned(), 9, Some(one.clone()));
        let requested = table.take_commands(&one, 1).subscribe;
        assert_eq!(table.unconfirmed(&one), HashSet::from([("b".to_owned(), 9)]));
        table.not_owned(&one, 1, &requested);
        assert!(table.unconfirmed(&one).is_empty() && !table.is_complete());
        table.connected(&one);
        assert_eq!(table.reassign(|_| Some(&one)), []);
        assert_eq!(table.take_commands(&one, 1).subscribe, ["b"]);
    }
}
