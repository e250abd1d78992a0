//! The key by which a gateway tells genuine events from forged ones.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use arcyou_platform::contract::EventKey;
use tokio::sync::Notify;

use super::history::History;

/// Between two looks at the store: forged events must not cost it more than this.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Who marks events with an old key hears nothing that would make it doubt that.
const READ_AGAIN: Duration = Duration::from_secs(5);

/// What is known of the key.
#[derive(Debug, Default)]
pub(super) struct KnownKey {
    key: RwLock<Option<EventKey>>,
    doubted: Notify,
}

impl KnownKey {
    /// Whether an event is genuine. Until the key is known none is; rooms are compared with the store when it is.
    pub(super) fn accepts(&self, published: &[u8]) -> bool {
        let key = self.key.read().unwrap_or_else(PoisonError::into_inner);
        let genuine = key.as_ref().is_some_and(|key| key.is_genuine(published));
        if !genuine {
            self.doubted.notify_one();
        }
        genuine
    }

    /// What is made with the key; none while it is unknown.
    pub(super) fn with<T>(&self, make: impl FnOnce(&EventKey) -> T) -> Option<T> {
        self.key.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(make)
    }

    /// Reads the key, and reads it again now and then, and soon when an event does not fit it: the database may have
    /// been exchanged. `read` is called each time that it was doubted, or is another one. Never ends.
    pub(super) async fn keep(&self, history: &dyn History, read: impl Fn()) {
        let (mut installation, mut is_doubted) = (String::new(), false);
        loop {
            match history.event_key().await {
                Ok(key) => {
                    let before = std::mem::replace(&mut installation, key.installation());
                    *self.key.write().unwrap_or_else(PoisonError::into_inner) = Some(key);
                    if is_doubted || before != installation {
                        read();
                    }
                    tokio::time::sleep(LOOK_EVERY).await;
                    is_doubted = tokio::time::timeout(READ_AGAIN, self.doubted.notified()).await.is_ok();
                }
                Err(error) => {
                    tracing::debug!(%error, "the key of events could not be read");
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        }
    }
}
