//! Tells the workers that something was committed: a hint behind which their poll stands.

use std::sync::Arc;

use arcyou_platform::bus::{Bus, Publication};
use arcyou_platform::contract::WAKE_CHANNEL;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Cheap to clone, never waits; hints that come while one is being published become one.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// Something was committed.
    pub fn hint(&self) {
        self.0.notify_one();
    }

    /// Publishes the hints until `shutdown`. A hint that cannot be published is dropped: the workers poll.
    pub async fn run(self, bus: Arc<dyn Bus>, shutdown: CancellationToken) {
        let hint = [Publication { channel: WAKE_CHANNEL.to_owned(), payload: Bytes::from_static(b"1") }];
        // The first one comes at once. It shows whether this Redis lets the gateway publish.
        self.hint();
        while shutdown.run_until_cancelled(self.0.notified()).await.is_some() {
            let _ = bus.publish(&hint).await;
        }
    }
}
