//! Whether the schema is complete: before that no statement makes sense.

use std::future::pending;

use tokio::sync::watch;

/// Opens once, when the schema is complete. Clones are the same gate.
#[derive(Debug, Clone)]
pub struct SchemaGate(watch::Sender<bool>);

impl SchemaGate {
    /// One that is still closed.
    pub fn closed() -> Self {
        Self(watch::Sender::new(false))
    }

    /// One that is open already.
    pub fn open() -> Self {
        Self(watch::Sender::new(true))
    }

    /// The schema is complete.
    pub fn complete(&self) {
        self.0.send_replace(true);
    }

    /// Whether it is.
    pub fn is_open(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is. Cancel-safe.
    pub async fn opened(&self) {
        if self.is_open() {
            return;
        }
        // The sender is here, so it cannot be gone.
        if self.0.subscribe().wait_for(|open| *open).await.is_err() {
            pending().await
        }
    }
}
