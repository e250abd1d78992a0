//! Which connections may stay open.

use tokio_util::sync::CancellationToken;

/// A connection that may stay open: a service with a key asks over it. An extension of its requests.
#[derive(Clone)]
pub struct KeptConnection(CancellationToken);

impl KeptConnection {
    /// One that is not kept yet.
    pub fn new() -> Self {
        Self(CancellationToken::new())
    }

    pub(super) fn keep(&self) {
        self.0.cancel();
    }

    /// Comes when it is kept.
    pub async fn kept(&self) {
        self.0.cancelled().await;
    }
}

impl Default for KeptConnection {
    fn default() -> Self {
        Self::new()
    }
}
