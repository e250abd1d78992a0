//! Between whoever receives messages and a subscriber's owner: the channels that are wanted, and a bounded queue.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::Signal;

/// What a queued signal costs beside its text.
const OVERHEAD: usize = 96;

/// One subscriber's state, shared by its owner and its receiver.
#[derive(Debug)]
pub(super) struct Inbox {
    state: Mutex<State>,
    /// Room for so many bytes; a single larger message still passes.
    capacity: usize,
    arrived: Notify,
    emptied: Notify,
    pub(super) changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Letter>,
    bytes: usize,
    /// Whether messages are taken. Closed from a loss until the receiver opens it again.
    open: bool,
    /// Each wanted channel with the number of the wish, so that an old confirmation is not taken for a new one.
    wanted: HashMap<String, u64>,
    wishes: u64,
    /// Channels that were wanted or given up since the receiver looked.
    changes: HashSet<String>,
}

#[derive(Debug)]
enum Letter {
    Message { channel: String, payload: Bytes },
    Subscribed { channel: String, wish: u64 },
    Interrupted { channel: String, wish: u64 },
    Lost,
}

/// What the receiver should do about one channel.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    Want { channel: String, wish: u64 },
    GiveUp { channel: String },
}

/// The queue is full: messages were lost.
#[derive(Debug)]
pub(super) struct Overrun;

impl Inbox {
    pub(super) fn new(capacity: usize) -> Self {
        let (arrived, emptied, changed) = (Notify::new(), Notify::new(), Notify::new());
        Self { state: Mutex::default(), capacity, arrived, emptied, changed }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // The owner's side.

    /// The number of the wish, if the channel was not wanted before.
    pub(super) fn want(&self, channel: String) -> Option<u64> {
        let mut state = self.state();
        if state.wanted.contains_key(&channel) {
            return None;
        }
        state.wishes += 1;
        let wish = state.wishes;
        state.changes.insert(channel.clone());
        state.wanted.insert(channel, wish);
        self.changed.notify_one();
        Some(wish)
    }

    /// Whether the channel was wanted before.
    pub(super) fn give_up(&self, channel: &str) -> bool {
        let mut state = self.state();
        let was_wanted = state.wanted.remove(channel).is_some();
        if was_wanted {
            state.changes.insert(channel.to_owned());
            self.changed.notify_one();
        }
        was_wanted
    }

    /// The next signal about a wanted channel. Cancel-safe: a signal leaves the queue only when it is returned.
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
        while let Some(letter) = state.queue.pop_front() {
            state.bytes -= letter.cost();
            if state.queue.is_empty() {
                self.emptied.notify_one();
            }
            match letter {
                Letter::Lost => return Some(Signal::Lost),
                Letter::Message { channel, payload } if state.wanted.contains_key(&channel) => {
                    return Some(Signal::Message { channel, payload });
                }
                Letter::Subscribed { channel, wish } if state.wanted.get(&channel) == Some(&wish) => {
                    return Some(Signal::Subscribed { channel });
                }
                Letter::Interrupted { channel, wish } if state.wanted.get(&channel) == Some(&wish) => {
                    return Some(Signal::Interrupted { channel });
                }
                Letter::Message { .. } | Letter::Subscribed { .. } | Letter::Interrupted { .. } => {}
            }
        }
        None
    }

    // The receiver's side.

    /// What the owner changed since the last call.
    pub(super) fn changes(&self) -> Vec<Change> {
        let mut state = self.state();
        let changes = std::mem::take(&mut state.changes);
        let change = |channel: String| match state.wanted.get(&channel) {
            Some(&wish) => Change::Want { channel, wish },
            None => Change::GiveUp { channel },
        };
        changes.into_iter().map(change).collect()
    }

    /// Takes messages from now on; returns what is wanted, as on a fresh connection.
    pub(super) fn open(&self) -> Vec<(String, u64)> {
        let mut state = self.state();
        state.open = true;
        state.changes.clear();
        state.wanted.iter().map(|(channel, wish)| (channel.clone(), *wish)).collect()
    }

    /// The same, with everything confirmed at once, if it was closed and the owner has heard of the loss.
    pub(super) fn reopen_subscribed(&self) {
        let mut state = self.state();
        if state.open || !state.queue.is_empty() {
            return;
        }
        state.open = true;
        let wanted: Vec<_> = state.wanted.iter().map(|(channel, wish)| (channel.clone(), *wish)).collect();
        for (channel, wish) in wanted {
            // Beyond the capacity, if need be: as many as there are channels, and no more.
            state.push(Letter::Subscribed { channel, wish });
        }
        self.arrived.notify_one();
    }

    /// Messages are missed from now on. Tells the owner, unless it was told and nothing came since.
    pub(super) fn lose(&self) {
        let mut state = self.state();
        if state.open {
            state.open = false;
            state.push(Letter::Lost);
            self.arrived.notify_one();
        }
    }

    pub(super) fn message(&self, channel: String, payload: Bytes) -> Result<(), Overrun> {
        self.deliver(Letter::Message { channel, payload })
    }

    pub(super) fn subscribed(&self, channel: String, wish: u64) -> Result<(), Overrun> {
        self.deliver(Letter::Subscribed { channel, wish })
    }

    pub(super) fn interrupted(&self, channel: String, wish: u64) -> Result<(), Overrun> {
        self.deliver(Letter::Interrupted { channel, wish })
    }

    fn deliver(&self, letter: Letter) -> Result<(), Overrun> {
        let mut state = self.state();
        if !state.open {
            return Err(Overrun);
        }
        let full = !state.queue.is_empty() && state.bytes + letter.cost() > self.capacity;
        if full {
            state.open = false;
        }
        state.push(if full { Letter::Lost } else { letter });
        self.arrived.notify_one();
        if full { Err(Overrun) } else { Ok(()) }
    }

    /// Waits until the owner has taken everything. For one waiter at a time.
    pub(super) async fn emptied(&self) {
        loop {
            if self.state().queue.is_empty() {
                return;
            }
            self.emptied.notified().await;
        }
    }
}

impl State {
    fn push(&mut self, letter: Letter) {
        self.bytes += letter.cost();
        self.queue.push_back(letter);
    }
}

impl Letter {
    fn cost(&self) -> usize {
        OVERHEAD
            + match self {
                Self::Message { channel, payload } => channel.len() + payload.len(),
                Self::Subscribed { channel, .. } | Self::Interrupted { channel, .. } => channel.len(),
                Self::Lost => 0,
            }
    }
}
