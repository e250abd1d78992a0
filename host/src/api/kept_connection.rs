//! Which connections may stay open.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::bounds::connections::ConnectionBounds;
use crate::bounds::kept::Keeping;

/// A connection over which services may ask. With a good key it may stay open, within the bounds of the gateway, of its
/// address and of the key. An extension of its requests.
#[derive(Clone)]
pub struct KeptConnection(Arc<Connection>);

struct Connection {
    peer: IpAddr,
    bounds: Arc<ConnectionBounds>,
    kept: CancellationToken,
    full: CancellationToken,
    keeping: Mutex<Option<Keeping>>,
}

impl KeptConnection {
    /// A connection that is not kept yet.
    pub fn new(peer: IpAddr, bounds: Arc<ConnectionBounds>) -> Self {
        let (kept, full, keeping) = (CancellationToken::new(), CancellationToken::new(), Mutex::default());
        Self(Arc::new(Connection { peer, bounds, kept, full, keeping }))
    }

    /// Whoever has this key asks over it.
    pub(super) fn keep(&self, key: Uuid) {
        let Connection { peer, bounds, kept, full, keeping } = &*self.0;
        if kept.is_cancelled() || full.is_cancelled() {
            return;
        }
        match bounds.keep(*peer, key) {
            Ok(held) => {
                *keeping.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
                kept.cancel();
            }
            Err(_) => full.cancel(),
        }
    }

    /// Comes when it is kept.
    pub async fn kept(&self) {
        self.0.kept.cancelled().await;
    }

    /// Comes when it would be kept, but met a bound: its request is the last one.
    pub async fn full(&self) {
        self.0.full.cancelled().await;
    }
}
