//! What one subscriber's connections to the nodes share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::channel_table::{ChannelTable, Interrupted};
use super::slot_map::{Node, SlotMap};
use crate::bus::inbox::{Change, Inbox, Overflow};

/// What the connections to the nodes share. The lock of the table is held while the resulting signals are queued in the
/// inbox, so that the owner receives them in order.
pub(super) struct SubscriberState {
    inbox: Arc<Inbox>,
    table: Mutex<ChannelTable>,
    /// The node to ask first for the new slot map.
    refresh_hint: Mutex<Option<Node>>,
    refresh_needed: Notify,
    /// The inbox is full: the owner does not read.
    overflow: Notify,
}

impl SubscriberState {
    pub(super) fn new(inbox: Arc<Inbox>) -> Self {
        Self {
            inbox,
            table: Mutex::default(),
            refresh_hint: Mutex::default(),
            refresh_needed: Notify::new(),
            overflow: Notify::new(),
        }
    }

    pub(super) fn table(&self) -> MutexGuard<'_, ChannelTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests a new slot map, because a channel is not where the current one says. `hint` probably has it.
    pub(super) fn request_refresh(&self, hint: Option<Node>) {
        *self.refresh_hint.lock().unwrap_or_else(PoisonError::into_inner) = hint;
        self.refresh_needed.notify_one();
    }

    /// Waits for a request.
    pub(super) async fn refresh_requested(&self) {
        self.refresh_needed.notified().await;
    }

    pub(super) fn take_refresh_hint(&self) -> Option<Node> {
        self.refresh_hint.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits until the inbox is full.
    pub(super) async fn overflowed(&self) {
        self.overflow.notified().await;
    }

    /// Applies the owner's changes, and assigns every channel to the node that the map names.
    pub(super) fn apply(&self, changes: Vec<Change>, map: &SlotMap) {
        let mut table = self.table();
        for change in changes {
            match change {
                Change::Subscribe { channel, subscription } => {
                    let node = map.node(&channel).cloned();
                    table.subscribe(channel, subscription, node);
                }
                Change::Unsubscribe { channel } => table.unsubscribe(&channel),
            }
        }
        let moved = table.reassign(|channel| map.node(channel));
        self.interrupt(moved);
        if !table.is_complete() {
            self.refresh_needed.notify_one();
        }
    }

    pub(super) fn message(&self, node: &Node, connection: u64, channel: String, payload: Bytes) {
        if self.table().is_confirmed(node, connection, &channel) {
            self.check(self.inbox.message(channel, payload));
        }
    }

    pub(super) fn confirmed(&self, node: &Node, connection: u64, channel: String) {
        let mut table = self.table();
        if let Some(subscription) = table.confirmed(node, connection, &channel) {
            self.check(self.inbox.subscribed(channel, subscription));
        }
    }

    pub(super) fn unsubscribed(&self, node: &Node, connection: u64, channel: &str) {
        let mut table = self.table();
        let (moved, interrupted) = table.unsubscribed(node, connection, channel);
        self.interrupt(interrupted);
        if moved {
            // The node that gave the slot away knows where it is.
            self.request_refresh(Some(node.clone()));
        }
    }

    pub(super) fn disconnected(&self, node: &Node) {
        let mut table = self.table();
        let interrupted = table.disconnected(node);
        self.interrupt(interrupted);
        self.refresh_needed.notify_one();
    }

    fn interrupt(&self, channels: impl IntoIterator<Item = Interrupted>) {
        for (channel, subscription) in channels {
            self.check(self.inbox.interrupted(channel, subscription));
        }
    }

    fn check(&self, delivered: Result<(), Overflow>) {
        if let Err(Overflow) = delivered {
            self.overflow.notify_one();
        }
    }
}
