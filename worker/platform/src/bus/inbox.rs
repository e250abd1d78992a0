//! Between a subscriber's owner and the receiver that fills it: the channels the owner subscribes to, and a bounded
//! queue of signals.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::interface::Signal;

/// What a queued signal costs in bytes beside its channel and payload: the enum, its allocations, its place in the
/// queue.
const SIGNAL_OVERHEAD: usize = 96;

/// The state of one subscriber, shared by its owner and its receiver.
#[derive(Debug)]
pub(super) struct Inbox {
    state: Mutex<InboxState>,
    /// The most bytes that may be queued; a single larger message still passes.
    capacity: usize,
    /// A signal was queued.
    arrived: Notify,
    /// The queue became empty.
    emptied: Notify,
    /// The owner subscribed or unsubscribed: see [`Inbox::changes`].
    pub(super) changed: Notify,
}

#[derive(Debug, Default)]
struct InboxState {
    queue: VecDeque<QueuedSignal>,
    /// The cost of the queue, in bytes.
    bytes: usize,
    /// Whether signals are accepted. Closed from a loss until the receiver opens it again.
    open: bool,
    /// Each subscribed channel with the number of its subscription, so that the confirmation of an earlier subscription
    /// is not taken for that of a new one.
    subscriptions: HashMap<String, u64>,
    latest_subscription: u64,
    /// Channels that were subscribed or unsubscribed since the last call of [`Inbox::changes`].
    changes: HashSet<String>,
}

#[derive(Debug)]
enum QueuedSignal {
    Message { channel: String, payload: Bytes },
    Subscribed { channel: String, subscription: u64 },
    Interrupted { channel: String, subscription: u64 },
    Lost,
}

/// What the receiver has to do about one channel.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    Subscribe { channel: String, subscription: u64 },
    Unsubscribe { channel: String },
}

/// The queue was full or closed: the signal was not queued.
#[derive(Debug)]
pub(super) struct Overflow;

impl Inbox {
    pub(super) fn new(capacity: usize) -> Self {
        let (arrived, emptied, changed) = (Notify::new(), Notify::new(), Notify::new());
        Self { state: Mutex::default(), capacity, arrived, emptied, changed }
    }

    fn state(&self) -> MutexGuard<'_, InboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // The owner's side.

    /// The number of the new subscription; None if the channel is subscribed already.
    pub(super) fn subscribe(&self, channel: String) -> Option<u64> {
        let mut state = self.state();
        if state.subscriptions.contains_key(&channel) {
            return None;
        }
        state.latest_subscription += 1;
        let subscription = state.latest_subscription;
        state.changes.insert(channel.clone());
        state.subscriptions.insert(channel, subscription);
        self.changed.notify_one();
        Some(subscription)
    }

    /// Whether the channel was subscribed.
    pub(super) fn unsubscribe(&self, channel: &str) -> bool {
        let mut state = self.state();
        let was_subscribed = state.subscriptions.remove(channel).is_some();
        if was_subscribed {
            state.changes.insert(channel.to_owned());
            self.changed.notify_one();
        }
        was_subscribed
    }

    /// The next signal about a subscribed channel. Cancel-safe: a signal leaves the queue only when it is returned.
    pub(super) async fn next(&self) -> Signal {
        loop {
            if let Some(signal) = self.take() {
                return signal;
            }
            self.arrived.notified().await;
        }
    }

    fn take(&self) -> Option<Signal> {
        let mut state = self.state();
        while let Some(signal) = state.queue.pop_front() {
            state.bytes -= signal.cost();
            if state.queue.is_empty() {
                self.emptied.notify_one();
            }
            match signal {
                QueuedSignal::Lost => return Some(Signal::Lost),
                QueuedSignal::Message { channel, payload } if state.subscriptions.contains_key(&channel) => {
                    return Some(Signal::Message { channel, payload });
                }
                QueuedSignal::Subscribed { channel, subscription }
                    if state.subscriptions.get(&channel) == Some(&subscription) =>
                {
                    return Some(Signal::Subscribed { channel });
                }
                QueuedSignal::Interrupted { channel, subscription }
                    if state.subscriptions.get(&channel) == Some(&subscription) =>
                {
                    return Some(Signal::Interrupted { channel });
                }
                QueuedSignal::Message { .. } | QueuedSignal::Subscribed { .. } | QueuedSignal::Interrupted { .. } => {}
            }
        }
        None
    }

    // The receiver's side.

    /// What the owner changed since the last call.
    pub(super) fn changes(&self) -> Vec<Change> {
        let mut state = self.state();
        let changes = std::mem::take(&mut state.changes);
        let change = |channel: String| match state.subscriptions.get(&channel) {
            Some(&subscription) => Change::Subscribe { channel, subscription },
            None => Change::Unsubscribe { channel },
        };
        changes.into_iter().map(change).collect()
    }

    /// Accepts signals from now on. Returns every subscription, for a fresh connection.
    pub(super) fn open(&self) -> Vec<(String, u64)> {
        let mut state = self.state();
        state.open = true;
        state.changes.clear();
        state.subscriptions.iter().map(|(channel, subscription)| (channel.clone(), *subscription)).collect()
    }

    /// Opens the inbox and confirms every subscription, if it is closed and the owner has taken the report of the loss.
    /// For a bus without connections.
    pub(super) fn reopen_subscribed(&self) {
        let mut state = self.state();
        if state.open || !state.queue.is_empty() {
            return;
        }
        state.open = true;
        let subscriptions: Vec<_> =
            state.subscriptions.iter().map(|(channel, subscription)| (channel.clone(), *subscription)).collect();
        for (channel, subscription) in subscriptions {
            // May exceed the capacity, by one signal per subscribed channel at most.
            state.push(QueuedSignal::Subscribed { channel, subscription });
        }
        self.arrived.notify_one();
    }

    /// Messages are missed from now on: queues [`Signal::Lost`] and closes the inbox. No-op if it is closed already.
    pub(super) fn close_with_loss(&self) {
        let mut state = self.state();
        if state.open {
            state.open = false;
            state.push(QueuedSignal::Lost);
            self.arrived.notify_one();
        }
    }

    pub(super) fn message(&self, channel: String, payload: Bytes) -> Result<(), Overflow> {
        self.deliver(QueuedSignal::Message { channel, payload })
    }

    pub(super) fn subscribed(&self, channel: String, subscription: u64) -> Result<(), Overflow> {
        self.deliver(QueuedSignal::Subscribed { channel, subscription })
    }

    pub(super) fn interrupted(&self, channel: String, subscription: u64) -> Result<(), Overflow> {
        self.deliver(QueuedSignal::Interrupted { channel, subscription })
    }

    fn deliver(&self, signal: QueuedSignal) -> Result<(), Overflow> {
        let mut state = self.state();
        if !state.open {
            return Err(Overflow);
        }
        let full = !state.queue.is_empty() && state.bytes + signal.cost() > self.capacity;
        if full {
            state.open = false;
        }
        state.push(if full { QueuedSignal::Lost } else { signal });
        self.arrived.notify_one();
        if full { Err(Overflow) } else { Ok(()) }
    }

    /// Waits until the owner has taken everything. For one waiter at a time.
    pub(super) async fn until_empty(&self) {
        loop {
            if self.state().queue.is_empty() {
                return;
            }
            self.emptied.notified().await;
        }
    }
}

impl InboxState {
    fn push(&mut self, signal: QueuedSignal) {
        self.bytes += signal.cost();
        self.queue.push_back(signal);
    }
}

impl QueuedSignal {
    /// In bytes.
    fn cost(&self) -> usize {
        SIGNAL_OVERHEAD
            + match self {
                Self::Message { channel, payload } => channel.len() + payload.len(),
                Self::Subscribed { channel, .. } | Self::Interrupted { channel, .. } => channel.len(),
                Self::Lost => 0,
            }
    }
}
