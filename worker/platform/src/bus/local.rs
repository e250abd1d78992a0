//! A bus inside one process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::inbox::Inbox;
use super::interface::{Bus, BusUnavailable, MessageRejected, Publication, PublishError, Signal, Subscriber};

/// How many bytes a subscriber may leave unread, as over Redis.
const MAX_UNREAD_BYTES: usize = 16 * 1024 * 1024;

/// Carries messages between tasks of one process. Clones are the same bus. It is always available. A subscriber that
/// leaves too much unread receives [`Signal::Lost`], then [`Signal::Subscribed`] for each channel.
#[derive(Debug, Clone)]
pub struct LocalBus {
    channels: Arc<Channels>,
    capacity: usize,
}

/// The inboxes of each channel. Lock order: this lock before that of an inbox.
#[derive(Debug, Default)]
struct Channels(Mutex<HashMap<String, Vec<Arc<Inbox>>>>);

impl Channels {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Arc<Inbox>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LocalBus {
    /// A bus whose subscribers may leave 16 MiB unread.
    pub fn new() -> Self {
        Self::with_capacity(MAX_UNREAD_BYTES)
    }

    /// A bus whose subscribers may leave this many bytes unread. A larger message is rejected.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { channels: Arc::default(), capacity: bytes }
    }
}

impl Default for LocalBus {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Bus for LocalBus {
    async fn publish(&self, batch: &[Publication]) -> Result<Vec<Result<(), PublishError>>, BusUnavailable> {
        let channels = self.channels.lock();
        let publish = |Publication { channel, payload }: &Publication| {
            if payload.len() > self.capacity {
                return Err(MessageRejected(format!("larger than {} bytes", self.capacity)).into());
            }
            for inbox in channels.get(channel).into_iter().flatten() {
                // An overflow is reported to the owner by the inbox.
                let _ = inbox.message(channel.clone(), payload.clone());
            }
            Ok(())
        };
        Ok(batch.iter().map(publish).collect())
    }

    fn subscriber(&self) -> Box<dyn Subscriber> {
        let inbox = Arc::new(Inbox::new(self.capacity));
        inbox.open();
        Box::new(LocalSubscriber { inbox, channels: Arc::clone(&self.channels) })
    }
}

struct LocalSubscriber {
    inbox: Arc<Inbox>,
    channels: Arc<Channels>,
}

#[async_trait]
impl Subscriber for LocalSubscriber {
    fn subscribe(&mut self, channel: String) {
        let mut channels = self.channels.lock();
        let Some(subscription) = self.inbox.subscribe(channel.clone()) else { return };
        // If the inbox is closed, the confirmation follows when it opens.
        let _ = self.inbox.subscribed(channel.clone(), subscription);
        channels.entry(channel).or_default().push(Arc::clone(&self.inbox));
    }

    fn unsubscribe(&mut self, channel: &str) {
        let mut channels = self.channels.lock();
        if !self.inbox.unsubscribe(channel) {
            return;
        }
        if let Some(inboxes) = channels.get_mut(channel) {
            inboxes.retain(|inbox| !Arc::ptr_eq(inbox, &self.inbox));
            if inboxes.is_empty() {
                channels.remove(channel);
            }
        }
    }

    async fn next(&mut self) -> Signal {
        self.inbox.reopen_subscribed();
        self.inbox.next().await
    }
}

impl Drop for LocalSubscriber {
    fn drop(&mut self) {
        self.channels.lock().retain(|_, inboxes| {
            inboxes.retain(|inbox| !Arc::ptr_eq(inbox, &self.inbox));
            !inboxes.is_empty()
        });
    }
}
