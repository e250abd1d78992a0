//! A bus inside one process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::inbox::Inbox;
use super::{Bus, Publication, Refused, Signal, Subscriber, Unavailable, Unpublished};

/// How much a subscriber may leave unread.
const CAPACITY: usize = 16 * 1024 * 1024;

/// Carries messages between tasks of one process. Clones are the same bus. Never away; a subscriber that leaves too
/// much unread hears [`Signal::Lost`], then [`Signal::Subscribed`] for each channel.
#[derive(Debug, Clone)]
pub struct LocalBus {
    channels: Arc<Channels>,
    capacity: usize,
}

/// The inboxes of each channel. Whoever holds this lock may take an inbox's, never the other way around.
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
        Self::with_capacity(CAPACITY)
    }

    /// A bus whose subscribers may leave so many bytes unread. A message larger than that is refused.
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
    async fn publish(&self, batch: &[Publication]) -> Result<Vec<Result<(), Unpublished>>, Unavailable> {
        let channels = self.channels.lock();
        let publish = |Publication { channel, payload }: &Publication| {
            if payload.len() > self.capacity {
                return Err(Refused(format!("larger than {} bytes", self.capacity)).into());
            }
            for inbox in channels.get(channel).into_iter().flatten() {
                // Its owner is told by the inbox.
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
        let Some(wish) = self.inbox.want(channel.clone()) else { return };
        // While the inbox is closed, the confirmation comes when it opens.
        let _ = self.inbox.subscribed(channel.clone(), wish);
        channels.entry(channel).or_default().push(Arc::clone(&self.inbox));
    }

    fn unsubscribe(&mut self, channel: &str) {
        let mut channels = self.channels.lock();
        if !self.inbox.give_up(channel) {
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
