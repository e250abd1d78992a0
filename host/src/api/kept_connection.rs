//! Which connections may stay open.

use tokio_util::sync::CancellationToken;

/// A connection that may stay open: a service with a key asks over it. An extension of its requests.
#[derive(Clone, Default)]
pub struct KeptConnection(CancellationToken);

impl KeptConnection {
    pub(super) fn keep(&self) {
        self.0.cancel();
    }

    /// Comes when it is kept.
    pub async fn kept(&self) {
        self.0.cancelled().await;
    }
}
